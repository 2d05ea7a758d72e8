"""The solver, composed of an energy, an optimizer, a halting criterion and other parts."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .checks import check_whole, names_arguments
from .differentiation import Detached, Differentiation
from .display import card
from .energy import LeastSquares, check_scratchpad, encode_and_evaluate
from .engine import arguments
from .engine.agreement import same_to_rounding as same_to_rounding
from .engine.compiled import COMPILE_OPTIONS as COMPILE_OPTIONS
from .engine.compiled import advance_compiled
from .engine.loop import Descent
from .engine.progress import SolveProgress
from .engine.solve import Solve
from .halting import Halting, Stationary
from .initializers import Initializer
from .layout import Layout, LayoutFunction, SelectFunction, check_free, first_tensor, layout_of, select_problems
from .optimizers import LBFGS, InnerOptimizer
from .pretrained.saving import Pretrained
from .recorders import Nothing, Recorder
from .solution import Solution
from .trees import tree_leaves, tree_map
from .units import Units, checked, units_of


class EnergySolver(Pretrained, nn.Module):
    """Finds low-energy answers: ``solver.minimize(x)``.

    Args:
        energy: a callable ``energy(x, y) -> (batch,)``, or ``energy(x, y, z)`` with a scratchpad: an `Energy`, another
            module or a plain function.
        optimizer: the inner optimizer; by default one that chooses its steps.
        init: initial answers, ``(x, layout, generator) -> y``; without it, every call of `minimize` needs ``y``.
        halting: the criterion that stops each sample; the default never calls a point of clearly positive slope
            converged.
        differentiation: how gradients reach the parameters of the energy and ``x``.
        recorder: what to keep besides the answer.
        max_steps: the largest number of steps of a sample, trials that its optimizer refuses included.
        restarts: each problem is solved from so many initial answers in one batch, and the lowest energy wins.
        layout: from ``x`` to the layout of its answers; by default see `energysolve.layout.layout_of`.
        select: ``select(x, samples)``, the problems with these indices, which may repeat; needed where ``x`` is not
            made of tensors with one row per sample. By default see `energysolve.layout.select_problems`.
        scratchpad: initial scratchpads, like ``init`` (Appendix B of the paper).
        compile: compile the step with `torch.compile`.
        compact: let halted samples leave the computation, so that a few slow samples do not keep the whole batch busy
            (see `energysolve.engine.compaction`). Results differ only by the rounding of matrix products, which depends
            on the batch size. Not together with ``compile``.
        sync_every: the host checks every so many steps whether all samples have halted; by default 1 on the CPU and 10
            on other devices. It changes no result.

    Raises:
        TypeError: if a part is not of its kind.
        ValueError: if an argument is out of range or contradicts another.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, Uniform
        >>> def energy(x, y):
        ...     return (x - y**3).square().sum(-1)
        >>> solver = EnergySolver(energy, init=Uniform((2,), low=0.5))
        >>> solution = solver.minimize(torch.tensor([[1.0, 8.0], [27.0, 64.0]]))
        >>> solution.y.round(decimals=2)  # cube roots
        tensor([[1., 2.],
                [3., 4.]])
        >>> solution.converged
        tensor([True, True])
    """

    def __init__(
        self,
        energy: Callable[..., Tensor],
        optimizer: InnerOptimizer = LBFGS(),  # noqa: B008  (frozen)
        *,
        init: Initializer | None = None,
        halting: Halting = Stationary(),  # noqa: B008  (frozen)
        differentiation: Differentiation = Detached(),  # noqa: B008  (frozen)
        recorder: Recorder = Nothing(),  # noqa: B008  (frozen)
        max_steps: int = 100,
        restarts: int = 1,
        layout: LayoutFunction | None = None,
        select: SelectFunction | None = None,
        scratchpad: Initializer | None = None,
        compile: bool = False,
        compact: bool = False,
        sync_every: int | None = None,
    ):
        super().__init__()
        _expect("energy", energy, Callable, "a function energy(x, y) or an Energy")
        _expect(
            "optimizer", optimizer, InnerOptimizer, "an inner optimizer such as SGD(lr=0.1)", arguments.optimizer_hint
        )
        _expect("halting", halting, Halting, "a halting criterion such as EnergyChange(rtol=1e-5)")
        _expect("differentiation", differentiation, Differentiation, "an instance such as Truncated(1)")
        _expect("recorder", recorder, Recorder, "an instance such as BestSoFar()")
        functions = {"init": init, "layout": layout, "select": select, "scratchpad": scratchpad}
        for name, value in functions.items():
            _expect(name, value, Callable | None, "a function, or None")
        self.energy = energy
        self.optimizer = optimizer
        self.init = init
        self.halting = halting
        self.differentiation = differentiation
        self.recorder = recorder
        self.max_steps = max_steps
        self.restarts = restarts
        self.layout = layout
        self.select = select
        self.scratchpad = scratchpad
        self.compile = bool(compile)  # pyright: ignore  (nn.Module.compile is not for solvers)
        self.compact = bool(compact)
        self.sync_every = sync_every
        check_whole("EnergySolver", least=0, max_steps=max_steps)
        check_whole("EnergySolver", least=1, restarts=restarts)
        _check_together(compile, compact, restarts, recorder)
        if sync_every is not None:
            check_whole("EnergySolver", least=1, sync_every=sync_every)
        self.differentiation.check(halting)
        if scratchpad is not None:
            check_scratchpad(energy, given=True)

    @names_arguments
    def minimize(
        self,
        x: Any,
        y: Any = None,
        z: Any = None,
        *,
        max_steps: int | None = None,
        generator: torch.Generator | None = None,
        progress: bool = False,
    ) -> Solution:
        """Find low-energy answers.

        Args:
            x: the problems, one batch: a tensor, a dict or tuple of tensors, or a batch of graphs.
            y: initial answers, a tensor or a tree of floating-point tensors; by default from ``init``. In half
                precision small steps would be lost to rounding, so answers are found and returned in float32. An energy
                with parameters in half precision sees them rounded, and they are returned rounded.
            z: initial scratchpads; by default from ``scratchpad``.
            max_steps: replaces the solver's ``max_steps`` in this call.
            generator: source of random initial answers.
            progress: show a bar in the terminal or the notebook: the share of samples that have halted (each restart
                counts as one), the median of the finite energies, and the evaluations of single samples in a second. It
                changes no result.

        Returns:
            The answers, with energy, number of steps and status of each. An empty batch gives an empty solution.

        Raises:
            ValueError: if an input or the result of the energy has the wrong shape, dtype or device.

        Examples:
            >>> import torch
            >>> from energysolve import EnergySolver, Uniform
            >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1), init=Uniform((2,)))
            >>> x = torch.tensor([[1.0, 2.0]])
            >>> solution = solver.minimize(x, generator=torch.Generator().manual_seed(0))
            >>> solution.y.round(decimals=3), solution.converged
            (tensor([[1., 2.]]), tensor([True]))
            >>> solver.minimize(x, y=torch.tensor([[1.0, 2.0]])).steps  # from an answer that is right already
            tensor([0])
        """
        steps = self.max_steps if max_steps is None else max_steps
        check_whole("minimize", least=0, max_steps=steps)
        if torch.is_inference_mode_enabled():
            # Descent needs autograd, which refuses inference tensors: copy the inputs.
            with torch.inference_mode(False), torch.no_grad():
                x, y, z = (tree_map(_cloned, tree) for tree in (x, y, z))
                return self._minimize(x, y, z, steps, generator, progress)
        return self._minimize(x, y, z, steps, generator, progress)

    def solve(self, x: Any, max_steps: int | None = None, *, generator: torch.Generator | None = None) -> Solution:
        """`minimize`, through the interface that solvers and baselines share."""
        return self.minimize(x, max_steps=max_steps, generator=generator)

    def descend(self, x: Any, y: Any = None, z: Any = None, *, generator: torch.Generator | None = None) -> Any:
        """Take ``max_steps`` steps with every sample, as in training, and return only the answers.

        No sample halts, and the energy at the answers is not evaluated. The host never waits for the device, so the
        whole descent can be compiled. An energy that is not finite makes the answers not finite.

        Args:
            x: the problems.
            y: initial answers; by default from ``init``.
            z: initial scratchpads; by default from ``scratchpad``.
            generator: source of random initial answers.

        Returns:
            ``(y, z)``, with the gradients of the solver's ``differentiation``; ``z`` is None without a scratchpad.
        """
        solve, free, units = self._prepare(x, y, z, self.max_steps, generator)
        differentiation = self.differentiation if torch.is_grad_enabled() else Detached()
        free = differentiation.descend(solve, free)
        y = free[0] if units is None else units.out_of(free[0])
        return y, free[1] if len(free) == 2 else None

    def forward(self, x: Any, y: Any = None, z: Any = None, **options: Any) -> Solution:
        """`minimize`."""
        return self.minimize(x, y, z, **options)

    def replace(self, **fields: Any) -> "EnergySolver":
        """A solver with other parts, arguments of the constructor, that shares the energy and its parameters.

        Raises:
            TypeError: for a name that is not an argument of the constructor.

        Examples:
            >>> from energysolve import EnergySolver, GradientNorm
            >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1), max_steps=50)
            >>> careful = solver.replace(halting=GradientNorm(1e-6), max_steps=10_000)
            >>> solver.max_steps, careful.max_steps, careful.energy is solver.energy
            (50, 10000, True)
        """
        unknown = sorted(fields.keys() - PARTS.keys())
        if unknown:
            raise TypeError(f"EnergySolver has no {', '.join(unknown)}; it has {', '.join(PARTS)}.")
        parts = {name: getattr(self, name) for name in PARTS} | fields
        solver = type(self)(parts.pop("energy"), parts.pop("optimizer"), **parts)
        solver.training = self.training  # not by .train(), which would change the shared energy
        return solver

    def suited(self, task: Any) -> "EnergySolver":
        """The solver with ``init`` and ``layout`` taken from a task where the solver states none."""
        return self.replace(
            init=task.init if self.init is None else self.init,
            layout=task.layout if self.layout is None else self.layout,
        )

    def layout_of(self, x: Any) -> Layout:
        """The layout of the answers to ``x``.

        Raises:
            TypeError: if the solver's ``layout`` returns something else.
            ValueError: if ``x`` has no recognizable batch size.
        """
        layout = layout_of(x) if self.layout is None else self.layout(x)
        _expect("layout(x)", layout, Layout, "a Layout such as Dense(batch)")
        return layout

    def extra_repr(self) -> str:
        return "\n".join(f"{name}={part}," for name, part in self._shown().items())

    def _repr_html_(self) -> str:
        energy = self.energy if isinstance(self.energy, nn.Module) else None
        rows = {"energy": repr(energy)} if energy is not None else {}
        rows |= self._shown()
        if energy is not None:
            rows["parameters"] = f"{sum(each.numel() for each in energy.parameters()):,}"
        return card(type(self).__name__, rows.items())

    def _shown(self) -> dict[str, str]:
        parts = {name: getattr(self, name) for name in PARTS}
        return {
            name: getattr(part, "__qualname__", None) or repr(part)
            for name, part in parts.items()
            if name in _ALWAYS_SHOWN or (part != PARTS[name] and not isinstance(part, nn.Module))
        }

    def _minimize(self, x, y, z, max_steps, generator, progress) -> Solution:
        if self.restarts > 1:
            return self._best_of_restarts(x, y, z, max_steps, generator, progress)
        return self._once(x, y, z, max_steps, generator, progress)

    def _best_of_restarts(self, x, y, z, max_steps, generator, progress) -> Solution:
        if y is not None or z is not None:
            raise ValueError("restarts draw their own initial answers: leave out y and z, or solve with restarts=1.")
        layout = self.layout_of(x)
        count = torch.arange(layout.batch, device=_device_of(x))
        many = select_problems(x, count.repeat_interleave(self.restarts), layout, self.select)
        found = self._once(many, None, None, max_steps, generator, progress)
        energy = found.energy.nan_to_num(nan=torch.inf).view(layout.batch, self.restarts)
        best = count * self.restarts + (energy.argmin(1) if layout.batch else count)
        _, rows = self.layout_of(many).select(best)
        y, z = (tree_map(lambda leaf: leaf.index_select(0, rows), tree) for tree in (found.y, found.z))
        kept = replace(found, y=y, z=z)
        names = ("energy", "steps", "status", "evaluations", "gradient_norm")
        return replace(kept, layout=layout, **{name: getattr(found, name)[best] for name in names})

    def _once(self, x, y, z, max_steps, generator, progress) -> Solution:
        solve, free, units = self._prepare(x, y, z, max_steps, generator)
        if solve.layout.batch == 0:
            return _empty(free, solve.layout)
        if not progress:
            return self._solved(x, solve, free, units)
        scale = None if units is None else units.normalized.energy.detach()
        with SolveProgress(max_steps, solve.sync_every, scale) as bar:
            solution = self._solved(x, replace(solve, progress=bar), free, units)
            bar.finish(solution)
        return solution

    def _solved(self, x: Any, solve: Solve, free: Any, units: Units | None) -> Solution:
        differentiation = self.differentiation if torch.is_grad_enabled() else Detached()
        found = differentiation.minimize(solve, free)
        seen = solve.descent(None).objective.seen(found.at.free)
        y, z = seen if len(seen) == 2 else (seen[0], None)
        with torch.no_grad():
            gradient_norm = solve.layout.norm(self.optimizer.residual(found.at._replace(layout=solve.layout)))
        numbers = (found.steps, found.status, found.record, found.evaluations, gradient_norm)
        solution = Solution(y, z, found.at.energy, *numbers, layout=solve.layout, advice=self.optimizer.advice)
        return checked(self.energy, x, solution if units is None else units.solution(solution))

    def _prepare(self, x, y, z, max_steps, generator) -> tuple[Solve, Any, Units | None]:
        """The settings of one solve, the initial free variables, and the units that both are in."""
        arguments.refuse_transforms()
        layout = self.layout_of(x)
        units = units_of(self.energy, x, layout)
        free = self._initial(x, y, z, layout, generator)
        if units is not None:
            units, free = units.entered(free, self.init if y is None else None)
            x = units.normalized.x
        encode, evaluate = encode_and_evaluate(self.energy)
        solve = Solve(
            x=x,
            encode=encode,
            function=evaluate,
            layout=layout,
            optimizer=self.optimizer,
            halting=self.halting,
            recorder=self.recorder if units is None else units.recorder(self.recorder),
            max_steps=max_steps,
            sync_every=self.sync_every or (1 if tree_leaves(free)[0].device.type == "cpu" else 10),
            select=self.select,
            advance=advance_compiled if self.compile else Descent.advance,
            compact=self.compact,
            parameters=tuple(self.parameters()) if torch.is_grad_enabled() else (),
            residual_function=self.energy.residuals if isinstance(self.energy, LeastSquares) else None,
            coarse=arguments.half_precision(self.energy),
        )
        if self.layout is None:
            arguments.refuse_single_problem(solve, free)
        return solve, free, units

    def _initial(self, x, y, z, layout, generator) -> Any:
        if y is None:
            if self.init is None:
                raise ValueError("No initial y: give the solver init=, such as Uniform((400,)), or pass y to minimize.")
            y = self.init(x, layout, generator)
        if z is None and self.scratchpad is not None:
            z = self.scratchpad(x, layout, generator)
        check_scratchpad(self.energy, given=z is not None)
        check_free("y", y, x, layout)
        if z is not None:
            check_free("z", z, x, layout)
        if torch.is_grad_enabled() and isinstance(self.differentiation, Detached):
            arguments.warn_if_detached(x, y)
        return arguments.free_variables((y,) if z is None else (y, z))


_PARAMETERS = [*inspect.signature(EnergySolver.__init__).parameters.values()][1:]
PARTS = {parameter.name: parameter.default for parameter in _PARAMETERS}
"""The parts of a solver (the arguments of its constructor) with their defaults."""
_ALWAYS_SHOWN = ("optimizer", "init", "halting", "differentiation", "recorder", "max_steps")


def _device_of(x: Any) -> Any:
    tensor = first_tensor(x)
    return None if tensor is None else tensor.device


def _cloned(leaf: Any) -> Any:
    return leaf.clone() if callable(getattr(leaf, "clone", None)) else leaf  # tensors, batches of graphs


def _check_together(compile: bool, compact: bool, restarts: int, recorder: Recorder) -> None:
    """Raise a ValueError for settings that exclude each other."""
    if compile and compact:
        raise ValueError(
            "compile=True and compact=True exclude each other: the step would be compiled again for every size of "
            "the shrinking batch. Leave out one of the two."
        )
    if restarts > 1 and not isinstance(recorder, Nothing):
        raise ValueError(
            f"restarts={restarts} keeps the best of several solves, but {recorder!r} would record all of them. "
            "Leave out one of the two."
        )


def _expect(name: str, value: Any, kind: Any, description: str, advice: Callable[[Any], str] | None = None) -> None:
    if not isinstance(value, kind):
        hint = " (the class; construct it first)" if isinstance(value, type) else ""
        raise TypeError(f"{name} must be {description}; got {value!r}{hint}.{advice(value) if advice else ''}")


def _empty(free: Any, layout: Layout) -> Solution:
    free = tree_map(torch.detach, free)
    leaf = tree_leaves(free)[0]
    count = torch.zeros(0, dtype=torch.int64, device=leaf.device)
    nothing = leaf.new_zeros(0)
    z = free[1] if len(free) == 2 else None
    return Solution(free[0], z, nothing, count, count, None, count, nothing, layout)
