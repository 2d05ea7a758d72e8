"""Compaction: the results of the solve in which halted samples stay, and work only for those that move on.

The laws hold bit by bit, since arithmetic is row-wise in float64.
"""

import importlib
import itertools
import warnings
from contextlib import nullcontext
from dataclasses import dataclass

import optree
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from energysolve import (
    SGD,
    Adam,
    BestSoFar,
    Dense,
    EnergyChange,
    EnergySolver,
    GradientNorm,
    Halting,
    Implicit,
    MLPEnergy,
    Momentum,
    Never,
    Nothing,
    Segment,
    Status,
    Trajectory,
    Truncated,
    Uniform,
    Unroll,
)
from energysolve.differentiation import DifferentiationWarning
from energysolve.engine.compaction import SHARE, CompactionWarning
from energysolve.optimizers import InnerOptimizer
from energysolve.recorders import Recorder
from energysolve.testing.strategies import (
    Batch,
    RowWise,
    batch_layout,
    batches,
    bumpy,
    criteria,
    optimizers,
    pseudo_huber,
    quadratic,
    quartic,
)

LAW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def cliff(d):
    """A bowl with an edge, beyond which there is no number."""
    return torch.where(d > -1, d.square(), torch.nan)


@dataclass(frozen=True, eq=False)
class Case:
    energy: RowWise
    optimizer: InnerOptimizer
    halting: Halting
    batch: Batch
    max_steps: int

    def solve(self, **parts):
        parts = {"halting": self.halting, "max_steps": self.max_steps, "layout": batch_layout} | parts
        solver = EnergySolver(self.energy, self.optimizer, **parts)
        layout = self.batch.layout
        # Tensors of samples and of rows cannot be told apart by size where there are as many of both.
        unclear = isinstance(layout, Segment) and layout.rows == layout.batch
        with warnings.catch_warnings() if unclear else nullcontext():
            if unclear:
                warnings.simplefilter("ignore", CompactionWarning)
            return solver.minimize(self.batch.x, self.batch.y, self.batch.z)

    def leaves(self):
        return [leaf for leaf in optree.tree_leaves((self.batch.y, self.batch.z)) if isinstance(leaf, torch.Tensor)]


def cases():
    energies = st.builds(RowWise, st.sampled_from([quadratic, cliff, quartic, pseudo_huber, bumpy]))
    return st.builds(Case, energies, optimizers(), criteria(), batches(max_batch=8), st.integers(0, 20))


def identical(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def assert_same(a, b):
    for name in ("y", "z", "energy", "steps", "status", "record"):
        left, right = optree.tree_leaves(getattr(a, name)), optree.tree_leaves(getattr(b, name))
        assert len(left) == len(right), name
        assert all(identical(p, q) for p, q in zip(left, right, strict=True)), name


@dataclass(frozen=True)
class Diary(Recorder):
    """Writes down all that a recorder is shown."""

    def init(self, free, energy, layout):
        return [(free, energy, torch.tensor(0))]

    def update(self, state, free, energy, step):
        return [*state, (free, energy, step)]

    def finish(self, state, steps):
        return state


@LAW
@given(cases(), st.sampled_from([Nothing(), BestSoFar(), Trajectory(), Diary()]), st.sampled_from([1, 3, 10]))
def test_compaction_changes_no_result(case, recorder, sync_every):
    parts = {"recorder": recorder, "sync_every": sync_every}
    assert_same(case.solve(compact=True, **parts), case.solve(**parts))


@settings(LAW, max_examples=15)
@given(cases(), st.integers(1, 4), st.sampled_from([1, 3]))
def test_compaction_changes_no_gradient(case, k, sync_every):
    modes = [Unroll(), Truncated(k)] + ([Implicit()] if case.halting.earliest() < float("inf") else [])
    inputs = [case.energy.stiffness, *(leaf.requires_grad_() for leaf in case.leaves())]
    for mode in modes:
        found = []
        for compact in (False, True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DifferentiationWarning)
                solution = case.solve(differentiation=mode, sync_every=sync_every, compact=compact)
                total = sum(leaf.sum() for leaf in optree.tree_leaves((solution.y, solution.z)))
                gradient = torch.autograd.grad(total, inputs, materialize_grads=True, allow_unused=True)
            found.append((solution, gradient))
        assert_same(found[0][0], found[1][0])
        assert all(identical(p, q) for p, q in zip(found[0][1], found[1][1], strict=True))


class Watched(RowWise):
    """Writes down the size of each batch that it is asked about."""

    def __init__(self, shape=quadratic):
        super().__init__(shape)
        self.sizes = []

    def evaluate(self, context, y, *z):
        energy = super().evaluate(context, y, *z)
        self.sizes.append(len(energy))
        return energy


def graded(count, rows=None):
    """Quadratics from steep to flat, which halt one after the other."""
    generator = torch.Generator().manual_seed(0)
    x = {"width": torch.linspace(1, 0.05, count, dtype=torch.float64).unsqueeze(1)}
    rows = count if rows is None else rows
    x["target"] = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    if rows != count:
        x["index"] = torch.randint(count, (rows,), generator=generator)
    return Batch(x, torch.randn(rows, 3, generator=generator, dtype=torch.float64), None)


@pytest.mark.parametrize("optimizer", [SGD(0.2), Momentum(0.1, 0.5), Adam(0.2)], ids=repr)
@pytest.mark.parametrize("sync_every", [1, 4])
@pytest.mark.parametrize("rows", [None, 100], ids=["dense", "segment"])
def test_samples_leave_once_half_of_them_have_halted(optimizer, sync_every, rows):
    count = 32
    case = Case(Watched(), optimizer, GradientNorm(1e-2), graded(count, rows), 400)
    plain = case.solve(sync_every=sync_every)
    case.energy.sizes.clear()
    compact = case.solve(sync_every=sync_every, compact=True)
    assert_same(compact, plain)

    # What the steps say: at iterates at which the host looks, samples leave if at most half of them move on.
    expected, size = [count], count
    for step in range(int(plain.steps.max())):
        active = int((plain.steps > step).sum())
        if step % sync_every == 0 and active <= SHARE * size:
            size = active
            expected += [size, size]  # the test at two points
        expected.append(size)
    expected += [size] * (-int(plain.steps.max()) % sync_every)  # until the host looks
    assert case.energy.sizes == expected
    assert size < count / 4


class Shapes(TorchDispatchMode):
    """Writes down the leading size of everything that is computed."""

    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for leaf in optree.tree_leaves(found):
            if isinstance(leaf, torch.Tensor) and leaf.ndim:
                self.sizes.append(("op", len(leaf)))
        return found


def test_a_step_of_few_samples_does_no_work_on_the_whole_batch():
    count, log = 64, []
    batch = graded(count)

    class Logged(RowWise):
        def evaluate(self, context, y, *z):
            log.append(("energy", len(y)))
            return super().evaluate(context, y, *z)

    case = Case(Logged(quadratic), Momentum(0.1, 0.5), GradientNorm(1e-2).patience(2), batch, 400)
    with Shapes(log):
        case.solve(compact=True)
    places = [place for place, (kind, _) in enumerate(log) if kind == "energy"]
    small = 0
    for begin, end in itertools.pairwise(places):
        if log[begin] == log[end] and log[begin][1] <= count / 2:
            # From the first of two steps of the same size to the second; samples leave where the size changes.
            between = {size for _, size in log[begin:end]}
            small += count not in between
            assert count not in between or log[places[places.index(begin) - 1]][1] != log[begin][1]
    assert small > 20


def solver(energy, **parts) -> EnergySolver:
    parts = {"optimizer": SGD(0.1), "halting": GradientNorm(1e-3), "max_steps": 200} | parts
    return EnergySolver(energy, parts.pop("optimizer"), **parts)


def bowl(x, y):
    """A bowl around each problem, with a width of its own."""
    return (x[:, :1] * (y - x).square()).sum(-1)


def problems(count=8, features=3):
    x = torch.rand(count, features, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x[:, 0] = torch.linspace(4, 0.2, count)
    return x, torch.randn(count, features, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def codebook(x, y):
    """The distance to the nearest of the rows that all samples share."""
    gap = (y[:, None] - x["book"][None]).square().sum(-1).min(1).values
    return gap * x["width"][:, 0]


def matrix(x, y):
    """A least-squares problem with a matrix that all samples share."""
    return (x["width"] * (y @ x["book"] - 1).square()).sum(-1)


def scaled(x, y):
    """Weights of the features that all samples share."""
    return (x["width"] * x["weights"] * (y - 1).square()).sum(-1)


def offset(x, y):
    """Row by row, but with a term that all samples share, and which the answers do not change."""
    return bowl(x["width"], y) + x["book"].square().sum()


def outside(x, y):
    """Bowls with targets that are not part of the problem."""
    return (x["width"][:, :1] * (y - problems(len(x["book"]))[1].roll(1, 0)).square()).sum(-1)


@pytest.mark.parametrize("energy", [codebook, matrix, scaled, offset, outside])
@pytest.mark.parametrize("features", [8, 3])
@pytest.mark.parametrize("start", ["random", "zero"])
def test_a_tensor_as_large_as_the_batch_that_all_samples_share(energy, features, start):
    """Samples cannot be told apart from what they share, so all of them stay, under a warning."""
    width, y = problems(8, features)
    if energy is outside:
        features, (width, y) = 3, problems(8)
    book = torch.randn(8, features, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    weights = torch.linspace(0.5, 2, features, dtype=torch.float64)
    x = {"width": width[:, :1] if energy is not offset else width, "book": book / 3, "weights": weights}
    if energy is matrix:
        x["book"] = torch.eye(features, dtype=torch.float64) + 0.1 * book[:features]
    y = y if start == "random" else torch.zeros_like(y)
    solve = solver(energy, layout=lambda x: Dense(len(x["width"])), optimizer=SGD(0.05), recorder=Trajectory())
    plain = solve.minimize(x, y)
    assert plain.steps.unique().numel() > 2
    shared = {codebook: True, offset: True, outside: True, matrix: features == 8, scaled: features == 8}[energy]
    if shared:
        with pytest.warns(CompactionWarning, match="(?s)compact=True is without effect.*one row per sample"):
            compact = solve.replace(compact=True).minimize(x, y)
    else:
        compact = solve.replace(compact=True).minimize(x, y)
    assert_same(compact, plain)


@pytest.mark.parametrize("outward", [True, False])
def test_a_shared_tensor_that_is_felt_only_at_the_end_or_only_at_the_start(outward):
    near, far = problems()[0], torch.full((8, 3), 2.0, dtype=torch.float64)

    def energy(x, y):
        wall = (y.square().sum(-1) - 9).relu()  # zero near the origin
        return x["width"][:, 0] * (y - x["target"]).square().sum(-1) + 0.1 * x["book"].square().mean() * wall

    width, book = near[:, :1], torch.linspace(0.1, 1, 8, dtype=torch.float64)
    x = {"width": width, "target": far if outward else near / 4, "book": book}
    solve = solver(energy)
    plain = solve.minimize(x, near / 4 if outward else far)
    assert plain.steps.unique().numel() > 2
    with pytest.warns(CompactionWarning, match="another energy or gradient alone"):
        compact = solve.replace(compact=True).minimize(x, near / 4 if outward else far)
    assert_same(compact, plain)


def test_a_shared_tensor_that_only_the_gradient_tells():
    """Zero answers do not feel the weights, and the one sample that stays has a part of them that fits all features."""
    targets = torch.tensor([[0.0, 0, 0], [0, 0, 0], [1, 2, 3]], dtype=torch.float64)
    x = {"target": targets, "weights": torch.tensor([1.0, 0.5, 0.8], dtype=torch.float64)}
    solve = solver(lambda x, y: (x["target"] - x["weights"] * y).square().sum(-1))
    y = torch.zeros(3, 3, dtype=torch.float64)
    plain = solve.minimize(x, y)
    assert (plain.steps[:2] == 0).all()
    with pytest.warns(CompactionWarning, match="another energy or gradient alone"):
        compact = solve.replace(compact=True).minimize(x, y)
    assert_same(compact, plain)


def test_an_energy_with_dropout_is_solved_as_ever():
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.2)

        def forward(self, x, y):
            return bowl(x, x + self.drop(y - x))

    x, y = problems()
    solve = solver(Dropped())
    torch.manual_seed(0)
    plain = solve.minimize(x, y)
    assert plain.steps.unique().numel() > 2
    torch.manual_seed(0)
    with pytest.warns(CompactionWarning, match="evaluation mode"):
        compact = solve.replace(compact=True).minimize(x, y)
    assert_same(compact, plain)
    assert torch.equal(torch.rand(3), _after(solve, x, y))
    solve.eval()
    assert_same(solve.replace(compact=True).minimize(x, y), solve.minimize(x, y))


def _after(solve, x, y):
    """What the generator gives after an ordinary solve."""
    torch.manual_seed(0)
    solve.minimize(x, y)
    return torch.rand(3)


@pytest.mark.parametrize(
    ("pack", "unpack"),
    [
        (lambda x: (x, None, 3.0), lambda x: x[0]),
        (lambda x: {"mode": "a", "parts": [x[:, :1], x[:, 1:]]}, lambda x: torch.cat(x["parts"], 1)),
        (lambda x: (x, torch.zeros(())), lambda x: x[0] + x[1]),
    ],
)
def test_problems_in_trees_with_other_things(pack, unpack):
    x, y = problems()
    found = solver(lambda x, y: bowl(unpack(x), y), compact=True).minimize(pack(x), y)
    assert_same(found, solver(bowl).minimize(x, y))


def test_rows_of_answers_and_numbers_of_samples_are_told_apart():
    """A segment layout whose problem has tensors of samples, of rows, and the index itself."""
    batch = graded(12, 40)
    case = Case(Watched(), SGD(0.2), GradientNorm(1e-2), batch, 400)
    assert_same(case.solve(compact=True), case.solve())
    assert min(case.energy.sizes) < 6


@dataclass(frozen=True)
class Lazy(InnerOptimizer):
    """Momentum whose state gets its shape and dtype from the first gradient."""

    def init(self, free):
        return torch.zeros(())

    def step(self, at, state, evaluate):
        state = 0.5 * state + at.gradient[0]
        return (at.free[0] - 0.1 * state,), state


@pytest.mark.parametrize("halted", [0, 5])
def test_a_state_that_takes_its_shape_later_and_samples_that_halt_at_once(halted):
    x, y = problems()
    y[:halted] = x[:halted]
    solve = solver(bowl, optimizer=Lazy(), recorder=BestSoFar())
    plain = solve.minimize(x, y)
    assert (plain.steps[:halted] == 0).all()
    assert_same(solve.replace(compact=True).minimize(x, y), plain)


def test_samples_that_are_not_finite_leave_too():
    x, y = problems()
    y[::2] = torch.nan
    solve = solver(bowl, differentiation=Truncated(2))
    plain = solve.minimize(x, y)
    assert (plain.status[::2] == Status.NONFINITE).all()
    assert_same(solve.replace(compact=True).minimize(x, y), plain)


def learned():
    """A network on top of bowls of different widths, in float32, so that some problems take longer than others."""
    torch.manual_seed(0)
    network = MLPEnergy(5, 4, width=16)
    x, y = torch.randn(40, 5), torch.randn(40, 4)
    x[:, 0] = torch.linspace(4, 0.2, 40)
    solve = solver(
        network + (lambda x, y: bowl(x[:, :1], y)), halting=EnergyChange(rtol=1e-5).patience(2), max_steps=300
    )
    return network, solve, x, y


def test_answers_of_a_matrix_product_energy_agree_to_rounding():
    _, solve, x, y = learned()
    plain, compact = solve.minimize(x, y), solve.replace(compact=True).minimize(x, y)
    assert plain.steps.max() > 2 * plain.steps.median()
    same = plain.steps == compact.steps  # else the margin of the criterion lay within rounding
    assert same.sum() >= 38
    torch.testing.assert_close(compact.y[same], plain.y[same], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(compact.energy, plain.energy, rtol=1e-4, atol=1e-5)


def test_an_encoder_is_asked_again_only_when_samples_leave():
    network, solve, x, y = learned()
    encode, sizes = network.encode, []
    network.encode = lambda x: (sizes.append(len(x)), encode(x))[1]
    solve.replace(compact=True).minimize(x, y)
    assert len(sizes) > 2
    assert all(b <= SHARE * a for a, b in itertools.pairwise(sizes))


def test_graphs_leave_with_their_edges():
    data = pytest.importorskip("torch_geometric.data")
    generator = torch.Generator().manual_seed(0)
    graphs = []
    for size in (2, 4, 3, 5, 2, 3, 1, 4):
        index = torch.cartesian_prod(torch.arange(size), torch.arange(size)).T
        values = torch.rand(size * size, 1, generator=generator, dtype=torch.float64)
        steep = torch.full((size, 1), 0.1 + 0.2 * len(graphs), dtype=torch.float64)
        graphs.append(data.Data(edge_index=index, edge_attr=values, steep=steep, num_nodes=size))
    sizes = []

    def energy(x, y):
        """Each node, too, pulls at its edges."""
        sizes.append(x.num_graphs)
        sources, targets = x.edge_index
        steep = x.steep[sources] + x.steep[targets]
        owner = x.batch[sources]
        return y.new_zeros(x.num_graphs).index_add(0, owner, (steep * (y - x.edge_attr).square()).squeeze(1))

    batch = data.Batch.from_data_list(graphs)
    batch.edge_attr.requires_grad_()
    y = torch.randn(batch.num_edges, 1, dtype=torch.float64, generator=generator)
    for halting, mode in [(GradientNorm(1e-3), Truncated(2)), (EnergyChange(rtol=1e-6).patience(2), Unroll())]:
        solve = solver(energy, halting=halting, differentiation=mode, recorder=BestSoFar())
        plain = solve.minimize(batch, y)
        sizes.clear()
        compact = solve.replace(compact=True).minimize(batch, y)
        assert min(sizes) <= 2
        assert_same(compact, plain)
        expected, found = (torch.autograd.grad(one.y.sum(), batch.edge_attr)[0] for one in (plain, compact))
        assert torch.equal(found, expected)


def test_a_layout_of_ones_own_on_graphs(monkeypatch):
    """Answers on the nodes: the selection of graphs is found although the layout is not that of the library."""
    data = pytest.importorskip("torch_geometric.data")
    loaded = []
    monkeypatch.setattr("energysolve.layout.import_module", lambda name: loaded.append(importlib.import_module(name)))
    sizes = (2, 4, 3, 5)
    steep = [torch.full((size, 1), 0.1 + 0.3 * k, dtype=torch.float64) for k, size in enumerate(sizes)]
    edges = torch.zeros(2, 1, dtype=torch.int64)
    graphs = [data.Data(edge_index=edges, steep=part, num_nodes=len(part)) for part in steep]
    batch = data.Batch.from_data_list(graphs)

    def nodes(x):
        return Segment(x.batch, x.num_graphs)

    def energy(x, y):
        return nodes(x).sum(x.steep * (y - 1).square())

    solve = solver(energy, layout=nodes)
    y = torch.randn(14, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert_same(solve.replace(compact=True).minimize(batch, y), solve.minimize(batch, y))
    assert [module.__name__ for module in loaded][:1] == ["energysolve.graph"]  # by the selection


def test_compiling_every_size_is_refused():
    with pytest.raises(ValueError, match="compile=True and compact=True exclude each other"):
        solver(bowl, compile=True, compact=True)
    with pytest.raises(ValueError, match="exclude each other"):
        solver(bowl, compact=True).replace(compile=True)


def test_compaction_is_saved_with_the_solver(tmp_path):
    made = EnergySolver(MLPEnergy(6, 3, width=8), SGD(0.1), init=Uniform((3,)), compact=True)
    made.save_pretrained(tmp_path)
    assert EnergySolver.from_pretrained(tmp_path).compact is True
    assert EnergySolver.from_pretrained("addition-mlp").compact is False  # written before there was compaction


def test_nothing_leaves_where_nothing_halts():
    case = Case(Watched(), SGD(0.2), Never(), graded(8), 10)
    assert_same(case.solve(compact=True), case.solve())
    assert set(case.energy.sizes) == {8}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu():
    x, y = (leaf.cuda() for leaf in problems(64))
    solve = solver(bowl, recorder=BestSoFar())
    assert_same(solve.replace(compact=True).minimize(x, y), solve.minimize(x, y))
