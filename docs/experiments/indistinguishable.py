"""Components with messages between nodes: the error that remains because pairs of nodes look the same.

    python docs/experiments/indistinguishable.py --problems 1000 --output docs/results/indistinguishable.json

Messages between nodes that start alike refine a colouring of the nodes (Weisfeiler and Leman; Xu et al., 2019, Morris
et al., 2019). A method that answers pairs from the values of their edges and the colours of their nodes gives all pairs
of a graph that agree in these the same answer. The best such answer is their mean, and the error is the variance about
it. A node with itself, for example, looks like a pair of two such nodes without an edge. Two colourings:

- ``rounds``: three rounds of messages along the edges, as in the forward pass of the paper's energy;
- ``refined``: any number of rounds, in both directions, and pairs also know the value of the edge back. No method whose
  messages go between nodes does better, if its first answers do not tell pairs apart.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from measured import measured
from torch import Tensor

from energysolve.seeding import stream
from energysolve.tasks import Components

SIZES = (10, 15)
_ROUNDS = 3


def colours(edges: Float[Tensor, "nodes nodes"], rounds: int, both_ways: bool) -> Tensor:
    """The colours of the nodes after some rounds of refinement; ``edges[i, j]`` is the value of the edge to ``j``."""
    found = torch.zeros(len(edges), dtype=torch.int64)
    for _ in range(rounds):
        heard = [found.expand_as(edges), edges.mT, *([edges] if both_ways else [])]
        sets = [sorted(zip(*(each[i].tolist() for each in heard), strict=True)) for i in range(len(edges))]
        signs = [(int(colour), tuple(each)) for colour, each in zip(found, sets, strict=True)]
        order = {sign: number for number, sign in enumerate(sorted(set(signs)))}
        found = torch.tensor([order[sign] for sign in signs])
    return found


def variance_within(kinds: Tensor, target: Float[Tensor, "nodes nodes"]) -> float:
    """The least error of answers that are the same for pairs of one kind; ``kinds`` is ``(pairs, features)``."""
    group = torch.unique(kinds, dim=0, return_inverse=True)[1]
    count = torch.bincount(group)
    mean = torch.zeros(len(count), dtype=torch.float64).index_add(0, group, target.flatten().double()) / count
    return (target.flatten() - mean[group]).square().mean().item()


def limits(edges: Float[Tensor, "nodes nodes"], target: Float[Tensor, "nodes nodes"]) -> tuple[float, float]:
    """The least errors on a graph for both colourings."""
    errors = []
    for rounds, both_ways in ((_ROUNDS, False), (len(edges), True)):
        colour = colours(edges, rounds, both_ways)
        known = [edges, colour.unsqueeze(1).expand_as(edges), colour.expand_as(edges)]
        kinds = torch.stack([each.flatten().double() for each in known + [edges.mT] * both_ways], 1)
        errors.append(variance_within(kinds, target))
    return errors[0], errors[1]


def measure(problems: int, seed: int) -> dict[str, Any]:
    """Mean limits by number of nodes, JSON-able."""
    found = {}
    for size in SIZES:
        x, target = Components(size).sample(problems, "same", stream(f"indistinguishable {size}", seed))
        shape = (problems, size, size)
        pairs = zip(x.edge_attr.reshape(shape), target.reshape(shape), strict=True)
        rounds, refined = torch.tensor([limits(*pair) for pair in pairs]).mean(0).tolist()
        found[str(size)] = {"rounds": rounds, "refined": refined}
    return {"problems": problems, "seed": seed, "sizes": found}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    measured("indistinguishable", measure, __doc__, arguments)


if __name__ == "__main__":
    main()
