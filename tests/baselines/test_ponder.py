"""PonderNet: the halting distribution, the loss against NumPy, and halting as it is sampled."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from energysolve import Status
from energysolve.baselines import PonderNet
from energysolve.baselines.ponder import halting_distribution

STEPS = 5


def make(**options) -> PonderNet:
    torch.manual_seed(0)
    model = PonderNet(6, (3,), **({"width": 16} | options)).double()
    torch.nn.init.normal_(model.halt.weight, std=2.0)  # so that the probabilities differ between samples and steps
    return model


def by_hand(model, x, steps):
    """Answers ``(steps, batch, 3)`` and probabilities to halt ``(batch, steps)``, in NumPy."""
    layers = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in model.hidden[::2]]
    (head, head_bias), (halt, halt_bias) = (
        (layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in (model.head, model.halt)
    )
    y, answers, lambdas = np.zeros((len(x), 3)), [], []
    for _ in range(steps):
        h = np.concatenate([x.numpy(), y], 1)
        for weight, bias in layers:
            h = np.maximum(h @ weight.T + bias, 0)
        y = h @ head.T + head_bias
        answers.append(y)
        lambdas.append(1 / (1 + np.exp(-(h @ halt.T + halt_bias)[:, 0])))
    return np.stack(answers), np.stack(lambdas, 1)


def probabilities(lambdas):
    """To halt at each step, the last getting what remains."""
    p, remaining = np.empty_like(lambdas), np.ones(len(lambdas))
    for n in range(lambdas.shape[1] - 1):
        p[:, n] = remaining * lambdas[:, n]
        remaining = remaining * (1 - lambdas[:, n])
    p[:, -1] = remaining
    return p


@given(st.lists(st.floats(-200, 200), min_size=1, max_size=9))
def test_the_halting_distribution_sums_to_one(logits):
    found = halting_distribution(torch.tensor([logits], dtype=torch.float64)).exp()
    torch.testing.assert_close(found.sum(1), torch.ones(1, dtype=torch.float64))
    expected = probabilities(1 / (1 + np.exp(-np.array([logits]))))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(("beta", "prior", "steps"), [(0.01, 0.8, 5), (2.0, 0.8, 5), (1.0, 0.3, 3), (0.5, 0.5, 1)])
def test_the_loss_is_that_of_the_publication(beta, prior, steps):
    model = make(beta=beta, prior=prior, train_steps=steps)
    x, target = torch.randn(9, 6, dtype=torch.float64), torch.randn(9, 3, dtype=torch.float64)
    answers, lambdas = by_hand(model, x, steps)
    p = probabilities(lambdas)
    errors = ((answers - target.numpy()) ** 2).mean(-1).T
    g = prior * (1 - prior) ** np.arange(steps)
    g /= g.sum()
    expected = (p * errors).sum(1).mean() + beta * (p * np.log(p / g)).sum(1).mean()
    assert model.loss(x, target).item() == pytest.approx(expected, rel=1e-10)


def test_the_loss_stays_finite_where_halting_is_certain():
    for bias in (-1e4, 1e4):
        model = make()
        torch.nn.init.zeros_(model.halt.weight)
        torch.nn.init.constant_(model.halt.bias, bias)
        loss = model.loss(torch.randn(4, 6, dtype=torch.float64), torch.zeros(4, 3, dtype=torch.float64))
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad.isfinite().all() for p in model.parameters())


def test_the_prior_is_what_the_probabilities_go_to():
    """With nothing but the divergence to minimize, each step halts with the probability of the prior."""
    model = make(beta=100.0, prior=0.8, width=8)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    x, target = torch.randn(32, 6, dtype=torch.float64), torch.zeros(32, 3, dtype=torch.float64)
    for _ in range(400):
        optimizer.zero_grad()
        model.loss(x, target).backward()
        optimizer.step()
    _, lambdas = by_hand(model, x, STEPS)
    p = probabilities(lambdas).mean(0)
    g = 0.8 * 0.2 ** np.arange(STEPS)
    np.testing.assert_allclose(p, g / g.sum(), atol=0.01)


def test_halting_is_sampled_with_these_probabilities():
    """Of each sample, drawn many times over; beyond the steps of training, too. Bounds of five standard deviations."""
    count, steps = 20_000, 7
    model, problems = make(), torch.randn(4, 6, dtype=torch.float64)
    _, lambdas = by_hand(model, problems, steps)
    p = probabilities(lambdas)
    assert ((p > 0.02) & (p < 0.98)).sum() > 8
    x = problems.repeat_interleave(count, 0)
    solution = model.solve(x, steps, generator=torch.Generator().manual_seed(0))
    for index in range(4):
        taken = solution.steps[index * count : (index + 1) * count]
        found = torch.bincount(taken, minlength=steps + 1)[1:].numpy() / count
        bound = 5 * np.sqrt(p[index] * (1 - p[index]) / count) + 1e-4
        assert (np.abs(found - p[index]) < bound).all(), (found, p[index])


def test_answers_are_those_of_the_step_at_which_a_sample_halted():
    model, x = make(), torch.randn(50, 6, dtype=torch.float64)
    answers, _ = by_hand(model, x, STEPS)
    solution = model.solve(x, generator=torch.Generator().manual_seed(1))
    assert len(solution.steps.unique()) > 2
    for index, steps in enumerate(solution.steps.tolist()):
        np.testing.assert_allclose(solution.y[index].numpy(), answers[steps - 1, index])
    assert torch.equal(solution.status == Status.CONVERGED, solution.steps < STEPS)
    assert torch.equal(solution.status == Status.MAX_STEPS, solution.steps == STEPS)


def test_one_number_is_drawn_for_every_sample_and_step():
    """A sample that goes on uses its own numbers, whichever others have halted."""
    model, x = make(), torch.randn(30, 6, dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    _, lambdas = by_hand(model, x, STEPS)
    expected = np.full(30, STEPS)
    for n in range(STEPS - 1):
        halts = torch.rand(30, generator=generator).numpy() < lambdas[:, n]
        expected = np.where((expected == STEPS) & halts, n + 1, expected)
    found = model.solve(x, generator=torch.Generator().manual_seed(2)).steps
    assert found.tolist() == expected.tolist()


def test_steps_end_when_all_samples_have_halted():
    model, x = make(), torch.randn(5, 6, dtype=torch.float64)
    torch.nn.init.constant_(model.halt.bias, 100.0)
    calls = []
    model.head.register_forward_hook(lambda *_: calls.append(1))
    solution = model.solve(x, 1000)
    assert len(calls) == 1
    assert solution.converged.all()
    assert model.solve(x, 1).status.tolist() == [Status.MAX_STEPS] * 5


@pytest.mark.parametrize("options", [{"prior": 0.0}, {"prior": 1.0}, {"beta": -1.0}, {"prior": float("nan")}])
def test_bad_settings(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        make(**options)
