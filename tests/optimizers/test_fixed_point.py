"""Fixed points with Anderson memory and the energy as certificate."""

import optree
import pytest
import torch
from compaction_cases import assert_same

from energysolve import SGD, EnergySolver, FixedPoint, GradientNorm, Implicit, LeastSquares, Never, Status, Trajectory
from energysolve.layout import Segment, layout_of
from energysolve.testing.strategies import batch_layout

data = pytest.importorskip("torch_geometric.data")


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def affine(radius, n=6):
    """``y = A y + x`` with a symmetric matrix of this spectral radius, and its map."""
    basis = torch.linalg.qr(random(n, n)).Q
    spectrum = torch.linspace(-radius, 0.4 * min(radius, 1), n, dtype=torch.float64)
    return basis @ torch.diag(spectrum) @ basis.T


def residual_of(matrix):
    return LeastSquares(lambda x, y: y - ((y.unsqueeze(1) * matrix).sum(2) + x))


def solve(energy, x, optimizer=FixedPoint(), y=None, **parts):  # noqa: B008  (frozen)
    parts = {"halting": GradientNorm(1e-9), "max_steps": 200} | parts
    return EnergySolver(energy, optimizer, **parts).minimize(x, torch.zeros_like(x) if y is None else y)


@pytest.mark.parametrize("radius", [0.9, 3.0, 8.0])
def test_linear_maps_contractive_or_not(radius):
    matrix, x = affine(radius), random(5, 6, seed=1)
    solution = solve(residual_of(matrix), x)
    assert solution.converged.all()
    expected = torch.linalg.solve(torch.eye(6, dtype=torch.float64) - matrix, x.T).T
    torch.testing.assert_close(solution.y, expected, rtol=0, atol=1e-7)


def test_memory_takes_fewer_evaluations_than_picard():
    matrix, x = affine(0.95), random(5, 6, seed=1)
    plain, memory = (solve(residual_of(matrix), x, FixedPoint(memory), max_steps=2000) for memory in (0, 5))
    assert plain.converged.all()
    assert memory.converged.all()
    assert 5 * memory.evaluations.max() < plain.evaluations.min()


def test_without_memory_it_takes_picard_steps():
    matrix, x = affine(0.5), random(5, 6, seed=1)
    solution = solve(residual_of(matrix), x, FixedPoint(memory=0), halting=Never(), max_steps=4)
    y = torch.zeros_like(x)
    for _ in range(4):
        y = y @ matrix.T + x
    torch.testing.assert_close(solution.y, y)


def test_on_a_linear_map_it_finds_the_iterates_of_gmres():
    """With full memory, the residual of the Anderson step without mixing is the least over the Krylov space."""
    matrix, x = affine(0.9), random(3, 6, seed=1)
    found = solve(residual_of(matrix), x, FixedPoint(memory=6), halting=GradientNorm(1e-7), max_steps=20)
    assert found.converged.all()
    assert (found.steps <= 8).all()  # six dimensions: exact after six steps, but for one more of Picard and rounding


@pytest.mark.parametrize("window", [1, 3])
def test_no_energy_lies_above_the_largest_of_its_window(window):
    def rotation(x, y):  # nonlinear, not contractive: plain steps circle outwards
        turned = torch.stack([-y[:, 1], y[:, 0]], 1)
        return y - (1.5 * turned + x * y.cos())

    x = random(20, 2, seed=2)
    solution = solve(
        LeastSquares(rotation), x, FixedPoint(window=window), y=3 * random(20, 2), recorder=Trajectory(), max_steps=100
    )
    energy = torch.stack(solution.record.energy)
    for k in range(1, len(energy)):
        ceiling = energy[max(0, k - window) : k].amax(0)
        active = energy[k] != energy[k - 1]
        assert (energy[k] <= ceiling)[active].all()
    assert solution.converged.double().mean() > 0.9


def test_without_a_window_the_steps_are_those_of_the_plain_iteration():
    """A value that spreads from entry to entry: the energy rises on the way, and ends at zero."""

    def spread(x, y):  # each entry follows those before it, and ever more of them move at once
        before = torch.nn.functional.pad(y.cumsum(1), (1, 0))[:, :-1]
        return torch.tanh(3 * (x + before))

    x = torch.nn.functional.one_hot(torch.tensor([0, 2]), 6).double() + 0.01
    energy, y = LeastSquares(lambda x, y: y - spread(x, y)), torch.zeros(2, 6, dtype=torch.float64)
    optimizer = FixedPoint(memory=0, step_size=0.5, window=None)
    solution = solve(energy, x, optimizer, y=y, recorder=Trajectory(), halting=GradientNorm(1e-8), max_steps=60)
    energies = torch.stack(solution.record.energy)
    assert (energies.amax(0) > 1.1 * energies[0]).any()
    assert solution.converged.all()
    for k in range(1, 10):
        y = (y + spread(x, y)) / 2
        torch.testing.assert_close(solution.record.y[k], y)


@pytest.mark.parametrize(
    "map_",
    [lambda x, y: y + 1, lambda x, y: y + 1 + y.square(), lambda x, y: y.exp() + 0 * x],
    ids=["shift", "parabola", "exp"],
)
def test_a_map_without_fixed_point_never_converges(map_):
    x = random(4, 3)
    solution = solve(LeastSquares(lambda x, y: y - map_(x, y)), x, halting=GradientNorm(1e-3), y=random(4, 3, seed=1))
    assert set(solution.status.tolist()) <= {Status.STALLED, Status.MAX_STEPS}
    assert (solution.energy > 0.5).all()
    torch.testing.assert_close(solution.gradient_norm, (2 * solution.energy).sqrt())


def test_an_expansion_is_left_to_the_gradient_without_memory():
    x = random(4, 3)
    solution = solve(LeastSquares(lambda x, y: y - (10 * y + x)), x, FixedPoint(memory=0), max_steps=100)
    assert solution.converged.all()
    torch.testing.assert_close(solution.y, -x / 9, rtol=0, atol=1e-7)


def test_samples_do_not_depend_on_their_batch_and_compaction_changes_nothing():
    scale = torch.linspace(0.1, 4, 8, dtype=torch.float64).unsqueeze(1)
    energy = LeastSquares(lambda x, y: y - x * torch.cos(y + y.roll(1, 1)))
    x = scale.expand(8, 3).contiguous()
    together = solve(energy, x)
    assert len(together.steps.unique()) > 2
    assert_same(solve(energy, x, compact=True), together)
    for sample in range(8):
        alone = solve(energy, x[sample : sample + 1])
        for name in ("y", "energy", "steps", "status", "evaluations"):
            assert torch.equal(getattr(alone, name), getattr(together, name)[sample : sample + 1]), name


def graphs():
    """Rings of 3 to 7 nodes with both directions of each edge."""
    parts = []
    for n in (3, 7, 4):
        ring = torch.stack([torch.arange(n), (torch.arange(n) + 1) % n])
        edges = torch.cat([ring, ring.flip(0)], 1)
        parts.append(data.Data(edge_index=edges, edge_attr=random(2 * n, 2, seed=n), num_nodes=n))
    return parts


def edge_residual(graphs, y):
    sources, targets = graphs.edge_index
    incoming = y.new_zeros(graphs.num_nodes, y.shape[1]).index_add(0, targets, y)
    return y - torch.tanh(0.6 * incoming[sources] - 0.5 * y + graphs.edge_attr)


def test_graphs_of_different_sizes():
    energy = LeastSquares(edge_residual, layout=layout_of)
    solver = EnergySolver(energy, FixedPoint(), halting=GradientNorm(1e-9), max_steps=100)
    batch = data.Batch.from_data_list(graphs())
    y = torch.zeros_like(batch.edge_attr)
    together = solver.minimize(batch, y)
    assert together.converged.all()
    assert edge_residual(batch, together.y).abs().max() < 1e-9
    squares = edge_residual(batch, y + 1).square().sum(1) / 2
    torch.testing.assert_close(energy(batch, y + 1), layout_of(batch).sum(squares))
    starts = torch.tensor([0, 6, 20, 28])
    for k, graph in enumerate(graphs()):
        alone = solver.minimize(data.Batch.from_data_list([graph]), torch.zeros_like(graph.edge_attr))
        torch.testing.assert_close(alone.y, together.y[starts[k] : starts[k + 1]], rtol=0, atol=1e-12)
        assert torch.equal(alone.steps, together.steps[k : k + 1])
    assert_same(solver.replace(compact=True).minimize(batch, y), together)


def test_trees_and_scratchpads_under_a_segment_layout():
    index = torch.tensor([0, 1, 1, 2, 0])
    x = {"width": torch.ones(3, 1), "target": random(5, 3), "index": index}

    def residuals(x, y, z):
        joined = torch.cat([y["a"], y["b"].flatten(1)], 1)
        new_y, new_z = 0.5 * z.cos() + x["target"], 0.9 * joined.sin()
        return torch.cat([joined - new_y, z - new_z], 1)

    energy = LeastSquares(residuals, layout=batch_layout)
    y, z = {"a": torch.zeros(5, 1).double(), "b": torch.zeros(5, 2, 1).double()}, torch.zeros(5, 3).double()
    solver = EnergySolver(energy, FixedPoint(), layout=lambda x: Segment(x["index"], 3), halting=GradientNorm(1e-9))
    solution = solver.minimize(x, y, z)
    assert solution.converged.all()
    assert residuals(x, solution.y, solution.z).abs().max() < 1e-9
    assert [leaf.shape for leaf in optree.tree_leaves(solution.y)] == [leaf.shape for leaf in optree.tree_leaves(y)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_does_not_run_on_at_the_rounding_of_the_residual(dtype):
    x = random(6, 6, seed=1).to(dtype)
    energy = LeastSquares(lambda x, y: y - torch.tanh(y @ affine(0.9).to(dtype) + x))
    solution = solve(energy, x, halting=Never(), max_steps=200)
    assert (solution.status == Status.STALLED).all()
    assert (solution.evaluations < 60).all()
    assert (solution.gradient_norm < 20 * torch.finfo(dtype).eps * solution.y.norm(dim=1)).all()


def test_implicit_derivatives_at_a_fixed_point():
    matrix, x = affine(0.9), random(2, 6, seed=1).requires_grad_()
    found = solve(residual_of(matrix), x, y=torch.zeros(2, 6).double(), differentiation=Implicit())
    (gradient,) = torch.autograd.grad(found.y[:, 0].sum(), x)
    inverse = torch.linalg.inv(torch.eye(6, dtype=torch.float64) - matrix)
    torch.testing.assert_close(gradient, inverse[0].expand(2, 6), rtol=0, atol=1e-6)


def test_energies_and_residuals_of_another_kind():
    x = random(2, 3)
    with pytest.raises(TypeError, match=r"LeastSquares\(residuals\)"):
        solve(lambda x, y: (y - x).square().sum(1), x)
    with pytest.raises(ValueError, match=r"of the shape of y, \(2, 3\).*got \(2, 1\)"):
        solve(LeastSquares(lambda x, y: (y - x).sum(1, keepdim=True)), x)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"memory": -1}, "memory"),
        ({"window": 0}, "window"),
        ({"step_size": 0.0}, "step_size"),
        ({"step_size": 1.5}, "step_size"),
        ({"step_size": float("nan")}, "step_size"),
    ],
)
def test_an_argument_out_of_range(arguments, words):
    with pytest.raises(ValueError, match=words):
        FixedPoint(**arguments)


def test_row_residuals_descend_under_other_optimizers_too():
    batch = data.Batch.from_data_list(graphs())
    y = torch.zeros_like(batch.edge_attr)
    energy = LeastSquares(edge_residual, layout=layout_of)
    solution = EnergySolver(energy, SGD(0.1), halting=Never(), max_steps=50).minimize(batch, y)
    assert (solution.energy < energy(batch, y)).all()
