"""Floors against closed forms; Gibbs sampling against numerical integration and against what a posterior mean obeys."""

import json
import math

import numpy as np
import pytest
import torch

from energysolve.experiments.limits import bounds, gibbs
from energysolve.experiments.limits.bounds import LimitSample, completion_factor
from energysolve.experiments.limits.gibbs import PosteriorMean, conditional, posterior_mean
from energysolve.seeding import stream
from energysolve.tasks import Completion


def completion_problems(task, difficulty, count, generator):
    """Problems, targets and the factor V that made them."""
    state = generator.get_state()
    x, target = task.sample(count, difficulty, generator)
    return x, target, completion_factor(task, difficulty, target, state)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def integrated(x, scale, noise):
    """Mean and variance of the last entry of a 2x2 matrix of rank 1 given the three others, by quadrature over u.

    Given u, the two columns are independent, and each entry of v is Gaussian.
    """
    axis = np.linspace(-7, 7, 701)
    u = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    design = u / scale
    log_weight = -(u**2).sum(-1) / 2
    for column, count in ((0, 2), (1, 1)):
        # x = design v + noise: of covariance design designᵀ + noise² I, by the determinant and Sherman-Morrison.
        d, values = design[..., :count], x[:count, column]
        power = (d**2).sum(-1) / noise**2
        projected = (d * values).sum(-1) / noise**2
        log_weight -= 0.5 * (np.log1p(power) + (values**2).sum() / noise**2 - projected**2 / (1 + power))
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    precision = 1 + design[..., 0] ** 2 / noise**2
    v_mean = design[..., 0] * x[0, 1] / noise**2 / precision
    mean = (weight * design[..., 1] * v_mean).sum()
    square = (weight * design[..., 1] ** 2 * (v_mean**2 + 1 / precision)).sum()
    return mean, square - mean**2 + noise**2


@pytest.mark.parametrize(("scale", "noise"), [(1.0, 0.5), (2.0, 0.3)])
def test_the_posterior_mean_agrees_with_numerical_integration(scale, noise):
    x = torch.tensor([[[1.2, 0.7], [-0.9, 5.0]], [[0.4, -1.1], [1.5, 5.0]]], dtype=torch.float64)
    seen = torch.tensor([[True, True], [True, False]]).expand(2, 2, 2)
    sampling = {"sweeps": 150, "burn_in": 50, "chains": 400}
    found = posterior_mean(x, seen, scale=scale, noise=noise, rank=1, **sampling, generator=generator())
    for problem in range(2):
        mean, variance = integrated(x[problem].numpy(), scale, noise)
        chains = found.estimates[-1, :, problem, 1, 1]
        error = (chains.std() / len(chains) ** 0.5).item()
        assert error < 0.01 < abs(mean)
        assert abs(found.mean[problem, 1, 1].item() - mean) < 4 * error
        assert found.variance[problem, 1, 1].item() == pytest.approx(variance, rel=0.05)
    torch.testing.assert_close(found.mean[seen], x[seen], rtol=0, atol=1e-12)
    assert (found.variance[seen] == 0).all()


def test_the_conditional_distribution_of_a_factor():
    draw = generator()
    v = torch.randn(3, 7, 4, generator=draw, dtype=torch.float64)
    x = torch.randn(3, 5, 7, generator=draw, dtype=torch.float64)
    seen = torch.rand(3, 5, 7, generator=draw) < 0.5
    seen[0, 2] = False
    scale, noise = 1.7, 0.3
    mean, root = conditional(v, x, seen, scale, noise)
    for problem in range(3):
        for row in range(5):
            # By conditioning the joint Gaussian of u and the seen entries, which the precisions do not enter.
            design = v[problem, seen[problem, row]].numpy() / scale
            gain = design.T @ np.linalg.inv(design @ design.T + noise**2 * np.eye(len(design)))
            np.testing.assert_allclose(
                mean[problem, row], gain @ x[problem, row, seen[problem, row]].numpy(), atol=1e-9
            )
            covariance = np.linalg.inv((root[problem, row] @ root[problem, row].T).numpy())
            np.testing.assert_allclose(covariance, np.eye(4) - gain @ design, atol=1e-9)


@pytest.fixture(scope="module")
def small():
    """Problems, targets, V, and their posterior mean; 8x8, of rank 2."""
    task = Completion(8, 8, rank=2, noise=0.1)
    x, target, v = completion_problems(task, "harder", 200, generator(1))
    model = {"scale": task.scale("harder"), "noise": task.noise, "rank": task.rank}
    found = posterior_mean(x, x != 0, **model, sweeps=200, burn_in=50, generator=generator(2))
    return task, x, target, v, model, found


def test_the_posterior_mean_beats_copying_and_scaling_it(small):
    task, x, target, _, _, found = small
    best = task.error_of(found.mean, x, target)
    assert best.mean() < 0.85 * task.error_of(x, x, target).mean()
    for factor in (0.8, 1.2):
        scaled = torch.where(x != 0, x, factor * found.mean)
        assert best.mean() < task.error_of(scaled, x, target).mean()


def test_the_posterior_variance_is_the_error(small):
    _, _, target, _, _, found = small
    error, variance = found.error(target)[-1], found.variance.mean((1, 2))
    difference = error - found.monte_carlo_variance()[-1] - variance
    assert abs(difference.mean().item()) < 4 * bounds.standard_error(difference)
    assert bounds.standard_error(difference) < 0.1 * error.mean()


def test_chains_mix(small):
    *_, found = small
    assert found.r_hat.median() < 1.01
    # Not of all: the posterior of a few of these small matrices has two modes, which R-hat shows.
    assert found.r_hat.flatten().quantile(0.95) < 1.2
    assert (found.monte_carlo_variance()[-1] / found.monte_carlo_variance()[0]).median() < 0.1


def test_chains_from_the_truth_come_from_below_and_others_from_above(small):
    _, x, target, v, model, found = small
    limit = found.error(target)[-1].mean()
    sampling = {"sweeps": 4, "burn_in": 0, "chains": 8, "generator": generator(3)}
    prior = posterior_mean(x, x != 0, **model, **sampling)
    truth = posterior_mean(x, x != 0, **model, **sampling, start=v)
    assert truth.error(target)[0].mean() < 0.9 * limit < 1.1 * limit < prior.error(target)[0].mean()


def test_all_seen_and_nothing_seen():
    task = Completion(4, 5, rank=2, noise=0.1)
    _, target = task.sample(200, "harder", generator())
    model = {"scale": 5.0, "noise": 0.1, "rank": 2, "sweeps": 50, "burn_in": 0, "chains": 4}
    full = posterior_mean(target, torch.ones_like(target, dtype=torch.bool), **model, generator=generator())
    torch.testing.assert_close(full.mean, target)
    assert (full.variance == 0).all()
    assert (full.r_hat == 1).all()
    empty = posterior_mean(target, torch.zeros_like(target, dtype=torch.bool), **model, generator=generator())
    assert (empty.mean == 0).all()
    assert (empty.r_hat == 1).all()
    assert empty.variance.mean().item() == pytest.approx(2 / 25 + 0.01, rel=0.05)


def test_values_that_are_not_seen_do_not_matter():
    x, target = Completion(6, 5, rank=2).sample(3, "harder", generator())
    model = {"scale": 5.0, "noise": 0.1, "rank": 2, "sweeps": 4, "burn_in": 1}
    first = posterior_mean(x, x != 0, **model, generator=generator())
    hidden = torch.where(x != 0, target, math.nan)
    second = posterior_mean(hidden, x != 0, **model, generator=generator())
    assert torch.equal(first.estimates, second.estimates)
    double = posterior_mean(x.double(), x != 0, **model, generator=generator())
    assert double.estimates.dtype == double.variance.dtype == double.r_hat.dtype == torch.float64


def test_the_monte_carlo_variance_is_what_the_mean_of_chains_errs_too_much():
    # Estimates that vary about the exact answer by a known amount.
    exact, target = torch.randn(2, 300, 4, 5, generator=generator(), dtype=torch.float64)
    noise = torch.randn(1, 3, 300, 4, 5, generator=generator(1), dtype=torch.float64)
    found = PosteriorMean((4,), exact + 0.6 * noise, torch.zeros_like(exact), torch.ones_like(exact))
    assert found.monte_carlo_variance().mean().item() == pytest.approx(0.36 / 3, rel=0.05)
    corrected = found.error(target) - found.monte_carlo_variance()
    assert corrected.mean().item() == pytest.approx((exact - target).square().mean().item(), rel=0.02)
    assert found.chain_errors(target).shape == (1, 3, 300)


def test_split_r_hat():
    series = np.random.default_rng(0).normal(size=(3, 10))
    series[1] += 2.0
    halves = gibbs._Moments(), gibbs._Moments()
    for step in range(10):
        halves[step >= 5].add(torch.tensor(series[:, step])[:, None, None, None])
    split = series.reshape(6, 5)
    within = split.var(1, ddof=1).mean()
    expected = math.sqrt((4 / 5 * within + split.mean(1).var(ddof=1)) / within)
    assert gibbs._split_r_hat(*halves).item() == pytest.approx(expected)
    assert expected > 1.3


@pytest.mark.parametrize(
    "wrong", [{"noise": 0.0}, {"scale": 0.0}, {"rank": 0}, {"sweeps": 3}, {"burn_in": -1}, {"chains": 1}]
)
def test_wrong_arguments(wrong):
    right = {"scale": 5.0, "noise": 0.1, "rank": 2, "sweeps": 4, "burn_in": 0, "chains": 2}
    x = torch.ones(1, 2, 2)
    posterior_mean(x, x > 0, **right)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        posterior_mean(x, x > 0, **(right | wrong))


def test_the_factor_that_made_the_problems():
    task = Completion(9, 8, rank=3, noise=1e-3)
    x, target, v = completion_problems(task, "harder", 5, generator())
    assert torch.equal(x, task.sample(5, "harder", generator())[0])
    # The rows of the target lie in the span of V's columns, but for the noise.
    outside = target.mT - v @ torch.linalg.lstsq(v, target.mT).solution
    assert outside.abs().max() < 5e-3

    class Other(Completion):
        def sample(self, batch, difficulty="same", generator=None, device=None):
            torch.rand(1, generator=generator)
            return super().sample(batch, difficulty, generator, device)

    with pytest.raises(RuntimeError, match="other problems"):
        completion_problems(Other(), "harder", 5, generator())


def test_summaries_of_joined_samples():
    parts = []
    for seed in range(2):
        values = torch.rand(5, 10, generator=generator(seed), dtype=torch.float64)
        raw = torch.stack([values[0], values[1]])
        parts.append(LimitSample(1 + values[2], raw, 0.1 * raw, values[3:5], values[4], 1 + values[0]))
    whole = LimitSample.joined(parts)
    assert whole.raw.shape == (2, 20)
    told = whole.summary()
    assert told["error"] == pytest.approx(0.9 * whole.raw[-1].mean().item())
    assert told["ratio"] == pytest.approx(told["error"] / told["copy"])
    assert whole.curves()["ratio"][-1] == pytest.approx(told["ratio"])
    assert told["raw_error"] == pytest.approx(told["error"] + told["monte_carlo_bias"])


def test_the_command_writes_the_results_and_the_figure(tmp_path):
    path = tmp_path / "limits.json"
    few = {"problems": 40, "means": 50, "gibbs-problems": 5, "sweeps": 8, "burn-in": 0, "chains": 3, "chunk": 3}
    options = [text for name, value in few.items() for text in (f"--{name}", str(value))]
    bounds.main(["--output", str(path), *options, "--seed", "4"])
    result = json.loads(path.read_text())
    assert result["kind"] == "limits"
    assert result["complete"] is True
    assert result["seed"] == 4
    assert "--gibbs-problems 5" in result["command"]
    assert {"versions", "hardware", "date"} <= set(result)
    assert set(result["tasks"]) == {"addition", "inverse", "completion"}
    x, target = Completion().sample(40, "harder", stream("limits completion harder", 4))
    told = result["tasks"]["completion"]["harder"]
    assert told["floors"]["copy"]["error"] == pytest.approx((x - target).square().mean().item())
    limit = told["limit"]
    assert limit["problems"] == 5
    assert limit["copy"] == pytest.approx((x - target)[:5].square().mean().item())
    assert limit["by_sweeps"]["sweeps"] == [1, 2, 4, 8]
    assert len(limit["by_sweeps"]["ratio"]) == len(limit["from_truth"]["by_sweeps"]["ratio"]) == 4
    # After one sweep, the chains that started at the true factors still know the answer.
    assert limit["from_truth"]["by_sweeps"]["raw_ratio"][0] < 0.6 < limit["by_sweeps"]["raw_ratio"][0]
    for suffix in ("png", "svg"):
        assert (tmp_path / f"limits-completion.{suffix}").stat().st_size > 10_000


def test_partial_results_are_kept():
    setting = bounds.Budget(problems=10, means=10, gibbs_problems=4, sweeps=4, burn_in=0, chains=2, chunk=2)
    counts = []
    for tasks in bounds.measure(setting):
        json.dumps(tasks, allow_nan=False)
        counts.append(tasks["completion"].get("harder", {}).get("limit", {}).get("problems", 0))
    assert counts[-3:] == [0, 2, 4]
    with pytest.raises(ValueError, match="gibbs_problems"):
        bounds.Budget(problems=10, gibbs_problems=11)
