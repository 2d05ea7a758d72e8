"""The solver: an energy, an optimizer, a halting criterion and the rest, composed."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .checks import check_whole
from .differentiation import Detached, Differentiation
from .energy import Energy, check_takes_scratchpad
from .engine.compiled import COMPILE_OPTIONS as COMPILE_OPTIONS
from .engine.compiled import advance_compiled
from .engine.loop import Descent
from .engine.problem import Problem
from .halting import EnergyChange, Halting
from .initializers import Initializer
from .layout import Layout, LayoutFunction, check_free, layout_of
from .optimizers.base import InnerOptimizer
from .pretrained.saving import Pretrained
from .recorders import Nothing, Recorder
from .solution import Solution
from .trees import tree_leaves, tree_map

_FIELDS = (
    "energy",
    "optimizer",
    "init",
    "halting",
    "differentiation",
    "recorder",
    "max_steps",
    "layout",
    "scratchpad",
    "compile",
    "compact",
    "sync_every",
)


class EnergySolver(Pretrained, nn.Module):
    """Finds low-energy answers: ``solver.minimize(x)``.

    Args:
        energy: a callable ``energy(x, y) -> (batch,)``, or ``energy(x, y, z)`` with a scratchpad; an `Energy`, any
            other module or a plain function.
        optimizer: moves the answers, such as ``SGD(lr=0.1)``.
        init: initial answers, ``(x, layout, generator) -> y``; without it every call of `minimize` must give ``y``.
        halting: decides, sample by sample, when to stop.
        differentiation: how gradients reach the parameters of the energy and ``x``.
        recorder: what to keep besides the answer.
        max_steps: the most updates that a sample takes.
        layout: from ``x`` to the layout of its answers; by default `Dense` with the leading size of the first tensor in
            ``x``, or what the type of ``x`` (a batch of graphs) brings along.
        scratchpad: initial scratchpads, like ``init`` (Appendix B of the paper).
        compile: compile the step with `torch.compile`.
        compact: let samples that have halted leave the computation, so that a few slow ones do not keep the whole batch
            busy; `energysolve.engine.compaction` says what that asks of ``x`` and the energy. Results are the same,
            except for the rounding of matrix products, which depends on the batch size. Not together with ``compile``.
        sync_every: how many steps may pass before the host asks whether all the samples have halted; by default 1 on
            the CPU and 10 elsewhere. It changes no result.

    Raises:
        TypeError: if a part is not of its kind.
        ValueError: if an argument is out of range or contradicts another.
    """

    def __init__(
        self,
        energy: Callable[..., Tensor],
        optimizer: InnerOptimizer,
        *,
        init: Initializer | None = None,
        halting: Halting = EnergyChange(rtol=1e-5).patience(2),  # noqa: B008  (frozen)
        differentiation: Differentiation = Detached(),  # noqa: B008  (frozen)
        recorder: Recorder = Nothing(),  # noqa: B008  (frozen)
        max_steps: int = 100,
        layout: LayoutFunction | None = None,
        scratchpad: Initializer | None = None,
        compile: bool = False,
        compact: bool = False,
        sync_every: int | None = None,
    ):
        super().__init__()
        _expect("energy", energy, Callable, "a function energy(x, y) or an Energy")
        _expect("optimizer", optimizer, InnerOptimizer, "an inner optimizer such as SGD(lr=0.1)")
        _expect("halting", halting, Halting, "a halting criterion such as EnergyChange(rtol=1e-5)")
        _expect("differentiation", differentiation, Differentiation, "an instance such as Truncated(1)")
        _expect("recorder", recorder, Recorder, "an instance such as BestSoFar()")
        for name, value in (("init", init), ("layout", layout), ("scratchpad", scratchpad)):
            _expect(name, value, Callable | None, "a function, or None")
        self.energy = energy
        self.optimizer = optimizer
        self.init = init
        self.halting = halting
        self.differentiation = differentiation
        self.recorder = recorder
        self.max_steps = max_steps
        self.layout = layout
        self.scratchpad = scratchpad
        self.compile = bool(compile)  # pyright: ignore  (nn.Module.compile is not for solvers)
        self.compact = bool(compact)
        self.sync_every = sync_every
        if compile and compact:
            raise ValueError(
                "compile=True and compact=True exclude each other: the step would be compiled anew for every size that "
                "the batch shrinks to. Leave out one of the two."
            )
        check_whole("EnergySolver", least=0, max_steps=max_steps)
        if sync_every is not None:
            check_whole("EnergySolver", least=1, sync_every=sync_every)
        self.differentiation.check(halting)
        if scratchpad is not None:
            self._check_scratchpad(given=True)

    def minimize(
        self,
        x: Any,
        y: Any = None,
        z: Any = None,
        *,
        max_steps: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Solution:
        """Find low-energy answers.

        Args:
            x: the problems, one batch: a tensor, a dict or tuple of tensors, or a batch of graphs.
            y: initial answers, a tensor or tree of floating tensors; by default from ``init``.
            z: initial scratchpads; by default from ``scratchpad``.
            max_steps: in place of the solver's, for this call.
            generator: for initial answers that are drawn at random.

        Returns:
            The answers, with the energy, the number of steps and the status of each. An empty batch gives an empty
            solution.

        Raises:
            ValueError: if an input or the energy's result has the wrong shape, dtype or device; the message says what
                was expected.
        """
        steps = self.max_steps if max_steps is None else max_steps
        check_whole("minimize", least=0, max_steps=steps)
        if torch.is_inference_mode_enabled():
            # Inference tensors cannot take part in autograd, which descent needs: copy the inputs out.
            with torch.inference_mode(False), torch.no_grad():
                x, y, z = (tree_map(_cloned, tree) for tree in (x, y, z))
                return self._minimize(x, y, z, steps, generator)
        return self._minimize(x, y, z, steps, generator)

    def solve(self, x: Any, steps: int | None = None, *, generator: torch.Generator | None = None) -> Solution:
        """`minimize` with at most ``steps`` steps, the interface that solvers and baselines have in common."""
        return self.minimize(x, max_steps=steps, generator=generator)

    def descend(self, x: Any, y: Any = None, z: Any = None, *, generator: torch.Generator | None = None) -> Any:
        """Take ``max_steps`` steps with every sample, as training does, and return the answers alone.

        Nothing is checked on the way and nothing halts: no energy at the answer, no status, and the host never waits
        for the device, so the whole descent can be compiled. An energy that is not finite shows in the answers.

        Args:
            x: the problems.
            y: initial answers; by default from ``init``.
            z: initial scratchpads; by default from ``scratchpad``.
            generator: for initial answers that are drawn at random.

        Returns:
            ``(y, z)``, ``z`` None where there is no scratchpad, with the gradients of the solver's ``differentiation``.
        """
        problem, free = self._problem(x, y, z, self.max_steps, generator)
        differentiation = self.differentiation if torch.is_grad_enabled() else Detached()
        free = differentiation.descend(problem, free)
        return free if len(free) == 2 else (free[0], None)

    def forward(self, x: Any, y: Any = None, z: Any = None, **options: Any) -> Solution:
        """`minimize`."""
        return self.minimize(x, y, z, **options)

    def replace(self, **fields: Any) -> "EnergySolver":
        """A solver with some parts exchanged that shares this one's energy, parameters included.

        Raises:
            TypeError: for a name that is not an argument of the constructor.
        """
        unknown = sorted(set(fields) - set(_FIELDS))
        if unknown:
            raise TypeError(f"EnergySolver has no {', '.join(unknown)}; it has {', '.join(_FIELDS)}.")
        parts = {name: getattr(self, name) for name in _FIELDS} | fields
        solver = type(self)(parts.pop("energy"), parts.pop("optimizer"), **parts)
        solver.training = self.training  # not by .train(), which would change the shared energy
        return solver

    def extra_repr(self) -> str:
        shown = ("optimizer", "init", "halting", "differentiation", "recorder", "max_steps")
        return "\n".join(f"{name}={getattr(self, name)!r}," for name in shown)

    def _minimize(self, x, y, z, max_steps, generator) -> Solution:
        problem, free = self._problem(x, y, z, max_steps, generator)
        if problem.layout.batch == 0:
            return _empty(free)
        differentiation = self.differentiation if torch.is_grad_enabled() else Detached()
        found = differentiation.solve(problem, free)
        y, z = found.at.free if len(found.at.free) == 2 else (found.at.free[0], None)
        return Solution(y, z, found.at.energy, found.steps, found.status, found.record)

    def _problem(self, x, y, z, max_steps, generator) -> tuple[Problem, Any]:
        """The problem of one solve, and the initial free variables."""
        layout = layout_of(x) if self.layout is None else self.layout(x)
        _expect("layout(x)", layout, Layout, "a Layout such as Dense(batch)")
        free = self._initial(x, y, z, layout, generator)
        problem = Problem(
            x=x,
            encode=self.energy.encode if isinstance(self.energy, Energy) else _identity,
            function=self.energy.evaluate if isinstance(self.energy, Energy) else self.energy,
            layout=layout,
            optimizer=self.optimizer,
            halting=self.halting,
            recorder=self.recorder,
            max_steps=max_steps,
            sync_every=self.sync_every or (1 if tree_leaves(free)[0].device.type == "cpu" else 10),
            advance=advance_compiled if self.compile else Descent.advance,
            compact=self.compact,
            parameters=tuple(self.parameters()) if torch.is_grad_enabled() else (),
        )
        return problem, free

    def _initial(self, x, y, z, layout, generator) -> Any:
        if y is None:
            if self.init is None:
                raise ValueError("No initial y: give the solver init=, such as Uniform((400,)), or pass y to minimize.")
            y = self.init(x, layout, generator)
        if z is None and self.scratchpad is not None:
            z = self.scratchpad(x, layout, generator)
        self._check_scratchpad(given=z is not None)
        check_free("y", y, x, layout)
        if z is None:
            return (y,)
        check_free("z", z, x, layout)
        return (y, z)

    def _check_scratchpad(self, given: bool) -> None:
        energy = self.energy
        if isinstance(energy, nn.Module):
            function = energy.evaluate if isinstance(energy, Energy) else energy.forward
            check_takes_scratchpad(function, type(energy).__name__, given)
        else:
            check_takes_scratchpad(energy, getattr(energy, "__name__", type(energy).__name__), given)


def _identity(x: Any) -> Any:
    return x


def _cloned(leaf: Any) -> Any:
    return leaf.clone() if callable(getattr(leaf, "clone", None)) else leaf  # tensors, batches of graphs


def _expect(name: str, value: Any, kind: Any, description: str) -> None:
    if not isinstance(value, kind):
        hint = " (the class; construct it first)" if isinstance(value, type) else ""
        raise TypeError(f"{name} must be {description}; got {value!r}{hint}.")


def _empty(free: Any) -> Solution:
    free = tree_map(torch.detach, free)
    leaf = tree_leaves(free)[0]
    count = torch.zeros(0, dtype=torch.int64, device=leaf.device)
    return Solution(free[0], free[1] if len(free) == 2 else None, leaf.new_zeros(0), count, count)
