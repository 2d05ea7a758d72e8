"""What messages between nodes cannot tell apart."""

import json

import indistinguishable
import pytest
import torch

from energysolve.energies import GINEEnergy
from energysolve.graph import complete_graphs


def test_nodes_without_edges_cannot_be_told_from_pairs_of_them():
    """Of ``m^2`` pairs ``m`` are nodes with themselves: the variance of an indicator of probability ``1 / m``."""
    expected = (1 / 4) * (3 / 4)
    assert indistinguishable.limits(torch.zeros(4, 4), torch.eye(4)) == pytest.approx((expected, expected))


def test_a_single_edge():
    """Nodes 0 and 1 are told from the others by edges in both directions; without those out of them, only node 1."""
    edges, target = torch.zeros(4, 4), torch.eye(4)
    edges[0, 1] = 1
    target[0, 1] = target[1, 0] = 1
    # Nodes 2 and 3 remain: one half of four pairs. Along edges, node 0 looks like them: one of three of nine pairs, and
    # the pairs from node 1 to those three, of which one is connected; the pair (0, 1) is told by its edge.
    expected = (9 * (1 / 3) * (2 / 3) + 3 * (1 / 3) * (2 / 3)) / 16, 4 * (1 / 2) * (1 / 2) / 16
    assert indistinguishable.limits(edges, target) == pytest.approx(expected)


def test_the_energy_of_the_right_answer_is_that_of_a_permutation():
    """So a minimum cannot be at the right answer alone."""
    torch.manual_seed(0)
    graph, right = complete_graphs(torch.zeros(1, 5, 5), torch.tensor([5])), torch.eye(5)
    energy = GINEEnergy(16)
    found = [energy(graph, each.reshape(25, 1)) for each in (right, right.roll(1, 0), right * 0)]
    torch.testing.assert_close(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


def test_the_command(tmp_path):
    indistinguishable.main(["--output", str(tmp_path / "i.json"), "--problems", "30"])
    result = json.loads((tmp_path / "i.json").read_text())
    for found in result["sizes"].values():
        assert 0 < found["refined"] < found["rounds"] < 0.25
