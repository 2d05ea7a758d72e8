"""`check_energy` finds every fault that it promises to find, each planted alone in an energy."""

import re

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from energysolve import Dense, Energy, MLPEnergy, Segment
from energysolve.testing import check_energy
from energysolve.testing.strategies import Batch, batches, energies


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


X, Y, Z = normal(4, 3), normal(4, 3, seed=1), normal(4, 3, seed=2)


def well(x, y):
    """Correct, with a Hessian that is not constant."""
    d = (y - x).square()
    return (d + 0.1 * d.square()).sum(-1)


def finds(*words: str):
    return pytest.raises(AssertionError, match="(?s)" + ".*".join(re.escape(word) for word in words))


def faulty(energy, *words: str, x=X, y=Y, z=None, **options) -> None:
    with finds(*words):
        check_energy(energy, x, y, z, **options)


# Correct energies pass.


class Encoded(Energy):
    def encode(self, x):
        return 2 * x

    def evaluate(self, context, y):
        return well(context, y)


class Padded(Energy):
    def evaluate(self, context, y, z):
        return well(context, y) + well(y, z)


def by_edges(x, y):
    return well(x["target"], y).new_zeros(x["size"]).index_add(0, x["index"], well(x["target"], y))


def pick_edges(x, samples):
    layout, rows = Segment(x["index"], x["size"]).select(samples)
    return {"target": x["target"][rows], "index": layout.index, "size": len(samples)}


EDGES = {"target": X, "index": torch.tensor([1, 0, 1, 0]), "size": 2}
BY_EDGES = {"x": EDGES, "y": Y, "layout": Segment(EDGES["index"], 2), "select": pick_edges}


@pytest.mark.parametrize(
    ("energy", "x", "y", "z"),
    [
        (well, X, Y, None),
        (well, X.float(), Y.float(), None),
        (Encoded(), X, Y, None),
        (Padded(), X, Y, Z),
        (MLPEnergy(3, 3, width=8).double(), X, Y, None),
        (MLPEnergy(3, 3, z_dim=3, width=8).double(), X, Y, Z),
        (lambda x, y: well(x["a"], y) + x["b"], {"a": X, "b": X[:, 0]}, Y, None),
        (lambda x, y: well(x, y["a"]) + well(x, y["b"][0]), X, {"a": Y, "b": (Z,)}, None),
        (lambda x, y: (x * y).sum(-1), X, Y, None),
        (lambda x, y, z: well(x, y), X, Y, Z),
    ],
)
def test_correct_energies_pass(energy, x, y, z):
    check_energy(energy, x, y, z)


def test_a_correct_energy_of_segments_passes():
    check_energy(by_edges, **BY_EDGES)


@settings(max_examples=50, deadline=None)
@given(energies(), batches(min_batch=2))
def test_energies_of_the_strategies_pass(energy, batch: Batch):
    pick = lambda x, samples: batch.select(samples).x  # noqa: E731
    check_energy(energy, batch.x, batch.y, batch.z, layout=batch.layout, select=pick)


# Results of the wrong form.


@pytest.mark.parametrize("shape", [(), (4, 1), (2,)])
def test_a_wrong_shape(shape):
    faulty(lambda x, y: well(x, y).sum() * torch.ones(shape), "returned shape", str(shape), "(4,)")


def test_no_tensor():
    faulty(lambda x, y: 1.0, "returned a float")


def test_an_integer_result():
    faulty(lambda x, y: well(x, y).long(), "dtype torch.int64")


@pytest.mark.parametrize("energy", [lambda x, y: well(x, y.detach()), lambda x, y: x.sum(-1).requires_grad_()])
def test_no_gradient(energy):
    faulty(energy, "does not depend on y")


def test_an_energy_that_is_nan_at_the_given_answers():
    faulty(lambda x, y: well(x, y) + torch.where(x[:, 0] > 1, torch.nan, 0.0), "NaN or infinite at the y")


def test_a_gradient_that_is_infinite_at_the_given_answers():
    faulty(lambda x, y: (y - x).abs().sqrt().sum(-1), "NaN or infinite at the y", y=torch.cat((X[:1], Y[1:])))


# Changes in place. The energy stays the same from the second evaluation on.


def test_x_changed_in_place():
    def energy(x, y):
        x["calls"].add_(1)
        return well(x["target"], y)

    faulty(energy, "changed x, y or z in place", x={"target": X, "calls": torch.zeros(4)})


def test_x_changed_in_place_by_encode():
    class Normalized(Energy):
        def encode(self, x):
            return x.div_(x.norm(dim=-1, keepdim=True))

        def evaluate(self, context, y):
            return well(context, y)

    faulty(Normalized(), "changed x, y or z in place", x=X.clone())


@pytest.mark.parametrize("which", ["y", "z"])
def test_answers_changed_in_place(which):
    def energy(x, y, z):
        {"y": y, "z": z}[which].data.clamp_(-0.1, 0.1)
        return well(x, y) + well(x, z)

    faulty(energy, "changed x, y or z in place", y=Y.clone(), z=Z.clone())


def test_answers_changed_in_place_where_autograd_watches():
    faulty(lambda x, y: well(x, y.mul_(2)), "changed x, y or z in place", y=Y.clone())


def test_errors_of_the_energy_itself_are_passed_on():
    def energy(x, y):
        raise RuntimeError("no such file")

    with pytest.raises(RuntimeError, match="no such file"):
        check_energy(energy, X, Y)


# Samples that do not stand alone.


def test_an_energy_that_draws_numbers():
    faulty(lambda x, y: well(x, y) + 1e-3 * torch.rand(len(x), dtype=x.dtype), "must be deterministic")


def test_dropout():
    dropout = nn.Dropout(0.5)
    faulty(lambda x, y: well(dropout(x), y), "must be deterministic", "dropout")
    dropout.eval()
    check_energy(lambda x, y: well(dropout(x), y), X, Y)


@pytest.mark.parametrize(
    "reduce", [lambda e: e.mean(), lambda e: e.amax(), lambda e: e.logsumexp(0), lambda e: e.cumsum(0)]
)
def test_samples_mixed(reduce):
    faulty(
        lambda x, y: well(x, y) + 1e-2 * reduce(well(x, y)),
        "Sample",
        "in the batch and",
        "must not depend",
    )


def test_batch_normalization():
    norm = nn.BatchNorm1d(3, track_running_stats=False).double()
    faulty(
        lambda x, y: well(norm(x), y), "Sample 0 cannot be evaluated alone", "more than 1 value per channel", "select="
    )


def test_samples_mixed_in_the_encoder():
    class Centred(Energy):
        def encode(self, x):
            return x - x.mean(0)

        def evaluate(self, context, y):
            return well(context, y)

    faulty(Centred(), "must not depend")


def test_another_shape_for_a_sample_alone():
    faulty(lambda x, y: well(x, y).squeeze(), "Sample 0 cannot be evaluated alone", "shape ()", "(1,)")


@pytest.mark.parametrize("sample", range(4))
def test_a_fault_that_one_sample_alone_shows(sample):
    def energy(x, y):
        return well(x, y) + (len(x) > 1) * (x[:, 0] == X[sample, 0])

    faulty(energy, f"Sample {sample} has energy", "must not depend")


def test_edges_mixed_across_samples():
    def energy(x, y):
        return by_edges(x, y) + 0.1 * y.mean()

    faulty(energy, "must not depend", **BY_EDGES)


def test_problems_that_cannot_be_picked_apart_ask_for_select():
    def energy(x, y):
        return torch.stack([e * scale for e, scale in zip(well(x["target"], y), x["scales"], strict=True)])

    def pick(x, samples):
        return {"target": x["target"][samples], "scales": [x["scales"][int(sample)] for sample in samples]}

    x = {"target": X, "scales": [1.0, 2.0, 3.0, 4.0]}
    faulty(energy, "Sample 0 cannot be evaluated alone", "zip()", "pass select=", x=x)
    check_energy(energy, x, Y, select=pick)


# NaN that spreads, though samples are apart where all are finite.


def test_nan_that_spreads_to_other_energies():
    faulty(lambda x, y: well(x, y) + 0 * well(x, y).mean(), "A NaN in sample 0", "torch.where")


def test_nan_that_spreads_to_other_gradients():
    """The derivative of a norm is 0/0 where the norm is NaN, even behind ``nan_to_num``."""
    faulty(lambda x, y: well(x, y) + 0 * y.norm().nan_to_num(), "A NaN in sample 0", "torch.where")


# Derivatives that are not those of the energy.


def test_a_part_that_is_detached():
    faulty(lambda x, y: well(x, y) + (y.detach() * x).sum(-1), "not the slope of the energy", "detach")


def test_the_gradient_of_one_sample_is_wrong():
    def energy(x, y):
        return torch.where(x[:, 0] == X[2, 0], well(x, y) + y.detach().square().sum(-1), well(x, y))

    faulty(energy, "not the slope of the energy", "sample 2")


def test_a_wrong_gradient_in_the_scratchpad_alone():
    faulty(lambda x, y, z: well(x, y) + well(x, z) + z.detach().sum(-1), "not the slope of the energy", z=Z)


def cube(backward, forward=lambda y: y.pow(3)):
    """The energy ``sum(y ** 3)`` with a backward of its own."""

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            ctx.save_for_backward(y)
            return forward(y)

        @staticmethod
        def backward(ctx, cotangent):
            return cotangent * backward(*ctx.saved_tensors)

    return lambda x, y: Cube.apply(y).sum(-1)


def test_a_custom_backward():
    check_energy(cube(lambda y: 3 * y.square()), X, Y)
    faulty(cube(lambda y: 3.1 * y.square()), "not the slope of the energy")


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y):
        ctx.save_for_backward(y)
        return y.pow(3)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, cotangent):
        return cotangent * 3 * ctx.saved_tensors[0].square()


def test_no_second_derivative():
    fused = lambda x, y: torch.cdist(x.unsqueeze(1), y.unsqueeze(1)).flatten()  # noqa: E731
    faulty(fused, "cannot be differentiated again", "training needs")


@pytest.mark.parametrize("energy", [lambda x, y: Once.apply(y).sum(-1), lambda x, y: (y * Once.apply(y)).sum(-1)])
def test_a_second_derivative_that_is_lost_without_an_error(energy):
    faulty(energy, "second derivative", "not the slope of the gradient")


def test_a_gradient_without_a_graph():
    faulty(cube(lambda y: 3 * y.detach().square()), "second derivative", "not the slope of the gradient")


def test_a_part_of_the_gradient_without_a_graph():
    faulty(cube(lambda y: 3 * y * y.detach()), "second derivative", "not the slope of the gradient")


def test_a_wrong_second_derivative_in_the_scratchpad_alone():
    other = cube(lambda y: 3 * y.detach() * y)
    faulty(lambda x, y, z: well(x, y) + other(x, z), "second derivative", "not the slope of the gradient", z=Z)


# Arguments of the check.


@pytest.mark.parametrize("batch", [0, 1])
def test_a_batch_too_small_to_see_whether_samples_mix(batch):
    with pytest.raises(ValueError, match=f"batch of 2 or more .* got {batch}"):
        check_energy(well, X[:batch], Y[:batch])
    check_energy(well, X[:2], Y[:2])


def test_the_layout_given_is_used():
    with pytest.raises(ValueError, match="batch of 2 or more"):
        check_energy(well, X, Y, layout=Dense(1))


def test_rtol_is_the_tolerance_of_derivatives_alone():
    def mixed(x, y):
        return well(x, y) * (1 + 1e-5 * len(x))

    def bent(x, y):
        return well(x, y) + 1e-2 * y.detach().sum(-1)

    faulty(mixed, "must not depend", rtol=0.1)
    check_energy(bent, X, Y, rtol=0.1)
    faulty(bent, "not the slope of the energy")
