"""What the README and the guides show works: Python blocks run, commands exist, links lead somewhere."""

import importlib.metadata
import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_presets import small_domains

from energysolve import SGD, EnergySolver, MLPEnergy, Uniform, cli
from energysolve.energies import ConvEnergy
from energysolve.images import write_image
from energysolve.initializers import FromInput
from energysolve.presets import DOMAINS
from energysolve.pretrained.registry import ENERGIES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SMALL = {
    "solve": ["--problems", "4", "--max-steps", "3", "--output", "out"],
    "train": ["--iterations", "1", "--size", "4", "--width", "8", "--test-max-steps", "2"],
    "info": [],
    "explore": ["--port", "0", "--no-browser"],
    "reproduce": ["--problems", "4", "--seeds", "1", "--iterations", "2"],
    "bench": ["--size", "4", "--width", "8", "--batch-size", "4", "--rounds", "2", "--no-compile"],
}
"""Options that make a documented command quick; the last of an option counts."""


def blocks(path, *languages):
    found = re.findall(r"^```(\w+)\n(.*?)^```", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [code for language, code in found if language in languages]


def commands(program):
    lines = [line for path in PAGES for code in blocks(path, "console", "bash") for line in code.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith(f"{program} ")]


def write_modules(folder):
    """Write the modules that pages show: blocks whose first line is a comment with the name of a file."""
    for code in (code for path in PAGES for code in blocks(path, "python")):
        if named := re.match(r"# (\w+\.py)\n", code):
            with open(folder / named[1], "a") as file:
                file.write(code)


@pytest.fixture(autouse=True)
def registries():
    """What pages register, and what commands import, is forgotten."""
    kept = [(known, dict(known)) for known in (DOMAINS, ENERGIES)]
    path = [*sys.path]
    yield
    for known, before in kept:
        known.clear()
        known.update(before)
    sys.path[:] = path
    for name in ("sorting", "bumps"):
        sys.modules.pop(name, None)


def ended(arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    return stop.value.code


def page_name(path):
    return path.name


@pytest.mark.parametrize("path", [page for page in PAGES if blocks(page, "python")], ids=page_name)
def test_python_blocks_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    # Classes look their module up by name, for their annotations.
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("page", loader=None))
    monkeypatch.setitem(sys.modules, "page", module)
    for number, code in enumerate(blocks(path, "python"), start=1):
        exec(compile(code, f"{path.name}, block {number}", "exec"), module.__dict__)


@pytest.mark.parametrize("arguments", commands("energysolve"), ids=" ".join)
def test_documented_commands_run(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_modules(tmp_path)
    if arguments[1] == "explore":
        pytest.importorskip("dash", reason="the extra explore is not installed")
        monkeypatch.setattr("energysolve.commands.explore._run", lambda server: server.server_close())
    own = ("--iterations", "1", "--test-max-steps", "2", "--size", "4")
    if arguments[1] == "reproduce":
        for name, domain in small_domains().items():
            monkeypatch.setitem(DOMAINS, name, domain)
    if "--model" in arguments and "--energy" in arguments:  # trained by an earlier command of the page
        output = ["--output", arguments[arguments.index("--model") + 1]]
        (made,) = (each for each in commands("energysolve") if each[1] == "train" and each[-2:] == output)
        assert ended([*made[1:], *own]) == 0
    elif "--model" in arguments and "denoise" in arguments:
        solver = EnergySolver(ConvEnergy(4, 0, 4), init=FromInput(), max_steps=2)
        solver.save_pretrained(tmp_path / arguments[arguments.index("--model") + 1])
    elif "--model" in arguments:
        folder = tmp_path / arguments[arguments.index("--model") + 1]
        EnergySolver(MLPEnergy(8, 4, width=8), SGD(1.0), init=Uniform((4,))).save_pretrained(folder)
    options = own if arguments[1] == "train" and "--energy" in arguments else SMALL[arguments[1]]
    for option in ("--data", "--input", "--reference"):  # images that the page describes
        if option in arguments and "denoise" in arguments:
            named = tmp_path / arguments[arguments.index(option) + 1]
            write_image(np.eye(20, dtype=np.uint8) * 200, named if named.suffix else named / "a.png")
            options = [] if "--input" in arguments else options
    if "--input" in arguments and "denoise" not in arguments:  # a file that the page describes
        entries = 4 if "--energy" in arguments else 800
        problems = tmp_path / arguments[arguments.index("--input") + 1]
        if "--table" in arguments:
            problems.write_text("a,b,c\n1,,3\n4,5,\n")
        else:
            save_problems(problems, np.zeros((4, entries)))
        options = []
    code, said = ended([*arguments[1:], *options]), capsys.readouterr()
    # An energy trained for one iteration may solve nothing, which the command then says.
    assert code == 0 or "No problem was solved" in said.out, said.err


def save_problems(path, x):
    if path.suffix != ".parquet":
        np.savez(path, x=x)
        return
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pa.table({"id": np.arange(len(x)), "x": x.tolist()}), path)


@pytest.mark.parametrize("arguments", commands("make"), ids=" ".join)
def test_documented_targets_exist(arguments):
    makefile = (ROOT / "Makefile").read_text()
    for target in arguments[1:]:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), f"no target {target}"


def test_documented_extras_exist():
    extras = importlib.metadata.metadata("energysolve").get_all("Provides-Extra")
    documented = {name for path in PAGES for name in re.findall(r"energysolve\[(\w+)\]", path.read_text())}
    assert documented
    assert documented <= set(extras)


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_links_lead_somewhere(path):
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()) if "://" not in link]
    assert not [link for link in links if not leads_somewhere(path, *link.partition("#")[::2])]


def leads_somewhere(path, file, heading):
    """Whether a link to a heading of a file, or of the page itself, has a target."""
    target = path.parent / file if file else path
    if not heading:
        return target.exists()
    headings = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.MULTILINE)
    return heading in [re.sub(r"[^\w\- ]", "", each).strip().lower().replace(" ", "-") for each in headings]


def test_mentioned_examples_exist():
    for path in PAGES:
        for name in re.findall(r"`(examples/\w+\.py)`", path.read_text()):
            assert (ROOT / name).exists()


@pytest.fixture
def renderer():
    spec = importlib.util.spec_from_file_location("render_results", ROOT / "docs" / "render_results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_documents_show_the_results_that_are_committed(renderer):
    blocks = {
        "docs/shipped-energies.md": renderer.render,
        "docs/experiments/addition.md": renderer.settings,
        "docs/experiments/mutation.md": renderer.mutation,
        "docs/experiments/training.md": renderer.precision,
        "docs/paper.md": renderer.paper,
        "docs/scale.md": renderer.scaling.scale,
        "docs/speed.md": renderer.speed,
    }
    for name, render in blocks.items():
        document = (ROOT / name).read_text()
        assert document == renderer.rendered(document, render(ROOT / "docs" / "results")), name


def test_results_are_rendered(renderer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    EnergySolver(MLPEnergy(8, 4, width=8), SGD(1.0), init=Uniform((4,)), max_steps=5).save_pretrained(tmp_path / "m")
    with pytest.raises(SystemExit):
        cli.main(["solve", "addition", "--model", "m", "--problems", "4", "--output", "results"])
    (tmp_path / "results" / "other.json").write_text('{"kind": "benchmark"}')
    block = renderer.render(tmp_path / "results")
    result = json.loads((tmp_path / "results" / "result.json").read_text())
    for difficulty in ("same", "harder"):
        assert f"| {difficulty} | {result['difficulties'][difficulty]['error']:.2e} |" in block
    assert result["comparison"][0] in block
    assert "benchmark" not in block
    readme = f"before\n{renderer.BEGIN}\nold\n{renderer.END}\nafter\n"
    once = renderer.rendered(readme, block)
    assert once == f"before\n{renderer.BEGIN}\n{block}\n{renderer.END}\nafter\n"
    assert renderer.rendered(once, block) == once
