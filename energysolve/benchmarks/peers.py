"""Optimizers of other libraries on a `Family`; each is skipped where its library is not installed."""

import importlib
import math
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .families import Family

LIMIT = 1000
"""Evaluations, or iterations where a library counts those."""


class Answers(NamedTuple):
    """What an optimizer found.

    Attributes:
        y: ``(batch, n)``.
        evaluations: of the energy, the mean over the problems; steps for optimistix, which counts no others.
    """

    y: Tensor
    evaluations: float


class Peer(NamedTuple):
    """An optimizer of another library.

    Attributes:
        name: of the library and its method.
        module: that must be importable.
        solve: ``solve(family, rtol)``.
        share: of the problems that it is timed on; the rest is extrapolated.
        largest: number of variables; a full matrix takes the square of it.
    """

    name: str
    module: str
    solve: Callable[[Family, float], Answers]
    share: float = 1.0
    largest: float = math.inf

    @property
    def installed(self) -> bool:
        """Whether its library is there."""
        try:
            importlib.import_module(self.module)
        except ImportError:
            return False
        return True


def peers(pool: Executor, workers: int) -> list[Peer]:
    """All of them; ``pool`` has ``workers`` processes."""
    return [
        Peer("SciPy L-BFGS-B, gradient by hand", "scipy.optimize", _scipy),
        Peer(
            f"SciPy L-BFGS-B, gradient by hand, {workers} processes",
            "scipy.optimize",
            partial(_scipy_in, pool, workers),
        ),
        Peer("SciPy L-BFGS-B on the torch energy", "scipy.optimize", _scipy_on_torch, share=0.05),
        Peer("SciPy least_squares lm", "scipy.optimize", partial(_scipy_lm, by_hand=False)),
        Peer("SciPy least_squares lm, Jacobian by hand", "scipy.optimize", partial(_scipy_lm, by_hand=True)),
        Peer("pytorch-minimize l-bfgs, one by one", "torchmin", _torchmin, share=0.05),
        Peer("BoTorch batched L-BFGS-B", "botorch.optim.batched_lbfgs_b", _botorch),
        Peer("jaxopt LBFGS, vmap", "jaxopt", _jaxopt),
        Peer("optimistix BFGS, vmap", "optimistix", _optimistix, largest=1000),
    ]


def _answers(rows: Iterable[Any], evaluations: Any) -> Answers:
    return Answers(torch.from_numpy(np.stack(list(rows))), float(np.mean(evaluations)))


def solve_rows(single: Callable[..., Any], x: Any, y0: Any, rtol: float) -> tuple[list[Any], list[int]]:
    """L-BFGS-B on each row; stops where no entry of the gradient is above ``rtol`` times the largest at the start."""
    minimize = importlib.import_module("scipy.optimize").minimize
    found, evaluations = [], []
    for row, start in zip(x, y0, strict=True):
        options = {"gtol": rtol * np.abs(single(start, row)[1]).max(), "ftol": 0, "maxfun": LIMIT, "maxiter": LIMIT}
        result = minimize(single, start, (row,), jac=True, method="L-BFGS-B", options=options)
        found.append(result.x)
        evaluations.append(result.nfev)
    return found, evaluations


def _scipy(family: Family, rtol: float) -> Answers:
    return _answers(*solve_rows(family.single, family.x.numpy(), family.y0.numpy(), rtol))


def _scipy_in(pool: Executor, workers: int, family: Family, rtol: float) -> Answers:
    parts = [np.array_split(tensor.numpy(), workers) for tensor in (family.x, family.y0)]
    results = list(pool.map(partial(solve_rows, family.single, rtol=rtol), *parts))
    found, evaluations = ([one for part in parts for one in part] for parts in zip(*results, strict=True))
    return _answers(found, evaluations)


def _scipy_on_torch(family: Family, rtol: float) -> Answers:
    """As a user of torch calls SciPy: the gradient of the same energy by autograd, problem by problem."""

    def single(v: Any, row: Any) -> tuple[float, Any]:
        y = torch.from_numpy(v).unsqueeze(0).requires_grad_()
        energy = family.energy(row, y)
        return energy.item(), torch.autograd.grad(energy.sum(), y)[0].squeeze(0).numpy()

    return _answers(*solve_rows(single, family.x.split(1), family.y0.numpy(), rtol))


def _scipy_lm(family: Family, rtol: float, *, by_hand: bool) -> Answers:
    least_squares = importlib.import_module("scipy.optimize").least_squares
    function = family.residuals
    assert function is not None

    def residuals(v: Any, row: Any) -> Any:
        return function(v, row)[0]

    def jacobian(v: Any, row: Any) -> Any:
        return function(v, row)[1]

    results = [
        least_squares(residuals, start, jacobian if by_hand else "2-point", args=(row,), method="lm")
        for row, start in zip(family.x.numpy(), family.y0.numpy(), strict=True)
    ]
    return _answers([result.x for result in results], [result.nfev for result in results])


def _torchmin(family: Family, rtol: float) -> Answers:
    minimize = importlib.import_module("torchmin").minimize
    results = []
    for i, start in enumerate(family.y0):
        alone = family.part(slice(i, i + 1))
        options = {"gtol": _tolerance(alone, rtol), "xtol": 0, "max_iter": LIMIT}
        results.append(minimize(partial(_alone, alone), start, method="l-bfgs", options=options))
    return Answers(torch.stack([result.x for result in results]), float(np.mean([result.nfev for result in results])))


def _alone(family: Family, v: Tensor) -> Tensor:
    return family.energy(family.x, v.unsqueeze(0)).squeeze(0)


def _botorch(family: Family, rtol: float) -> Answers:
    minimize = importlib.import_module("botorch.optim.batched_lbfgs_b").fmin_l_bfgs_b_batched

    evaluations = 0

    def function(v: Any, batch_indices: list[int]) -> tuple[Any, Any]:
        nonlocal evaluations
        evaluations += len(v)
        y = torch.from_numpy(v).requires_grad_()
        energy = family.energy(family.x[batch_indices], y)
        return energy.detach().numpy(), torch.autograd.grad(energy.sum(), y)[0].numpy()

    options = {"pgtol": _tolerance(family, rtol), "ftol": 0, "factr": None, "maxiter": LIMIT}
    found, *_ = minimize(function, family.y0.numpy(), pass_batch_indices=True, **options)
    return Answers(torch.from_numpy(found), evaluations / len(found))


def _tolerance(family: Family, rtol: float) -> float:
    """For libraries that have one tolerance for the batch."""
    return rtol * family.gradient_norm(family.y0).median().item()


_compiled: dict[tuple[str, int], Any] = {}


def _jaxopt(family: Family, rtol: float) -> Answers:
    jaxopt = importlib.import_module("jaxopt")

    def solve(energy: Any, start: Any, row: Any) -> tuple[Any, Any]:
        found, state = jaxopt.LBFGS(energy, maxiter=LIMIT, tol=_tolerance(family, rtol)).run(start, row)
        return found, state.num_fun_eval

    return _with_jax("jaxopt", solve, family)


def _optimistix(family: Family, rtol: float) -> Answers:
    optimistix = importlib.import_module("optimistix")

    def solve(energy: Any, start: Any, row: Any) -> tuple[Any, Any]:
        method = optimistix.BFGS(rtol=1e-7, atol=1e-7)
        found = optimistix.minimise(energy, method, start, row, max_steps=LIMIT, throw=False)
        return found.value, found.stats["num_steps"]

    return _with_jax("optimistix", solve, family)


def _with_jax(name: str, solve: Callable[..., Any], family: Family) -> Answers:
    """Each problem solved by ``solve(energy, start, row)``, mapped over the batch and compiled once for each family."""
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    key = (name, id(family))
    if key not in _compiled:
        _compiled[key] = jax.jit(jax.vmap(partial(solve, partial(family.jax, jax.numpy))))
    found, evaluations = _compiled[key](family.y0.numpy(), family.x.numpy())
    return Answers(torch.from_numpy(np.array(found)), float(np.mean(np.array(evaluations))))
