"""What the tests of files of problems share."""

import numpy as np

from energysolve import SGD, EnergyChange, EnergySolver, Uniform

DIM = 4
RANDOM = np.random.default_rng(0)
PROBLEMS = RANDOM.uniform(-1, 1, (11, DIM))


def bowl(x, y):
    return ((y - x) ** 2).sum(-1)


def make_solver(energy=bowl, **options):
    options = {"init": Uniform((DIM,)), "halting": EnergyChange(atol=1e-6), "max_steps": 60} | options
    return EnergySolver(energy, options.pop("optimizer", SGD(0.2)), **options)


def save(path, x, name="x"):
    """Problems in the kind of file that the suffix names; ``.zip.npz`` is compressed."""
    if path.name.endswith(".zip.npz"):
        np.savez_compressed(path, **{name: x})
    elif path.suffix == ".npz":
        np.savez(path, **{name: x})
    elif path.suffix == ".npy":
        np.save(path, x)
    else:
        path.write_text("".join(",".join(map(repr, row)) + "\n" for row in x.tolist()))
    return path


def answers(path):
    with np.load(path) as archive:
        return dict(archive)


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes(), name
