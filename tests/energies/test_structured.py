"""Structured energies, against references that do not use them: NumPy, closed forms, scaling, finite differences."""

import json

import jaxtyping
import numpy as np
import pytest
import torch

from energysolve import SGD, EnergySolver, GradientNorm, Normal, Status, Truncated, Zeros
from energysolve.energies import FactoredCompletion, PreconditionedInverse, SharedQuadratic
from energysolve.presets import DOMAINS, finished
from energysolve.tasks import Addition, Completion, Inverse
from energysolve.testing import check_energy


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def randomized(energy, seed=0):
    """The energy in float64, with weights such as training might find."""
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(seed)))
    return energy.double()


def addition():
    return randomized(SharedQuadratic(5)), normal(3, 10), normal(3, 5, seed=1), None


def inverse():
    roots = normal(3, 4, 4)
    x = roots @ roots.mT + 0.1 * torch.eye(4, dtype=torch.float64)
    return randomized(PreconditionedInverse(4, steps=2)), x, normal(3, 4, 4, seed=1), None


def completion():
    x = torch.where(normal(3, 5, 4, seed=2) > 0, normal(3, 5, 4), 0.0)
    energy = randomized(FactoredCompletion(5, 4, 2, noise=0.5))
    return energy, x, normal(3, 5, 4, seed=1), normal(3, 9, 2, seed=3)


CASES = (addition, inverse, completion)


def pads(z):
    return () if z is None else (z,)


@pytest.mark.parametrize("case", CASES)
def test_contract(case):
    """Samples apart, also beside NaN; gradients and second derivatives against finite differences."""
    check_energy(*case())


@pytest.mark.parametrize("case", CASES)
def test_flattened_is_the_same(case):
    energy, x, y, z = case()
    if isinstance(energy, SharedQuadratic):
        flat = energy(x.unflatten(1, (2, 5)), y)
    else:
        flat = energy(x.flatten(1), y.flatten(1), *(pad.flatten(1) for pad in pads(z)))
    assert torch.equal(flat, energy(x, y, *pads(z)))


@pytest.mark.parametrize("case", CASES)
def test_wrong_shapes(case):
    energy, x, y, z = case()
    name = type(energy).__name__
    with pytest.raises(ValueError, match=rf"{name} needs x of shape \(batch, .*got \(3, 3\)"):
        energy(normal(3, 3), y, *pads(z))
    with pytest.raises(ValueError, match=rf"{name} needs y of shape \(batch, .*got \(3, 3\)"):
        energy(x, normal(3, 3), *pads(z))
    if z is not None:
        with pytest.raises(
            ValueError, match=rf"{name} needs z of shape \(batch, 9, 2\) or \(batch, 18\); got \(3, 9\)"
        ):
            energy(x, y, normal(3, 9))
    if not isinstance(energy, SharedQuadratic):
        with pytest.raises(ValueError, match=name):  # as many entries, but other rows and columns
            energy(x.reshape(3, 2, -1), y, *pads(z))


@pytest.mark.parametrize("case", CASES)
def test_save_and_load(case, tmp_path):
    energy, x, y, z = case()
    assert type(energy)(**json.loads(json.dumps(energy.config()))).config() == energy.config()
    pad = None if z is None else Normal(tuple(z.shape[1:]))
    solver = EnergySolver(energy, SGD(0.01), init=Zeros(tuple(y.shape[1:])), scratchpad=pad, max_steps=5)
    solver.save_pretrained(tmp_path)
    loaded = EnergySolver.from_pretrained(tmp_path)
    assert type(loaded.energy) is type(energy)
    assert torch.equal(loaded.energy(x, y, *pads(z)), energy(x, y, *pads(z)))
    assert torch.equal(loaded.minimize(x, z=z).y, solver.minimize(x, z=z).y)


@pytest.mark.parametrize("case", CASES)
def test_compiles_without_graph_breaks(case, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the checks of the tests cannot be compiled
    energy, x, y, z = case()
    compiled = torch.compile(lambda *inputs: energy(*inputs), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x, y, *pads(z)), energy(x, y, *pads(z)))


@pytest.mark.parametrize("case", CASES)
def test_empty_batch(case):
    energy, x, y, z = case()
    assert energy(x[:0], y[:0], *(pad[:0] for pad in pads(z))).shape == (0,)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: SharedQuadratic(0),
        lambda: SharedQuadratic(3, features=0),
        lambda: PreconditionedInverse(0),
        lambda: PreconditionedInverse(3, steps=-1),
        lambda: FactoredCompletion(3, 3, 0),
        lambda: FactoredCompletion(3, 3, 1, noise=-1.0),
        lambda: FactoredCompletion(3, 3, 1, penalty=0.0),
        lambda: FactoredCompletion(3, 3, 1, floor=0.0),
    ],
)
def test_arguments_are_checked(wrong):
    with pytest.raises(ValueError, match="needs"):
        wrong()


def test_addition_is_homogeneous_of_degree_two():
    energy, x, y, _ = addition()
    torch.testing.assert_close(energy(-3.7 * x, -3.7 * y), 3.7**2 * energy(x, y))


def test_addition_is_shared_over_entries():
    energy, x, y, _ = addition()
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(energy(x.unflatten(1, (2, 5))[:, :, order], y[:, order]), energy(x, y))
    longer = SharedQuadratic(10).double()
    longer.load_state_dict(energy.state_dict())  # the weights serve every size
    twice = longer(x.unflatten(1, (2, 5)).repeat(1, 1, 2), y.repeat(1, 2))
    torch.testing.assert_close(twice, 2 * energy(x, y))


def test_addition_is_the_quadratic_form():
    energy, x, y, _ = addition()
    weights = np.concatenate([energy.from_x.detach().numpy(), energy.from_y.detach().numpy()[:, None]], 1)
    columns = np.stack([x[:, :5].numpy(), x[:, 5:].numpy(), y.numpy()], 1)
    expected = 0.5 * ((weights @ columns) ** 2).sum((1, 2))
    np.testing.assert_allclose(energy(x, y).detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("steps", [0, 1, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_minimum_is_the_inverse_whatever_was_learned(steps, seed):
    energy = PreconditionedInverse(6, steps).double()
    with torch.no_grad():
        energy.gain_logits.copy_(normal(steps + 1, seed=seed))
    roots = normal(4, 6, 6, seed=seed + 2)
    x = roots @ roots.mT + 0.05 * torch.eye(6, dtype=torch.float64)
    inverse = torch.from_numpy(np.linalg.inv(x.numpy())).requires_grad_()
    (gradient,) = torch.autograd.grad(energy(x, inverse).sum(), inverse)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-9)
    # The only minimum, within reach of steps of size 1: the curvature lies in (0, 2).
    product, q = energy.encode(x)
    curvature = torch.linalg.eigvalsh(product)
    assert (curvature > 0).all()
    assert (curvature < 2).all()
    torch.testing.assert_close(product, product.mT, rtol=0, atol=0)
    # And it is a polynomial of M that does it: it has the eigenvectors of M.
    torch.testing.assert_close(q @ x, x @ q, rtol=0, atol=1e-9)


def test_descent_finds_the_inverse():
    x, _ = Inverse(20).sample(20, "harder", generator())
    x = x.double()
    solver = EnergySolver(
        PreconditionedInverse(20).double(), SGD(1.0), init=Zeros((20, 20)), halting=GradientNorm(1e-9), max_steps=3000
    )
    solution = solver.minimize(x)
    assert solution.converged.all()
    np.testing.assert_allclose(solution.y.numpy(), np.linalg.inv(x.numpy()), rtol=0, atol=1e-6)


def test_newton_schulz_is_the_plain_iteration_before_training():
    _, x, _, _ = inverse()
    _, q = PreconditionedInverse(4, steps=3).double().encode(x)
    for matrix, found in zip(x.numpy(), q.detach().numpy(), strict=True):
        expected = np.eye(4) / np.linalg.norm(matrix)
        for _ in range(3):
            expected = expected @ (2 * np.eye(4) - matrix @ expected)
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_singular_matrix_is_reported():
    solver = EnergySolver(PreconditionedInverse(3), SGD(1.0), init=Zeros((3, 3)))
    status = solver.minimize(torch.stack([torch.zeros(3, 3), torch.eye(3)])).status
    assert status.tolist() == [Status.NONFINITE, Status.CONVERGED]


def completion_by_hand(energy, x, y, z, sample):
    """Energy and gradients of one sample, entry by entry, in NumPy."""
    c, k = (parameter.detach().exp().item() for parameter in (energy.log_penalty, energy.log_shrinkage))
    x, y, z = (tensor[sample].numpy() for tensor in (x, y, z))
    seen = x != 0
    power = (x[seen] ** 2).mean()
    variance = max(power - energy.noise**2, energy.floor * energy.noise**2)
    scale, penalty = np.sqrt(variance), c * np.sqrt(energy.rank) * energy.noise**2 / variance
    u, v = z[: energy.rows], z[energy.rows :]
    product = u @ v.T
    misfit = np.where(seen, product - x / scale, 0)
    distance = (y - np.where(seen, x, k * scale * product)) / max(1, variance)
    value = (misfit**2).sum() / 2 + penalty * (z**2).sum() / 2 + (distance**2).sum() * max(1, variance) / 2
    pull = misfit - np.where(seen, 0, k * scale * distance)
    return value, distance, np.concatenate([pull @ v + penalty * u, pull.T @ u + penalty * v])


@pytest.mark.parametrize("size", [0.2, 1.0, 4.0])  # signal below the noise, and above a unit of y
def test_completion_energy_and_gradient(size):
    energy, x, y, z = completion()
    x = size * x
    y, z = y.requires_grad_(), z.requires_grad_()
    value = energy(x, y, z)
    slopes = torch.autograd.grad(value.sum(), (y, z))
    for sample in range(3):
        expected = completion_by_hand(energy, x, y.detach(), z.detach(), sample)
        for found, wanted in zip((value, *slopes), expected, strict=True):
            np.testing.assert_allclose(found[sample].detach().numpy(), wanted, rtol=1e-9, atol=1e-12)


def test_completion_minimum_given_the_factors():
    energy, x, _, z = completion()
    variance = x.square().sum((1, 2)) / (x != 0).sum((1, 2)) - 0.25
    product = z[:, :5] @ z[:, 5:].mT * variance.sqrt()[:, None, None] * energy.log_shrinkage.exp()
    best_y = torch.where(x != 0, x, product).detach().requires_grad_()
    (slope,) = torch.autograd.grad(energy(x, best_y, z).sum(), best_y)
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-12)
    assert (energy(x, best_y + 0.1 * normal(3, 5, 4, seed=7), z) > energy(x, best_y, z)).all()


def best(name):
    return DOMAINS[name].presets["best"]


def test_completion_factors_are_ridge_regressions():
    """At a minimum each row of U is the ridge regression of its observed entries on V (alternating least squares)."""
    task = Completion(7, 5, rank=2)
    x, _ = task.sample(6, "same", generator())
    solver = best("completion").build(task, {}).double().replace(halting=GradientNorm(1e-7), max_steps=5000)
    energy, solution = solver.energy, solver.minimize(x.double(), generator=generator())
    assert solution.converged.all()
    _, scaled, penalty, _, _ = (part.detach().numpy() for part in energy.encode(x.double()))
    for sample in range(6):
        u, v = np.split(solution.z[sample].numpy(), [7])
        for row in range(7):
            seen = x[sample, row].numpy() != 0
            normal_matrix = v[seen].T @ v[seen] + penalty[sample, 0, 0] * np.eye(2)
            expected = np.linalg.solve(normal_matrix, v[seen].T @ scaled[sample, row, seen])
            np.testing.assert_allclose(u[row], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("noise", [0.1, 0.0])
def test_completion_of_nothing(noise):
    """Without a single observation there is no NaN, and with a prior the answer is zero."""
    solver = best("completion").build(Completion(4, 3, rank=2, noise=noise), {})
    solution = solver.minimize(torch.zeros(2, 4, 3), generator=generator())
    assert solution.converged.all()
    if noise:
        torch.testing.assert_close(solution.y, torch.zeros(2, 4, 3), rtol=0, atol=0.05)


@pytest.mark.parametrize("case", CASES)
def test_answers_do_not_depend_on_the_batch(case):
    energy, x, y, z = case()
    solver = EnergySolver(energy, SGD(0.05), halting=GradientNorm(0.3), max_steps=200)
    together = solver.minimize(x, y, z)
    for sample in range(3):
        rows = slice(sample, sample + 1)
        alone = solver.minimize(x[rows], y[rows], None if z is None else z[rows])
        torch.testing.assert_close(alone.y, together.y[rows], rtol=1e-9, atol=1e-12)
        assert alone.steps.item() == together.steps[sample].item()


SMALL = {"addition": Addition(6), "completion": Completion(8, 6, rank=2), "inverse": Inverse(5)}
ENOUGH = {"addition": 1e-3, "completion": None, "inverse": 1e-6}
"""Errors after short runs; completion must beat copying what was seen."""


def trained(name, seed):
    """A solver after a short run of the preset ``best``, and the weights before it."""
    changes = {"batch_size": 8, "train_steps": 30, "differentiation": Truncated(5)} if name == "completion" else {}
    iterations = {"addition": 100, "completion": 4, "inverse": 10}[name]
    preset = best(name).changed({"seed": seed, "iterations": iterations, **changes})
    trainer, used = preset.prepare(name, SMALL[name], cpu=True)
    before = [parameter.detach().clone() for parameter in used.parameters()]
    trainer.fit(iterations)
    return finished(trainer, used), before


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SMALL))
def test_training(name, tmp_path):
    task = SMALL[name]
    solver, before = trained(name, seed=3)
    assert not solver.training
    again, other = (trained(name, seed)[0].energy.state_dict() for seed in (3, 4))
    for key, weights in solver.energy.state_dict().items():
        assert torch.equal(weights, again[key])
        assert not torch.equal(weights, other[key])
    assert not any(torch.equal(*pair) for pair in zip(solver.energy.parameters(), before, strict=True))
    solver.save_pretrained(tmp_path, training=best(name).to_json())
    loaded = EnergySolver.from_pretrained(tmp_path)
    x, target = task.sample(50, "same", generator(1))
    solution = loaded.minimize(x, generator=generator(2))
    assert solution.converged.all()
    assert task.error(solution, target).mean() < (ENOUGH[name] or (x - target).square().mean())
