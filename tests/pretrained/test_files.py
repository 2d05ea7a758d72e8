"""Saved solvers: what comes back, what is refused, and the energies that come with the library."""

import hashlib
import json
import os

import pytest
import safetensors.torch
import torch
from torch import nn

from energysolve import (
    SGD,
    Adam,
    BestSoFar,
    Dense,
    Energy,
    EnergyChange,
    EnergySolver,
    GradientNorm,
    MLPEnergy,
    Momentum,
    Normal,
    Projected,
    TorchOpt,
    Truncated,
    Uniform,
)
from energysolve import pretrained as shipped
from energysolve.initializers import Symmetric
from energysolve.optimizers import Box
from energysolve.presets import DOMAINS
from energysolve.pretrained.files import load, read_config, save
from energysolve.tasks import Completion, Inverse


def small_solver(**fields):
    torch.manual_seed(0)
    return EnergySolver(MLPEnergy(6, 3, width=8), SGD(lr=0.5), init=Uniform((3,))).replace(**fields)


@pytest.fixture
def folder(tmp_path):
    small_solver().save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def edit(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def replace_weights(folder, tensors):
    """Other weights with a checksum that fits."""
    content = safetensors.torch.save(tensors)
    (folder / "model.safetensors").write_bytes(content)
    edit(folder, lambda config: config["weights"].update(sha256=hashlib.sha256(content).hexdigest()))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"optimizer": Projected(Momentum(0.1), Box(-1.0, 1.0)), "init": Normal((3,), std=0.1), "max_steps": 7},
        {"halting": GradientNorm(1e-3) | EnergyChange(rtol=1e-3).patience(3), "differentiation": Truncated(2)},
        {"recorder": BestSoFar(), "sync_every": 5, "init": None},
        {"init": Symmetric((3, 3), -0.5, 0.5)},
    ],
)
def test_round_trip(tmp_path, fields):
    solver = small_solver(**fields)
    solver.save_pretrained(tmp_path)
    again = EnergySolver.from_pretrained(tmp_path)
    for name in (
        "optimizer",
        "init",
        "halting",
        "differentiation",
        "recorder",
        "max_steps",
        "scratchpad",
        "sync_every",
    ):
        assert getattr(again, name) == getattr(solver, name)
    x, y = torch.randn(4, 6), torch.randn(4, 3)
    with torch.no_grad():
        expected, found = solver.minimize(x, y), again.minimize(x, y)
    assert torch.equal(found.y, expected.y)
    assert torch.equal(found.steps, expected.steps)
    assert not again.training


def test_scratchpad_and_dtype_survive(tmp_path):
    solver = EnergySolver(
        MLPEnergy(6, 3, z_dim=2, width=8).double(), Adam(0.1), init=Uniform((3,)), scratchpad=Normal((2,))
    )
    solver.save_pretrained(tmp_path)
    again = EnergySolver.from_pretrained(str(tmp_path))
    assert again.scratchpad == Normal((2,))
    assert all(parameter.dtype == torch.float64 for parameter in again.parameters())
    assert all(parameter.requires_grad for parameter in again.parameters())
    for name, value in solver.energy.state_dict().items():
        assert torch.equal(value, again.energy.state_dict()[name])


def test_loading_leaves_the_random_state_alone(folder):
    before = torch.random.get_rng_state()
    EnergySolver.from_pretrained(folder)
    assert torch.equal(before, torch.random.get_rng_state())


def test_training_metadata_is_kept(tmp_path):
    save(small_solver(), tmp_path, training={"iterations": 3})
    assert read_config(tmp_path)["training"] == {"iterations": 3}


class Own(Energy):
    """An energy that the library does not know, with two names for one parameter."""

    def __init__(self, size=3):
        super().__init__()
        self.a = nn.Linear(size, size)
        self.b = nn.Linear(size, size)
        self.b.weight = self.a.weight

    def evaluate(self, context, y):
        return (self.b(self.a(y)) - context).square().sum(-1)


def test_own_energies_are_given_when_loading(tmp_path):
    saved = EnergySolver(Own(), SGD(0.1))
    saved.save_pretrained(tmp_path)
    energy = Own()
    parameter = energy.a.weight
    again = EnergySolver.from_pretrained(tmp_path, energy=energy)
    assert again.energy is energy
    assert energy.a.weight is energy.b.weight is parameter
    assert torch.equal(energy.a.weight, saved.energy.a.weight)
    with pytest.raises(ValueError, match=r"energy 'Own', which is not a registered class.*Pass energy="):
        EnergySolver.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="another architecture"):
        EnergySolver.from_pretrained(tmp_path, energy=Own(4))
    with pytest.raises(ValueError, match=r"has dtype torch\.float32 instead of torch\.float64"):
        EnergySolver.from_pretrained(tmp_path, energy=Own().double())
    with pytest.raises(TypeError, match="must be a module, or a subclass"):
        load(EnergySolver, tmp_path, energy=lambda x, y: y.sum(-1))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"init": lambda x, layout, generator: x}, "The solver's init cannot be saved"),
        ({"optimizer": TorchOpt(lambda: None)}, "The solver's optimizer cannot be saved"),
        ({"layout": lambda x: Dense(len(x))}, "layout is a function"),
        ({"select": lambda x, samples: x[samples]}, "select is a function"),
        ({"energy": lambda x, y: y.sum(-1)}, "is not a module"),
    ],
)
def test_what_cannot_be_written_down_is_refused_and_nothing_written(tmp_path, fields, message):
    with pytest.raises(TypeError, match=message):
        small_solver(**fields).save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_metadata_must_be_json(tmp_path):
    with pytest.raises(TypeError, match="plain JSON"):
        save(small_solver(), tmp_path / "new", training={"loss": float("nan")})
    assert not (tmp_path / "new").exists()


def test_files_appear_whole_or_not_at_all(folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def killed(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        small_solver(max_steps=1).save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_unknown_name_lists_the_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"'subtraction': there is no folder.*come with the library are: .*addition"
    ):
        EnergySolver.from_pretrained("subtraction")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"the folder empty holds no config\.json"):
        EnergySolver.from_pretrained("empty")


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def alter(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def not_safetensors(folder):
    (folder / "model.safetensors").write_bytes(b"nothing")
    sha256 = hashlib.sha256(b"nothing").hexdigest()
    edit(folder, lambda config: config["weights"].update(sha256=sha256))


def other_shape(folder):
    replace_weights(folder, MLPEnergy(6, 3, width=9).state_dict())


def other_depth(folder):
    replace_weights(folder, MLPEnergy(6, 3, width=8, depth=4).state_dict())


def fewer_layers(folder):
    replace_weights(folder, MLPEnergy(6, 3, width=8, depth=2).state_dict())


def editing(change):
    return lambda folder: edit(folder, change)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, r"model\.safetensors was truncated or altered"),
        (alter, r"model\.safetensors was truncated or altered.*Restore the folder"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"model\.safetensors is missing"),
        (not_safetensors, r"model\.safetensors is not a safetensors file"),
        (other_shape, r"another architecture.*from_x\.weight has shape \(9, 6\) instead of \(8, 6\)"),
        (other_depth, r"another architecture.*hidden\.2\.weight is unexpected"),
        (fewer_layers, r"another architecture.*hidden\.1\.weight is missing"),
        (lambda folder: (folder / "config.json").write_text('{"format'), r"config\.json is not valid JSON"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe"), r"config\.json is not valid JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), 'has no "format_version"'),
        (editing(lambda config: config.update(format_version=2)), "has format version 2.*reads 1.*Upgrade"),
        (editing(lambda config: config.pop("weights")), 'has no section "weights"'),
        (editing(lambda config: config["weights"].clear()), "config.json says None"),
        (editing(lambda config: config["solver"].pop("halting")), 'missing or unknown entries in "solver": halting'),
        (editing(lambda config: config["solver"].update(colour=1)), 'missing or unknown entries in "solver": colour'),
        (editing(lambda config: config["solver"].update(halting={"type": "Soon"})), "solver's halting: Unknown type"),
        (editing(lambda config: config["solver"].update(optimizer=None)), "the solver's optimizer: Expected a part"),
        (
            editing(lambda config: config["solver"].update(max_steps=-1)),
            "does not describe a solver.*max_steps, got -1",
        ),
        (editing(lambda config: config["energy"].pop("config")), "lacks the arguments of MLPEnergy"),
        (
            editing(lambda config: config["energy"]["config"].update(colour=1)),
            "that MLPEnergy does not accept",
        ),
        (
            editing(lambda config: config["energy"]["config"].update(depth=0)),
            "that MLPEnergy does not accept",
        ),
        # These would take terabytes.
        (
            editing(lambda config: config["energy"]["config"].update(width=10**6)),
            r"another architecture.*from_x\.weight has shape \(8, 6\) instead of \(1000000, 6\)",
        ),
        (
            editing(lambda config: config["energy"]["config"].update(depth=10**10)),
            "that MLPEnergy does not accept.*at most 10,000 as depth, got 10,000,000,000",
        ),
        (
            editing(lambda config: config["energy"]["config"].update(width="a")),
            "that MLPEnergy does not accept",
        ),
    ],
)
def test_damage_is_explained(folder, damage, message):
    damage(folder)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        EnergySolver.from_pretrained(folder)


def test_a_failed_load_leaves_a_given_energy_alone(folder):
    energy = MLPEnergy(6, 3, width=8)
    before = {name: value.clone() for name, value in energy.state_dict().items()}
    edit(folder, lambda config: config["solver"].update(halting={"type": "Soon"}))
    with pytest.raises(ValueError, match="Soon"):
        EnergySolver.from_pretrained(folder, energy=energy)
    assert all(torch.equal(value, before[name]) for name, value in energy.state_dict().items())


def test_a_folder_is_preferred_to_a_shipped_name(folder, monkeypatch):
    folder.rename(folder.with_name("addition"))
    monkeypatch.chdir(folder.parent)
    assert EnergySolver.from_pretrained("addition").energy.x_dim == 6


SHIPPED = {
    ("addition", "same"): 1e-6,
    ("addition", "harder"): 1e-6,
    ("addition-mlp", "same"): 1.5e-4,
    ("addition-mlp", "harder"): 1.0e-3,
    ("completion", "same"): 0.95,  # over the error of copying
    ("completion", "harder"): 0.82,
    ("inverse", "same"): 1e-5,
    ("inverse", "harder"): 1e-3,
    ("shortest-path", "same"): 1e-6,
    ("shortest-path", "larger"): 5e-6,
    ("edge-copy", "same"): 1e-7,
    ("edge-copy", "larger"): 1e-7,
    ("components", "same"): 1e-4,
    ("components", "larger"): 1e-4,
    ("denoise", "same"): 0.25,  # over the error of the noisy image
    ("denoise", "75"): 0.1,
}


def domain_of(name):
    """That of the name of a shipped energy, which may go on after the name of the domain."""
    return DOMAINS[name if name in DOMAINS else name.partition("-")[0]]


def test_what_is_shipped_says_how_it_was_trained():
    assert shipped.names() == sorted({name for name, _ in SHIPPED})
    for name in shipped.names():
        assert not EnergySolver.from_pretrained(name).training
        training = read_config(shipped.find(name))["training"]
        assert training["task"] == domain_of(name).name
        assert training["command"].startswith(f"energysolve train {training['task']}")
        assert {"same", domain_of(name).harder} <= set(training["evaluation"])


@pytest.mark.parametrize(("name", "difficulty"), SHIPPED)
def test_what_is_shipped_solves(name, difficulty):
    solver = EnergySolver.from_pretrained(name)
    task = domain_of(name).task_of(solver)
    generator = torch.Generator().manual_seed(20_000)
    x, target = task.sample(20 if name == "denoise" else 200, difficulty, generator)
    with torch.no_grad():
        solution = solver.minimize(x, generator=generator)
    error = task.error(solution, target).mean()
    if name in ("completion", "denoise"):
        error = error / (x - target).square().mean()
    assert error <= SHIPPED[name, difficulty]
    assert solution.converged.float().mean() >= 0.99


def test_matrices_may_be_flattened():
    for name, task in (("completion", Completion()), ("inverse", Inverse())):
        solver = EnergySolver.from_pretrained(name)
        x, target = task.sample(3, generator=torch.Generator().manual_seed(1))
        y = solver.minimize(x.flatten(1), generator=torch.Generator().manual_seed(0)).y
        matrices = solver.minimize(x, generator=torch.Generator().manual_seed(0)).y
        assert matrices.shape == target.shape
        torch.testing.assert_close(y.view_as(target), matrices)
