"""Conjugate gradients against a direct solver."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from energysolve import Dense, Segment
from energysolve.engine.linear import CG

DOUBLE = torch.float64


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**16))
def test_cg_solves_each_system_as_a_direct_solver_does(batch, n, seed):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(batch, n, n, generator=generator, dtype=DOUBLE)
    matrix = root @ root.mT + 0.1 * torch.eye(n, dtype=DOUBLE)
    right = torch.randn(batch, n, generator=generator, dtype=DOUBLE)
    right[0] = 0
    found = CG(max_steps=20 * n).solve(lambda v: ((matrix @ v[0].unsqueeze(-1)).squeeze(-1),), (right,), Dense(batch))
    expected = torch.linalg.solve(matrix, right)
    assert not found.failed.any()
    assert (found.value[0][0] == 0).all()
    torch.testing.assert_close(found.value[0], expected, rtol=1e-6, atol=1e-8)


def test_cg_reports_negative_curvature_and_running_out_of_steps():
    diagonal = torch.tensor([[1.0, 2.0], [1.0, -2.0], [1.0, 100.0], [0.0, 0.0], [torch.nan, 1.0]], dtype=DOUBLE)
    right = torch.ones(5, 2, dtype=DOUBLE)
    found = CG(max_steps=1).solve(lambda v: (diagonal * v[0],), (right,), Dense(5))
    assert found.indefinite.tolist() == [False, True, False, True, True]
    assert found.failed.tolist() == [True] * 5
    full = CG().solve(lambda v: (diagonal * v[0],), (right,), Dense(5))
    assert full.failed.tolist() == [False, True, False, True, True]
    torch.testing.assert_close(full.value[0][0], 1 / diagonal[0])
    assert (full.value[0][full.failed] == 0).all()


def test_cg_on_segments_with_several_leaves():
    index = torch.tensor([0, 1, 0, 2, 2, 1])
    a, b = torch.rand(6, 2, dtype=DOUBLE) + 0.5, torch.rand(6, dtype=DOUBLE) + 0.5
    right = (torch.randn(6, 2, dtype=DOUBLE), torch.randn(6, dtype=DOUBLE))
    found = CG().solve(lambda v: (a * v[0], b * v[1]), right, Segment(index, 3))
    assert not found.failed.any()
    torch.testing.assert_close(found.value[0], right[0] / a)
    torch.testing.assert_close(found.value[1], right[1] / b)


def calls(solver, diagonal):
    """The number of products that a solve takes with diagonal matrices."""
    made = []

    def operator(vector):
        made.append(vector)
        return (diagonal * vector[0],)

    assert not solver.solve(operator, (torch.ones_like(diagonal),), Dense(len(diagonal))).failed.any()
    return len(made)


def test_the_tolerance_is_relative_to_the_right_hand_side():
    """One step leaves about half the relative difference of two eigenvalues as the relative residual."""
    for difference, expected in ((1e-12, 1), (1e-10, 2)):  # by default 2e-12
        assert calls(CG(), torch.tensor([[1.0, 1.0 + difference]], dtype=DOUBLE)) == expected
    for difference, expected in ((1e-4, 1), (1e-2, 2)):
        assert calls(CG(rtol=1e-3), torch.tensor([[1.0, 1.0 + difference]], dtype=DOUBLE)) == expected
        assert calls(CG(rtol=1e-3), 1e6 * torch.tensor([[1.0, 1.0 + difference]], dtype=DOUBLE)) == expected
    for difference, expected in ((1e-6, 1), (1e-3, 2)):  # 6e-6
        assert calls(CG(), torch.tensor([[1.0, 1.0 + difference]])) == expected


def test_the_number_of_steps_is_that_of_the_largest_sample():
    def noise(*shape):
        return torch.rand(*shape, generator=generator, dtype=DOUBLE) + 0.5

    generator = torch.Generator().manual_seed(0)
    for right, layout, expected in (
        ((torch.ones(2, 3, dtype=DOUBLE),), Dense(2), 20),
        ((torch.ones(2, 4, dtype=DOUBLE), torch.ones(2, 3, dtype=DOUBLE)), Dense(2), 28),
        ((torch.ones(9, dtype=DOUBLE),), Segment(torch.tensor([0] * 8 + [1]), 2), 32),
    ):
        made = []

        def operator(vector, made=made):  # another matrix each time: it never converges
            made.append(vector)
            return tuple(leaf * noise(*leaf.shape) for leaf in vector)

        found = CG().solve(operator, right, layout)
        assert len(made) == expected
        assert found.failed.any()
        assert not found.indefinite.any()


def test_nothing_is_computed_for_a_right_hand_side_of_zero():
    found = CG().solve(lambda v: 1 / 0, (torch.zeros(2, 3),), Dense(2))
    assert not found.failed.any()
    assert (found.value[0] == 0).all()
