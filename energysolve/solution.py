"""The result of a solve, and what halting criteria see of it on the way."""

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .display import card, folded
from .trees import tree_leaves


class Status(IntEnum):
    """How the solve of one sample ended.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, Status
        >>> solver = EnergySolver(lambda x, y: (y - x).exp().sum(-1) - y.sum(-1))  # least where y = x
        >>> status = solver.minimize(torch.tensor([[0.0], [torch.nan]]), torch.ones(2, 1)).status
        >>> [Status(value).name for value in status.tolist()]
        ['CONVERGED', 'NONFINITE']
    """

    CONVERGED = 0
    """The halting criterion fired, possibly at the last iterate."""
    MAX_STEPS = 1
    """The limit of steps was reached before the criterion fired."""
    NONFINITE = 2
    """The energy or its gradient became NaN or infinite; the answer is the last iterate at which both were finite."""
    STALLED = 3
    """No step of the optimizer lowers the energy by more than its rounding: the answer is as low as the precision can
    tell, the energy has a kink there, or fixed steps are so short that they are lost to the rounding of the answer."""
    REJECTED = 4
    """The solver found no lower answer, but this one failed the energy's own test (see `Energy.accepts`): the problem
    is not of the kind that the energy solves, such as a matrix without an inverse, or needs more precision."""


class NonfiniteError(RuntimeError):
    """Raised by `Solution.raise_for_status` for samples whose energy or gradient became NaN or infinite.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.solution import NonfiniteError
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1))
        >>> solution = solver.minimize(torch.tensor([[1.0], [torch.nan]]), torch.zeros(2, 1))
        >>> try:
        ...     solution.raise_for_status()
        ... except NonfiniteError as error:
        ...     print(error)
        The energy or its gradient became NaN or infinite in 1 of 2 samples (indices [1]). ...
    """


class NotConvergedError(RuntimeError):
    """Raised by `Solution.raise_for_status` for samples whose answer was rejected or, with ``strict=True``, for those
    that stalled or reached the limit of steps.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.solution import NotConvergedError
        >>> solver = EnergySolver(lambda x, y: (y - x).exp().sum(-1), max_steps=3)  # an energy without a minimum
        >>> try:
        ...     solver.minimize(torch.zeros(1, 1), torch.zeros(1, 1)).raise_for_status(strict=True)
        ... except NotConvergedError as error:
        ...     print(error)
        1 of 1 samples (indices [0]) reached the limit of steps before the criterion fired. ...
    """


class Advice(NamedTuple):
    """What helps samples that failed, in sentences; each optimizer gives its own.

    Attributes:
        nonfinite: where a step led to energies or gradients that are not finite.
        unfinished: where the limit of steps was reached.
        stalled: where no step lowered the energy, besides what holds for every optimizer.
    """

    nonfinite: str = "Shorter steps usually help."
    unfinished: str = "Allow more max_steps or a looser tolerance."
    stalled: str = ""


_ADVICE = Advice()


@dataclass(frozen=True, eq=False)
class Solution:
    """The answers of a solve, sample by sample. ``print(solution)`` summarizes them.

    Attributes:
        y: the answers, with the structure and shapes of the initial ``y``.
        z: the scratchpad at the same iterate, or None (Appendix B of the paper).
        energy: ``(batch,)``, the energy at the returned ``y``; carries no gradient.
        steps: ``(batch,)`` int64, the number of updates that led to this ``y``.
        status: ``(batch,)`` int64, values of `Status`.
        record: the result of the recorder, or None.
        evaluations: ``(batch,)`` int64, the number of times that the energy of the sample was evaluated.
        gradient_norm: ``(batch,)``, at the returned ``y``, of the gradient that halting criteria see.
        layout: which rows of ``y`` belong to which sample; None if unknown, as for answers that no solve produced.
        advice: what `raise_for_status` suggests.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergySolver
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1), SGD(0.5))  # at the minimum after one step
        >>> solution = solver.minimize(torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1))
        >>> solution.y, solution.energy, solution.steps
        (tensor([[1.], [3.]]), tensor([0., 0.]), tensor([1, 1]))
        >>> solution.raise_for_status(strict=True)  # nothing failed
        >>> print(solution)
        Solution(2 CONVERGED; steps: mean 1.0, most 1; energy: mean 0, min 0, max 0)
    """

    y: Any
    z: Any
    energy: Float[Tensor, " batch"]
    steps: Int[Tensor, " batch"]
    status: Int[Tensor, " batch"]
    record: Any = None
    evaluations: Int[Tensor, " batch"] | None = None
    gradient_norm: Float[Tensor, " batch"] | None = None
    layout: Any = None
    advice: Advice = _ADVICE

    @classmethod
    def of_answers(
        cls,
        y: Any,
        z: Any = None,
        *,
        steps: int | Int[Tensor, " batch"] = 0,
        batch: int | None = None,
        layout: Any = None,
    ) -> "Solution":
        """A solution made of answers that no solve produced, for functions that expect one, such as `Task.error`.

        The energies are NaN and every status is ``MAX_STEPS``.

        Args:
            y: the answers.
            z: the scratchpads, if any.
            steps: the steps taken, one number for all samples or one per sample.
            batch: the number of samples; by default that of the layout, or the rows of ``y``.
            layout: which rows of ``y`` belong to which sample.

        Examples:
            >>> import torch
            >>> from energysolve import Solution
            >>> from energysolve.tasks import Inverse
            >>> task, target = Inverse(size=2), torch.eye(2).unsqueeze(0)
            >>> task.error(Solution.of_answers(torch.zeros_like(target)), target)  # of the answer zero
            tensor([0.5000])
        """
        leaf = tree_leaves(y)[0]
        batch = layout.batch if batch is None and layout is not None else batch
        energy = leaf.new_full((len(leaf) if batch is None else batch,), torch.nan)
        if not isinstance(steps, Tensor):
            steps = torch.full_like(energy, steps, dtype=torch.int64)
        status = torch.full_like(steps, int(Status.MAX_STEPS))
        nothing, unknown = torch.zeros_like(steps), torch.full_like(energy, torch.nan)
        return cls(y, z, energy, steps, status, None, nothing, unknown, layout)

    @property
    def converged(self) -> Bool[Tensor, " batch"]:
        """The samples whose halting criterion fired."""
        return self.status == Status.CONVERGED

    def raise_for_status(self, strict: bool = False) -> None:
        """Raise if a sample failed.

        Args:
            strict: also treat samples that reached the limit of steps or stalled as failures.

        Raises:
            NonfiniteError: if a sample ended as ``NONFINITE``; the message lists the indices.
            NotConvergedError: if a sample ended as ``REJECTED``, or with ``strict`` as ``MAX_STEPS`` or ``STALLED``.
        """
        if (self.status == Status.NONFINITE).any():
            raise NonfiniteError(self._why_nonfinite())
        if (self.status == Status.REJECTED).any():
            raise NotConvergedError(
                f"The answers to {self._named(Status.REJECTED)} failed the energy's own test. Their problems are not "
                "of the kind that the energy solves, or need more precision (solver.double() and problems in float64)."
            )
        if strict and (self.status == Status.MAX_STEPS).any():
            raise NotConvergedError(
                f"{self._named(Status.MAX_STEPS)} reached the limit of steps before the criterion fired. "
                + self.advice.unfinished
            )
        if strict and (self.status == Status.STALLED).any():
            raise NotConvergedError(self._why_stalled())

    def _named(self, status: Status, only: Tensor | None = None) -> str:
        chosen = self.status == status if only is None else (self.status == status) & only
        indices = chosen.nonzero().flatten()
        return f"{len(indices)} of {len(self.status)} samples ({_listed(indices)})"

    def _why_nonfinite(self) -> str:
        parts = [
            f"The energy or its gradient became NaN or infinite in {self._named(Status.NONFINITE)}. Their y is the "
            "last finite iterate."
        ]
        bad, trials = self.status == Status.NONFINITE, self.evaluations
        later = bad if trials is None else bad & (trials > 1)
        if trials is not None and (bad & (trials == 1)).any():
            parts.append(
                f"In {self._named(Status.NONFINITE, trials == 1)} it was not finite at the initial answer: check x, "
                "the parameters of the energy, and that the initial y (init=...) lies where the energy and its "
                "derivative are defined (a logarithm needs positive numbers; sqrt and norm have no derivative at 0)."
            )
        if later.any():
            parts.append(self.advice.nonfinite)
        return " ".join(parts)

    def _why_stalled(self) -> str:
        leaf = tree_leaves(self.y)[0]
        precise = leaf.dtype == torch.float64
        parts = [
            f"{self._named(Status.STALLED)} stalled: no step lowered the energy by more than its rounding. Where "
            "solution.gradient_norm is small, their answers are minima as far as the precision can tell.",
            "" if precise else f"Here it is {str(leaf.dtype)[6:]}: solver.double() and problems in float64 tell more.",
            "Where it is not, look for a kink (abs, max, clamp: use a smooth function), for noise (dropout, sampling: "
            "the energy of the same answer must always be the same, see energy.eval()), and for a part of the energy "
            "whose gradient is cut off (detach, round).",
            self.advice.stalled,
        ]
        return " ".join(part for part in parts if part)

    def __repr__(self) -> str:
        if not len(self.status):
            return "Solution(empty)"
        return f"Solution({self._outcome()}; steps: {self._taken()}; energy: {self._energies()})"

    def _repr_html_(self) -> str:
        if not len(self.status):
            return card("Solution", [("samples", "none")])
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in tree_leaves((self.y,)))
        rows = [("status", self._outcome()), ("steps", self._taken()), ("energy", self._energies()), ("y", shapes)]
        return card("Solution", rows, self._first_samples())

    def _outcome(self) -> str:
        counts = torch.bincount(self.status.cpu(), minlength=len(Status)).tolist()
        return ", ".join(f"{counts[s]} {s.name}" for s in Status if counts[s])

    def _taken(self) -> str:
        steps = self.steps.double()
        return f"mean {steps.mean():.1f}, most {steps.max():.0f}"

    def _energies(self) -> str:
        energy = self.energy.double()
        return f"mean {energy.mean():.4g}, min {energy.min():.4g}, max {energy.max():.4g}"

    def _first_samples(self, most: int = 10) -> str:
        numbers = {"energy": self.energy, "gradient norm": self.gradient_norm}
        counts = {"steps": self.steps, "evaluations": self.evaluations}
        columns = {"sample": [str(k) for k in range(min(most, len(self.status)))]}
        columns["status"] = [Status(code).name for code in self.status[:most].tolist()]
        columns |= {name: [str(n) for n in each[:most].tolist()] for name, each in counts.items() if each is not None}
        columns |= {
            name: [f"{n:.4g}" for n in each[:most].tolist()] for name, each in numbers.items() if each is not None
        }
        title = f"first {most} of {len(self.status):,} samples" if len(self.status) > most else "samples"
        return folded(title, list(columns), zip(*columns.values(), strict=True))


class StepInfo(NamedTuple):
    """What a halting criterion sees at one iterate; every quantity has one value per sample.

    Attributes:
        step: the index of the iterate; 0 is the initial point. 0-d, or ``(batch,)`` where the optimizer may refuse
            candidates, which are no iterates.
        energy: ``(batch,)``, at this iterate.
        previous_energy: ``(batch,)``, at the iterate before; infinite at iterate 0.
        initial_energy: ``(batch,)``, at iterate 0.
        gradient: the gradient of the energy at this iterate, with the structure of the free variables; the projected
            gradient where the optimizer projects.
        free: the free variables ``(y,)`` or ``(y, z)`` at this iterate.
        previous: the free variables at the iterate before; None at iterate 0.
        layout: which rows belong to which sample.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergySolver, StepInfo, halting
        >>> @halting
        ... def close(info: StepInfo):  # the last step was short, and not the first
        ...     return (info.step_norm < 0.1) & (info.step > 1)
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1) / 2, SGD(0.5), halting=close)
        >>> solver.minimize(torch.ones(1, 1), torch.zeros(1, 1)).steps  # of 0.5, 0.25, 0.125, 0.0625
        tensor([4])
    """

    step: Int[Tensor, "*batch"]
    energy: Float[Tensor, " batch"]
    previous_energy: Float[Tensor, " batch"]
    initial_energy: Float[Tensor, " batch"]
    gradient: Any
    free: Any
    previous: Any
    layout: Any

    @property
    def gradient_norm(self) -> Float[Tensor, " batch"]:
        """The Euclidean norm of the gradient over all free variables of the sample."""
        return self.layout.norm(self.gradient)

    @property
    def step_norm(self) -> Float[Tensor, " batch"]:
        """The Euclidean norm of the last update; infinite at iterate 0."""
        if self.previous is None:
            return torch.full_like(self.energy, torch.inf)
        return self.layout.norm(_difference(self.free, self.previous))


def _listed(indices: Tensor, most: int = 20) -> str:
    shown = indices[:most].tolist()
    return f"indices {shown}" + (f" and {len(indices) - most} more" if len(indices) > most else "")


def gradient_norms(info: StepInfo, initial: Tensor) -> tuple[Tensor, Tensor]:
    """The norms of the gradient at this iterate and at iterate 0, the latter NaN if no norm can be compared with it."""
    norm = info.gradient_norm
    if info.previous is not None:
        return norm, initial
    # Squares overflow and underflow; a multiple of the gradient does not.
    unit = 2.0 ** (math.frexp(torch.finfo(norm.dtype).max)[1] // 2)
    large, small = (
        info.layout.norm([leaf * by for leaf in tree_leaves(info.gradient)]) / by for by in (1 / unit, unit)
    )
    norm = torch.where(norm.isfinite(), norm, large)
    tiny = (small > 0) & (small < 1 / unit**0.9)
    return torch.where(tiny, small, norm), torch.where(norm.isfinite() & ~tiny, norm, torch.nan)


def _difference(new: Any, old: Any) -> list[Tensor]:
    return [a - b for a, b in zip(tree_leaves(new), tree_leaves(old), strict=True)]
