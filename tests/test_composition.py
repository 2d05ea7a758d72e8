"""Recursive application of an operator: order, number of calls, what is refused, failures that are not hidden."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from energysolve import SGD, Energy, EnergySolver, GradientNorm, Solution, Status, Zeros, compose


class Affine:
    """The exact operator ``2 a - b``, whose result depends on the order; it notes its calls."""

    def __init__(self, weights=(2.0, -1.0)):
        self.weights, self.calls = weights, []

    def solve(self, x, max_steps=None, *, generator=None):
        self.calls.append((x, max_steps, generator))
        a, b = x.chunk(2, dim=-1)
        return self.solution(self.weights[0] * a + self.weights[1] * b)

    def solution(self, y):
        count = len(y)
        status = torch.full((count,), int(Status.CONVERGED))
        return Solution(y, None, torch.zeros(count), torch.full((count,), 3), status)


class Sum(Energy):
    def evaluate(self, context, y):
        return (y - context.reshape(len(context), 2, -1).sum(1)).square().sum(1)


def adder(energy=None, **fields):
    solver = EnergySolver(energy or Sum(), SGD(lr=0.5), init=Zeros((3,)), halting=GradientNorm(1e-12), max_steps=5)
    return solver.replace(**fields)


def operands(count, batch=4, size=3):
    return list(torch.randn(count, batch, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("count", [2, 3, 6])
def test_composed_additions_are_the_sum(count):
    terms = operands(count)
    found = compose(adder(), terms)
    assert len(found.solutions) == count - 1
    for k, solution in enumerate(found.solutions):
        torch.testing.assert_close(solution.y, sum(terms[: k + 2]), rtol=0, atol=1e-12)
    assert found.y is found.solutions[-1].y
    assert found.status.tolist() == [Status.CONVERGED] * 4
    assert found.steps.tolist() == [count - 1] * 4  # with half the inverse curvature as step size, one step each


def test_order_and_number_of_calls():
    a, b, c, d = terms = operands(4)
    operator, generator = Affine(), torch.Generator()
    found = compose(operator, terms, max_steps=7, generator=generator)
    first = 2 * a - b
    second = 2 * first - c
    expected = [torch.cat(pair, -1) for pair in ((a, b), (first, c), (second, d))]
    assert len(operator.calls) == 3
    for (x, steps, given), wanted in zip(operator.calls, expected, strict=True):
        torch.testing.assert_close(x, wanted, rtol=0, atol=0)
        assert steps == 7
        assert given is generator
    torch.testing.assert_close(found.y, 2 * second - d, rtol=0, atol=0)
    assert found.steps.tolist() == [9] * 4


def test_one_tensor_of_operands():
    terms = operands(5)
    torch.testing.assert_close(compose(adder(), torch.stack(terms, 1)).y, compose(adder(), terms).y, rtol=0, atol=0)
    assert compose(Affine(), torch.zeros(0, 3, 2)).y.shape == (0, 2)


def test_steps_go_to_the_solver():
    found = compose(adder(optimizer=SGD(lr=0.1)), operands(3), max_steps=2)
    assert [solution.steps.tolist() for solution in found.solutions] == [[2] * 4] * 2
    assert found.status.tolist() == [Status.MAX_STEPS] * 4


def test_join_makes_the_problem():
    """Matrices applied to a vector one after the other, the newest from the left."""

    class Product(Affine):
        def solve(self, x, max_steps=None, *, generator=None):
            return self.solution((x["matrix"] @ x["vector"].unsqueeze(-1)).squeeze(-1))

    vector, first, second = torch.randn(4, 3), torch.randn(4, 3, 3), torch.randn(4, 3, 3)
    found = compose(Product(), [vector, first, second], join=lambda y, o: {"vector": y, "matrix": o})
    torch.testing.assert_close(found.y, (second @ first @ vector.unsqueeze(-1)).squeeze(-1))


def test_gradients_reach_the_operands():
    terms = [operand.requires_grad_() for operand in operands(3)]
    compose(Affine(), terms).y.sum().backward()
    assert [float(operand.grad.unique()) for operand in terms] == [4, -2, -1]


def test_an_intermediate_answer_that_is_not_finite_is_reported():
    class Overflowing(Affine):
        def solve(self, x, max_steps=None, *, generator=None):
            solution = super().solve(x, max_steps, generator=generator)
            if len(self.calls) == 1:
                solution.y[1, 0], solution.y[2, 2] = torch.inf, torch.nan
            return solution

    found = compose(Overflowing((0.0, 1.0)), operands(3))  # 0 * inf: the failure would go on as a NaN
    assert found.solutions[0].status.tolist() == [0, Status.NONFINITE, Status.NONFINITE, 0]
    assert found.status.tolist() == [0, Status.NONFINITE, Status.NONFINITE, 0]
    with pytest.raises(RuntimeError, match="indices"):
        found.solutions[0].raise_for_status()


def test_a_failure_that_the_next_operation_recovers_from_is_reported():
    class Cliff(Sum):
        """Infinite where the sum of the first operand and the second is above 10."""

        def evaluate(self, context, y):
            total = context.reshape(len(context), 2, -1).sum(1)
            return torch.where(total.amax(1) > 10, torch.inf, 1.0) * super().evaluate(context, y)

    terms = [torch.zeros(3, 3) for _ in range(3)]
    terms[0][1] = 11.0
    found = compose(adder(Cliff()), terms)
    # Sample 1 keeps the initial point, zero, with which the second operation has no trouble.
    assert found.solutions[1].status.tolist() == [Status.CONVERGED] * 3
    assert found.y.isfinite().all()
    assert found.status.tolist() == [Status.CONVERGED, Status.NONFINITE, Status.CONVERGED]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([], ValueError, "2 operands or more, got 0"),
        ([torch.zeros(4, 3)], ValueError, r"2 operands or more, got 1: k operations take k \+ 1"),
        (torch.zeros(4, 1, 3), ValueError, "got 1"),
        (torch.zeros(4, 3), ValueError, r"\(4, 3\); expected \(batch, count, size\)"),
        ([torch.zeros(4, 3), torch.zeros(4, 2)], ValueError, r"Operand 2 has shape \(4, 2\).*\(4, 3\).*join="),
        ([torch.zeros(4, 3), torch.zeros(5, 3)], ValueError, r"Operand 2 has shape \(5, 3\)"),
        ([torch.zeros(()), torch.zeros(())], ValueError, "without a batch dimension"),
        ([torch.zeros(4, 3), None], TypeError, "None"),  # the message is the type checker's or our own
    ],
)
def test_operands_that_do_not_fit_are_refused_before_anything_is_solved(given, error, message):
    operator = Affine()
    with pytest.raises(error, match=message):
        compose(operator, given)
    assert operator.calls == []


def test_batch_sizes_are_checked_with_join_too():
    with pytest.raises(ValueError, match=r"Operand 3 has 5 samples.*operand 1 has 4"):
        compose(Affine(), [torch.zeros(4, 3), torch.zeros(4, 2), torch.zeros(5, 1)], join=lambda y, o: y)


def test_answers_that_cannot_be_operands_are_refused():
    class Answers(Affine):
        def __init__(self, y):
            self.y = y

        def solve(self, x, max_steps=None, *, generator=None):
            return replace(self.solution(torch.zeros(4)), y=self.y)

    with pytest.raises(ValueError, match=r"answered with shape \(4, 6\), but operands have shape \(4, 3\)"):
        compose(Answers(torch.zeros(4, 6)), operands(2))
    with pytest.raises(ValueError, match="one row"):
        compose(Answers(torch.zeros(8, 3)), operands(2), join=lambda y, o: o)
    with pytest.raises(TypeError, match="answered with a dict"):
        compose(Answers({}), operands(2))


@pytest.mark.parametrize("solver", [Affine, nn.Linear(2, 1), None])
def test_what_cannot_solve_is_refused(solver):
    with pytest.raises(TypeError, match=r"method solve|Operator"):  # our own message, or the type checker's
        compose(solver, operands(2))
