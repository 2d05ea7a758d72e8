"""The chunks of a file of problems, each of which is solved on its own, here or by a worker."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..seeding import stream
from ..solver import EnergySolver
from .base import ProblemFile

ARRAYS = ("y", "energy", "steps", "status")
"""What is kept of each answer."""

Measure = Callable[[Tensor, Tensor], Tensor]
"""``measure(x, y) -> (batch,)``: a number for each answer ``y`` to a problem ``x``."""


class Chunks:
    """Solves the chunks of a file: ``chunks(first)`` gives the answers to the problems from row ``first`` on.

    They depend on ``first`` and on nothing that was solved before, so chunks can be solved anywhere and in any order.
    The arguments are those of `energysolve.streaming.solve.solve_file`.
    """

    def __init__(
        self, solver: EnergySolver, problems: ProblemFile, size: int, seed: int, measures: Mapping[str, Measure]
    ):
        self.solver, self.problems, self.size = solver, problems, size
        self._seed, self._measures = seed, measures
        self._blocks: Iterator[np.ndarray] = iter(())
        self._next = -1  # the first row of the next block

    def __call__(self, first: int) -> dict[str, np.ndarray]:
        block = self._block(first)
        dtype, device = kind_of(self.solver)
        x = torch.from_numpy(block.astype(np.float64)).to(dtype).to(device)
        with torch.no_grad():
            solution = self.solver.minimize(x, generator=stream(f"solve file {first}", self._seed))
        if not isinstance(solution.y, Tensor) or len(solution.y) != len(block):
            raise ValueError("The answers to a file of problems must be one tensor with one row per problem.")
        found = {name: getattr(solution, name) for name in ARRAYS}
        found |= {name: measure(x, solution.y) for name, measure in self._measures.items()}
        return {name: as_numpy(each) for name, each in found.items()}

    def _block(self, first: int) -> np.ndarray:
        ahead = self.problems.sequential and first > self._next >= 0
        if first != self._next and not ahead:
            self._blocks, self._next = self.problems.blocks(first, self.size), first
        block = next(self._blocks)
        while self._next < first:  # a file that can only be read from its beginning
            block, self._next = next(self._blocks), self._next + self.size
        self._next = first + self.size
        return block

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_blocks": iter(()), "_next": -1}


class Engine(ABC):
    """What solves chunks.

    Attributes:
        device: where the answers are computed; None for the device of the solver.
    """

    device: str | None = None

    @abstractmethod
    def __call__(self, chunks: Chunks, firsts: Sequence[int]) -> Iterator[Mapping[str, np.ndarray]]:
        """Give ``chunks(first)`` for each of ``firsts``, in that order."""


class InProcess(Engine):
    """Solves one chunk after the other in this process."""

    def __call__(self, chunks: Chunks, firsts: Sequence[int]) -> Iterator[Mapping[str, np.ndarray]]:
        return map(chunks, firsts)


def kind_of(solver: EnergySolver) -> tuple[torch.dtype, torch.device]:
    """Dtype and device of the energy's parameters; the defaults for an energy without parameters."""
    floating = (parameter for parameter in solver.parameters() if parameter.is_floating_point())
    like = next(floating, torch.empty(0, device="cpu"))
    return like.dtype, like.device


def as_numpy(tensor: Tensor) -> np.ndarray:
    """The tensor as an array; NumPy has no bfloat16."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
