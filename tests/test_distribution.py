"""The package as others get it: built, checked, and installed into an empty environment."""

import json
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import metadata
from pathlib import Path

import pytest

from energysolve.version import __version__

ROOT = Path(__file__).parents[1]
OFFLINE = """
import socket
def refused(*arguments, **options):
    raise OSError("there is no network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused
"""
USE = """
import json, pathlib, sys
import torch
import energysolve
from energysolve import EnergySolver, Uniform
solution = EnergySolver.from_pretrained("addition").minimize(torch.ones(2, 800))
print(json.dumps({
    "file": energysolve.__file__,
    "answer": solution.y.mean().item(),
    "typed": (pathlib.Path(energysolve.__file__).parent / "py.typed").exists(),
}))
"""


def run(*arguments, **options):
    done = subprocess.run([str(each) for each in arguments], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with the source distribution and the wheel, which is built from it."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


def test_the_distributions_are_valid(built):
    pytest.importorskip("twine")
    run(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir())
    names = {path.name for path in built.iterdir()}
    assert names == {f"energysolve-{__version__}.tar.gz", f"energysolve-{__version__}-py3-none-any.whl"}


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    tracked = run("git", "ls-files", "energysolve", cwd=ROOT).splitlines()
    # The bounds that the documentation quotes run from a clone.
    expected = {path for path in tracked if not path.startswith("energysolve/experiments/limits/")}
    assert {path for path in held if not path.startswith("energysolve-")} >= expected
    assert all(path.partition("/")[0] in ("energysolve", f"energysolve-{__version__}.dist-info") for path in held)
    assert not [path for path in held if path.startswith("energysolve/experiments/limits/")]


def test_the_source_distribution_holds_what_its_tests_need(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "CITATION.cff", "pyproject.toml", "tests/conftest.py"} <= held
    assert {"examples/fit_curves.py", "docs/tutorial.md"} <= held


def test_the_wheel_works_in_an_empty_environment_without_a_network(wheel, tmp_path):
    """Its dependencies are those of this environment."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel)
    import torch

    # A path from a .pth file: the editable installation there is not followed.
    (packages / "dependencies.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")
    (packages / "offline.py").write_text(OFFLINE)
    (packages / "offline.pth").write_text("import offline\n")
    found = json.loads(run(python, "-c", USE, cwd=tmp_path))
    assert Path(found["file"]).is_relative_to(tmp_path)
    assert abs(found["answer"] - 2) < 1e-2
    assert found["typed"]
    shown = run(tmp_path / "venv" / "bin" / "energysolve", "info", cwd=tmp_path)
    assert __version__ in shown
    assert "addition" in shown


def test_the_citation_names_this_version_and_the_paper():
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # required by the format
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == __version__
    assert citation["license"] == metadata("energysolve")["License-Expression"]
    paper = citation["preferred-citation"]
    assert {"type", "title", "authors"} <= set(paper)
    readme = (ROOT / "README.md").read_text()
    assert paper["title"] in readme
    assert all(author["family-names"] in readme for author in paper["authors"])
