"""Mistakes that would end in an error of torch or Python, or be solved as something else, are named with a remedy."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from energysolve import (
    LBFGS,
    SGD,
    Adam,
    EnergyChange,
    EnergySolver,
    FromInput,
    GradientNorm,
    Implicit,
    MLPEnergy,
    Momentum,
    NewtonCG,
    Trainer,
    Truncated,
    Uniform,
    Unroll,
    Zeros,
)
from energysolve.differentiation import DifferentiationWarning
from energysolve.tasks import Addition
from energysolve.uncertainty import hessian

MODES = [Truncated(1), Truncated(3), Unroll(), Implicit()]


def bowl(x, y):
    return (y - x).square().sum(-1)


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value):
        ctx.save_for_backward(value)
        return value**3

    @staticmethod
    @once_differentiable
    def backward(ctx, *cotangents):
        (value,) = ctx.saved_tensors
        return 3 * value**2 * cotangents[0]


def attention(x, y):
    query, value = y.unsqueeze(1), x.unsqueeze(1)
    return F.scaled_dot_product_attention(query, query, value).square().sum((1, 2, 3))


def distances(x, y):
    return torch.cdist(y, x).sum((1, 2))


compiled = torch.compile(bowl, backend="aot_eager")
ONCE = {
    "once_differentiable": lambda x, y: bowl(x, y) + Cube.apply(y).square().sum(-1),
    "scaled_dot_product_attention": attention,
    "cdist": distances,
    "compiled": compiled,
}


@pytest.mark.parametrize("name", ONCE)
@pytest.mark.parametrize("mode", MODES, ids=repr)
def test_energies_without_a_second_derivative(mode, name):
    """Refused with every mode that needs one; found as ever without one."""
    shape = (2, 3, 4) if name in ("scaled_dot_product_attention", "cdist") else (2, 4)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    solver = EnergySolver(ONCE[name], SGD(0.01), halting=EnergyChange(rtol=0.5), max_steps=20)
    assert (solver.minimize(x, x + 0.5).steps > 0).all()
    x.requires_grad_()
    with pytest.raises(RuntimeError, match=r"no second derivative.*plain operations"):
        solver.replace(differentiation=mode).minimize(x, x.detach() + 0.5)


@pytest.mark.parametrize("name", ["once_differentiable", "compiled"])
def test_newton_steps_need_a_second_derivative(name):
    solver = EnergySolver(ONCE[name], NewtonCG(), init=Zeros((4,)))
    with pytest.raises(RuntimeError, match="no second derivative"):
        solver.minimize(torch.ones(2, 4))


@pytest.mark.parametrize("name", ["cdist", "scaled_dot_product_attention"])
def test_training_needs_a_second_derivative(name):
    """The error of the backward pass of a training step."""

    class Learned(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x, y):
            cubes = [each.view(-1, 2, 2) for each in (x[:, :4], self.weight * y)]
            return ONCE[name](*cubes)

    solver = EnergySolver(Learned(), SGD(0.1), init=Zeros((4,)))
    trainer = Trainer(solver, Addition(4), batch_size=3, train_steps=2, differentiation=Truncated(1))
    with pytest.raises(RuntimeError, match="no second derivative"):
        trainer.fit(iterations=1)


def test_hessians_need_a_second_derivative():
    solver = EnergySolver(ONCE["once_differentiable"], SGD(0.01), init=Zeros((4,)), max_steps=3)
    x = torch.ones(2, 4)
    with pytest.raises(RuntimeError, match="no second derivative"):
        hessian(solver, x, solver.minimize(x))


def test_a_custom_function_with_a_second_derivative_is_accepted():
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value):
            ctx.save_for_backward(value)
            return value**2

        @staticmethod
        def backward(ctx, *cotangents):
            return 2 * ctx.saved_tensors[0] * cotangents[0]

    def energy(x, y):
        return Square.apply(y - x).sum(-1)

    x = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    for mode in (Unroll(), Implicit()):
        solver = EnergySolver(energy, NewtonCG(), init=Zeros((3,)), differentiation=mode)
        (gradient,) = torch.autograd.grad(solver.minimize(x).y.sum(), x)
        torch.testing.assert_close(gradient, torch.ones_like(x))


@pytest.mark.parametrize("transform", ["grad", "vmap", "jacrev"])
def test_transformations_of_torch_func(transform):
    solver = EnergySolver(bowl, SGD(0.1), init=Zeros((3,)), max_steps=3, differentiation=Unroll())
    function = getattr(torch.func, transform)
    argument = torch.ones(4, 2, 3) if transform == "vmap" else torch.ones(2, 3)
    with pytest.raises(RuntimeError, match=r"torch\.func.*differentiation=Implicit"):
        function(lambda x: solver.minimize(x).y.sum())(argument)
    assert solver.minimize(torch.ones(2, 3)).y.shape == (2, 3)


def test_an_energy_may_use_torch_func():
    slope = torch.func.grad(lambda y: y.square().sum() / 2)
    solver = EnergySolver(lambda x, y: (slope(y) - x).square().sum(-1), init=Zeros((3,)))
    torch.testing.assert_close(solver.minimize(torch.ones(2, 3)).y, torch.ones(2, 3))


def outside(x, y):
    return torch.linalg.cholesky(torch.diag_embed(y)).diagonal(dim1=1, dim2=2).log().sum(1)


def outer(x, y):
    return torch.as_tensor(np.sin(y)).sum(-1)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, x, y):
        return self.linear(x + y).squeeze(-1).square()


@pytest.mark.parametrize(("energy", "words"), [
    (outside, r"inf or NaN.*cholesky_ex.*torch says: linalg\.cholesky: \(Batch element 1\)"),
    (outer, r"converts y to numpy.*torch says"),
    (Network(), r"precisions.*x\.float\(\).*solver\.double\(\).*torch says: mat1 and mat2"),
])  # fmt: skip
def test_errors_inside_an_energy(energy, words):
    y = torch.tensor([[1.0, 2.0, 3.0], [1.0, -2.0, 3.0]], dtype=torch.float64)
    with pytest.raises(RuntimeError, match=words):
        EnergySolver(energy, SGD(0.1)).minimize(torch.ones_like(y), y)


def test_errors_of_the_user_stay_as_they_are():
    def energy(x, y):
        raise RuntimeError("my own words")

    with pytest.raises(RuntimeError, match=r"^my own words$"):
        EnergySolver(energy, SGD(0.1)).minimize(torch.ones(1, 1), torch.ones(1, 1))


def writes_y(x, y):
    y.data.clamp_(0, 1)
    return bowl(x, y)


def writes_y_without_gradients(x, y):
    with torch.no_grad():
        y.clamp_(0, 1)
    return bowl(x, y)


def writes_y_plainly(x, y):
    return bowl(x, y.clamp_(0, 1))


def writes_x(x, y):
    return bowl(x.mul_(2), y)


@pytest.mark.parametrize("energy", [writes_y, writes_y_without_gradients, writes_y_plainly, writes_x])
@pytest.mark.parametrize("optimizer", [SGD(0.1), LBFGS()], ids=repr)
def test_an_energy_that_changes_what_it_is_given(energy, optimizer):
    x, y = torch.ones(2, 3), torch.full((2, 3), 5.0)
    with pytest.raises((ValueError, RuntimeError), match=r"in place.*clamp\(0, 1\)"):
        EnergySolver(energy, optimizer).minimize(x, y)
    assert (y == 5).all()  # the caller's answers


def test_an_energy_that_changes_y_later():
    """It is not seen at the first evaluation; the caller's tensors are the caller's."""
    calls = []

    def energy(x, y):
        calls.append(0)
        if len(calls) > 2:
            y.data.clamp_(0, 1)
        return bowl(x, y)

    y = torch.full((2, 3), 5.0)
    EnergySolver(energy, SGD(0.1), max_steps=5).minimize(torch.ones(2, 3), y)
    assert (y == 5).all()
    x = torch.ones(2, 3)
    EnergySolver(energy, SGD(0.1), init=FromInput(), max_steps=5).minimize(x)
    assert (x == 1).all()


def test_nested_tensors():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nested = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)])
    with pytest.raises(ValueError, match=r"nested.*mask.*Segment"):
        EnergySolver(bowl, SGD(0.1), init=Zeros((3,))).minimize(nested)
    with pytest.raises(ValueError, match="nested"):
        EnergySolver(bowl, SGD(0.1)).minimize(torch.ones(2, 3), nested)


@pytest.mark.parametrize("named", ["x", "y"])
def test_a_gradient_through_a_detached_solution(named):
    x, y = torch.ones(2, 3), torch.zeros(2, 3)
    (x if named == "x" else y).requires_grad_()
    solver = EnergySolver(bowl, SGD(0.1), max_steps=2)
    with pytest.warns(DifferentiationWarning, match=r"differentiation=Implicit\(\), Truncated\(k\) or Unroll\(\)"):
        assert not solver.minimize(x, y).y.requires_grad
    with torch.no_grad():
        solver.minimize(x, y)
    solver.minimize(x.detach(), y.detach())


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    "optimizer", [torch.optim.Adam, torch.optim.SGD([torch.ones(1)], lr=0.1)], ids=["kind", "made"]
)
def test_optimizers_of_torch(optimizer):
    with pytest.raises(TypeError, match=r"torch\.optim\.(Adam|SGD) holds parameters.*Adam\(lr\).*TorchOpt\(lambda"):
        EnergySolver(bowl, optimizer)


def test_unknown_arguments_of_minimize():
    solver = EnergySolver(bowl, SGD(0.1), init=Zeros((3,)))
    with pytest.raises(TypeError, match=r"no argument 'steps'; it takes x, y, z, max_steps.*Did you mean max_steps=\?"):
        solver.minimize(torch.ones(2, 3), steps=5)
    with pytest.raises(TypeError, match="no argument 'steps'"):
        solver(torch.ones(2, 3), steps=5)
    assert (solver.minimize(x=torch.ones(2, 3), max_steps=5).steps == 5).all()


@pytest.mark.usefixtures("no_type_checks")
def test_from_input_of_a_key():
    with pytest.raises(TypeError, match=r"FromInput\(lambda x: x\['image'\]\)"):
        FromInput("image")


def test_x_of_one_dimension_is_one_problem_or_many():
    x = torch.arange(5.0)
    solver = EnergySolver(bowl, SGD(0.1), init=Uniform((5,)), max_steps=3)
    with pytest.raises(ValueError, match=r"shape \(5,\).*a batch of 5.*x\.unsqueeze\(0\)"):
        solver.minimize(x)
    assert solver.minimize(x.unsqueeze(0)).y.shape == (1, 5)
    with pytest.raises(ValueError, match=r"a batch of 6.*x\.unsqueeze\(0\)"):  # the summands of one addition
        EnergySolver(MLPEnergy(6, 3, width=4), SGD(0.1), init=Uniform((3,)), max_steps=3).minimize(torch.rand(6))
    scalars = EnergySolver(lambda x, y: (y.squeeze(1) - x).square(), SGD(0.1), init=Zeros((1,)), max_steps=3)
    assert scalars.minimize(x).y.shape == (5, 1)
    with pytest.raises(ValueError, match=r"leading batch dimension: x\[None\]"):
        EnergySolver(bowl, SGD(0.1)).minimize(x, x)


STEPS = {
    "round": lambda x, y: (y.round() - x).square().sum(-1),
    "sign": lambda x, y: (y.sign() - x).square().sum(-1),
    "compare": lambda x, y: (y > x).to(y.dtype).sum(-1) + 0 * y.sum(-1),
    "argmax": lambda x, y: F.one_hot((y + 0).argmax(-1), 3).to(y.dtype).mul(x).sum(-1) + 0 * y.sum(-1),
}


@pytest.mark.parametrize("optimizer", [LBFGS(), SGD(0.1), Momentum(0.1), Adam(0.1)], ids=repr)
@pytest.mark.parametrize("name", STEPS)
def test_an_energy_whose_gradient_is_zero_everywhere(name, optimizer):
    x = torch.tensor([[3.0, -2.0, 0.7], [1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match=r"gradient of the energy is zero everywhere.*argmax"):
        EnergySolver(STEPS[name], optimizer, init=Zeros((3,)), halting=GradientNorm(1e-3)).minimize(x)


def test_energies_that_are_flat_at_the_start_only():
    """At a minimum, where a rectifier is off, and a constant one."""
    x = torch.tensor([[3.0, -2.0, 0.7], [1.0, 2.0, 3.0]])
    solver = EnergySolver(bowl, SGD(0.1), halting=GradientNorm(1e-3))
    assert solver.minimize(x, x).converged.all()
    hinge = solver.replace(energy=lambda x, y: (y - x).relu().sum(-1))
    assert hinge.minimize(x, x - 1).converged.all()
    constant = solver.replace(energy=lambda x, y: 0 * y.sum(-1))
    assert constant.minimize(x, x).converged.all()


def test_a_batch_of_nothing_needs_no_slope():
    found = EnergySolver(bowl, SGD(0.1), init=Zeros((3,))).minimize(torch.ones(0, 3))
    assert found.y.shape == (0, 3)
