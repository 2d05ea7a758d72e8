"""Energies of users: saved with their arguments, and built from a class that is passed or registered."""

import json

import pytest
import torch
from torch import nn

from energysolve import SGD, Energy, EnergySolver, MLPEnergy
from energysolve.files import sketched
from energysolve.presets import DOMAINS
from energysolve.pretrained import find, names, read_config, register_energy, registry
from energysolve.pretrained.files import load


class Tied(Energy):
    """Two names for one parameter, and a buffer of integers."""

    def __init__(self, size, shape=(1,)):
        super().__init__()
        self.a = nn.Linear(size, size)
        self.b = nn.Linear(size, size)
        self.b.weight = self.a.weight
        self.register_buffer("count", torch.tensor(3))
        self.size, self.shape = size, shape

    def config(self):
        return {"size": self.size, "shape": self.shape}

    def evaluate(self, context, y):
        return (self.b(self.a(y)) - context).square().sum(-1)


class Plain(nn.Module):
    """A module that is no `Energy` and has no ``config()``."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3))

    def forward(self, x, y):
        return (self.weight * (y - x)).square().sum(-1)


@pytest.fixture
def registered(monkeypatch):
    """A registry of this test's own."""
    monkeypatch.setattr(registry, "ENERGIES", found := dict(registry.ENERGIES))
    monkeypatch.setattr("energysolve.pretrained.files.ENERGIES", found)
    return found


def save(folder, energy):
    torch.manual_seed(0)
    EnergySolver(energy, SGD(0.01)).save_pretrained(folder)
    return energy


def edit_arguments(folder, **arguments):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["energy"]["config"].update(arguments)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("how", ["class", "register"])
def test_an_energy_is_built_with_its_arguments(how, dtype, tmp_path, registered):
    saved = save(tmp_path, Tied(4, shape=(2, 3)).to(dtype))
    assert read_config(tmp_path)["energy"] == {"class": "Tied", "config": {"size": 4, "shape": [2, 3]}}
    if how == "register":
        assert register_energy(Tied) is Tied
    state = torch.random.get_rng_state()
    solver = EnergySolver.from_pretrained(tmp_path, energy=Tied if how == "class" else None)
    assert torch.equal(torch.random.get_rng_state(), state)
    energy = solver.energy
    assert type(energy) is Tied
    assert energy.a.weight is energy.b.weight
    assert not solver.training
    for name, value in saved.state_dict().items():
        found = energy.state_dict()[name]
        assert found.dtype == value.dtype
        assert torch.equal(found, value)


@pytest.mark.parametrize("name", names())
def test_shipped_energies_are_checked_before_they_take_memory(name):
    config = read_config(find(name))["energy"]
    sketch = sketched(registry.ENERGIES[config["class"]], config["config"])
    assert all(tensor.is_meta for tensor in sketch.state_dict().values())


def test_a_class_of_the_library_may_be_passed(tmp_path):
    class Wider(MLPEnergy):
        pass

    saved = save(tmp_path, MLPEnergy(4, 2, width=8))
    loaded = EnergySolver.from_pretrained(tmp_path, energy=Wider).energy
    assert type(loaded) is Wider
    assert torch.equal(loaded.head.weight, saved.head.weight)


def test_the_card_names_the_class(tmp_path):
    save(tmp_path, Tied(4))
    card = (tmp_path / "README.md").read_text()
    assert f'from_pretrained("{tmp_path.name}", energy=Tied)' in card
    assert "code of the class `Tied` is not part of the model" in card


def test_an_energy_without_config_needs_an_instance(tmp_path):
    saved = save(tmp_path, Plain())
    assert read_config(tmp_path)["energy"] == {"class": "Plain", "config": None}
    with pytest.raises(ValueError, match=r"lacks the arguments of Plain.*no config\(\).*Pass an instance"):
        EnergySolver.from_pretrained(tmp_path, energy=Plain)
    assert torch.equal(EnergySolver.from_pretrained(tmp_path, energy=Plain()).energy.weight, saved.weight)


def test_an_energy_that_inherits_the_unwritten_config_saves(tmp_path):
    class Unwritten(Energy):
        def evaluate(self, context, y):
            return (y - context).square().sum(-1)

    save(tmp_path, Unwritten())
    assert read_config(tmp_path)["energy"]["config"] is None


def test_a_class_with_the_name_of_another_is_not_mistaken_for_it(tmp_path):
    own = type("MLPEnergy", (MLPEnergy,), {"__module__": "elsewhere"})
    save(tmp_path, own(4, 2, width=8))
    for energy in (None, own):
        with pytest.raises(ValueError, match=r"lacks the arguments of MLPEnergy.*name of a registered class"):
            EnergySolver.from_pretrained(tmp_path, energy=energy)
    assert "energy=energy)" in (tmp_path / "README.md").read_text()
    assert type(EnergySolver.from_pretrained(tmp_path, energy=own(4, 2, width=8)).energy) is own


@pytest.mark.parametrize(
    ("arguments", "energy", "message"),
    [
        ({"colour": 1}, Tied, "arguments that Tied does not accept, .*'colour'.*Pass the class"),
        ({"size": "a"}, Tied, "arguments that Tied does not accept"),
        ({"size": 5}, Tied, r"another architecture than this Tied: .*a\.weight has shape \(4, 4\) instead of \(5, 5\)"),
        ({}, MLPEnergy, "arguments that MLPEnergy does not accept"),
        ({}, Plain, "arguments that Plain does not accept"),
    ],
)
def test_classes_that_do_not_fit_are_refused(arguments, energy, message, tmp_path):
    save(tmp_path, Tied(4))
    edit_arguments(tmp_path, **arguments)
    with pytest.raises(ValueError, match=message):
        EnergySolver.from_pretrained(tmp_path, energy=energy)


def test_what_is_no_class_of_modules_is_refused(tmp_path):
    save(tmp_path, Tied(4))
    for energy in (int, lambda x, y: y.sum(-1), "Tied"):
        with pytest.raises(TypeError, match=r"must be a module, or a subclass of torch\.nn\.Module"):
            load(EnergySolver, tmp_path, energy)


@pytest.mark.parametrize("arguments", [None, [4], {"size": object()}])
def test_arguments_must_be_plain_json(arguments, tmp_path):
    class Odd(Tied):
        def config(self):
            return arguments

    with pytest.raises(TypeError, match=r"config\(\).* must"):
        save(tmp_path / "new", Odd(4))
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_registered(registered):
    before = dict(registered)
    with pytest.raises(TypeError, match=r"takes a subclass of torch\.nn\.Module"):
        register_energy(int)
    for wrong in (Plain, type("Unwritten", (Energy,), {})):
        with pytest.raises(TypeError, match=r"has no config\(\)"):
            register_energy(wrong)
    with pytest.raises(ValueError, match=r"The name MLPEnergy is taken by .*energysolve\.energies\.mlp.*Rename"):
        register_energy(type("MLPEnergy", (Tied,), {"__module__": "elsewhere"}))
    assert registered == before


def test_a_class_that_is_defined_again_replaces_itself(tmp_path, registered):
    def define():
        class Again(Tied):
            pass

        return Again

    first, second = define(), define()
    register_energy(first)
    instance = first(4)
    assert register_energy(second) is second
    save(tmp_path, instance)
    assert type(EnergySolver.from_pretrained(tmp_path).energy) is second
    register_energy(MLPEnergy)  # registered from the start


def test_energies_of_all_domains_are_registered():
    """So that what `energysolve train` saves loads without a class."""
    assert {energy for domain in DOMAINS.values() for energy in domain.energies} <= set(registry.ENERGIES.values())
