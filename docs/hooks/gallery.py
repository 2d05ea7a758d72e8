"""The gallery: every script in `examples/` as a page, executed, with its output and figures.

The scripts are in jupytext's percent format. jupytext reads them and nbclient executes them, both kept by the Jupyter
project. The results become Markdown, so that the pages look like all the others, their links are checked with theirs,
and nothing is loaded from elsewhere. What was executed is kept in `.cache/gallery` until the script or the library
changes.
"""

import asyncio
import base64
import hashlib
import os
import re
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jupytext
import nbformat
from mkdocs.exceptions import PluginError
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, InclusionLevel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CACHE = ROOT / ".cache" / "gallery"
ORDER = [
    "fit_curves",
    "portfolio",
    "train_your_own_task",
    "karate_club",
    "denoise_photograph",
    "matrices",
    "custom_energy",
    "custom_halting",
    "differentiable_layer",
    "inpaint_and_deblur",
    "heat_diffusion",
    "scratchpad",
    "ray_cluster",
]
"""These come first, in this order; the others follow by name."""
SECONDS = 600
"""The longest that a cell may take."""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
"""Each example computes on one core, and the processes that Ray starts are not served last."""
log = get_plugin_logger("gallery")
LARGEST_SVG = 300_000
"""Bytes; larger figures are shown as PNG."""
SETUP = """
get_ipython().run_line_magic("matplotlib", "inline")
get_ipython().run_line_magic("config", "InlineBackend.figure_formats = {'svg', 'png'}")
import matplotlib
matplotlib.rcParams["figure.dpi"] = 144
del matplotlib
"""


class Example(NamedTuple):
    """A script and the Markdown of its page; ``figures`` by the names that the page uses."""

    name: str
    title: str
    summary: str
    page: str
    figures: dict[str, bytes]


def scripts() -> list[Path]:
    """All examples, in the order of the index."""
    places = {name: place for place, name in enumerate(ORDER)}
    return sorted(EXAMPLES.glob("*.py"), key=lambda path: (places.get(path.stem, len(ORDER)), path.stem))


@cache
def library_digest() -> str:
    """Changes with whatever can change what an example prints."""
    digest = hashlib.sha256(f"{sys.version} {SETUP}".encode())
    for path in sorted((ROOT / "energysolve").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()


def kept(path: Path) -> Path:
    """Where the executed notebook of a script lies, under a name that changes with the script and the library."""
    digest = hashlib.sha256((library_digest() + path.read_text()).encode()).hexdigest()
    return CACHE / f"{path.stem}-{digest[:20]}.ipynb"


async def execute(path: Path) -> None:
    """Execute a script and keep the notebook with its outputs."""
    notebook = jupytext.read(path, fmt="py:percent")
    notebook.cells.insert(0, nbformat.v4.new_code_cell(SETUP))
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=SECONDS,
            resources={"metadata": {"path": folder}},
            extra_arguments=["--log-level=ERROR"],  # no word of how the kernel is connected
        )
        try:
            await client.async_execute(env={**os.environ, **ENVIRONMENT})
        except CellExecutionError as error:
            raise PluginError(f"examples/{path.name} failed:\n{error}") from error
    del notebook.cells[0]
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in CACHE.glob(f"{path.stem}-{'?' * 20}.ipynb"):
        old.unlink()
    nbformat.write(notebook, kept(path))


async def execute_all(paths: list[Path]) -> None:
    """Execute scripts, as many at the same time as there are cores: each computes on one."""
    free = asyncio.Semaphore(os.cpu_count() or 1)

    async def one(path: Path) -> None:
        async with free:
            start = time.perf_counter()
            await execute(path)
            log.info(f"Executed examples/{path.name} in {time.perf_counter() - start:.0f} seconds")

    await asyncio.gather(*map(one, paths))


def executed(paths: list[Path]) -> list[nbformat.NotebookNode]:
    """The notebooks of scripts with their outputs; only what has changed is executed."""
    if changed := [path for path in paths if not kept(path).exists()]:
        asyncio.run(execute_all(changed))
    return [nbformat.read(kept(path), as_version=4) for path in paths]


def fenced(text: str, language: str, *classes: str) -> str:
    """A block that no backticks in the text can close."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    attributes = " ".join(f".{name}" for name in (language, *classes))
    return f"{fence} {{ {attributes} }}\n{text.rstrip()}\n{fence}"


def rendered(path: Path, notebook: nbformat.NotebookNode) -> Example:
    """The page of an example."""
    parts, figures, shown = [], {}, ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        if not cell.source.strip():
            continue
        parts.append(fenced(cell.source, "python"))
        for output in cell.outputs:
            if output.output_type == "stream":
                # Logs and warnings of libraries are for who builds the site.
                shown += output.text if output.name == "stdout" else ""
                continue
            parts += _stream(shown)
            shown = ""
            parts.append(_output(output.data, f"{path.stem}-{len(figures) + 1}", figures))
        parts += _stream(shown)
        shown = ""
    parts.append(f"[Download `{path.name}`](scripts/{path.name}){{ .md-button download }}")
    title, summary = _header(path, notebook.cells[0])
    return Example(path.stem, title, summary, "\n\n".join(parts), figures)


def _header(path: Path, first: nbformat.NotebookNode) -> tuple[str, str]:
    found = re.match(r"# ([^\n]+)\n\s*\n(.+?)(?:\n\s*\n|\Z)", first.source, flags=re.DOTALL)
    if first.cell_type != "markdown" or found is None:
        raise PluginError(
            f"examples/{path.name} must begin with `# %% [markdown]` and a docstring of a title (`# Title`), an empty "
            "line and a paragraph that says what is solved."
        )
    return found[1].strip(), " ".join(found[2].split())


def _stream(text: str) -> list[str]:
    return [fenced(text, "text", "output", "no-copy")] if text.strip() else []


def _output(data: dict, name: str, figures: dict[str, bytes]) -> str:
    """Markdown that shows one output; figures are added to ``figures``."""
    svg, png = data.get("image/svg+xml", ""), data.get("image/png", "")
    if svg and (len(svg) <= LARGEST_SVG or not png):
        figures[f"{name}.svg"] = svg.encode()
    elif png:
        figures[f"{name}.png"] = base64.b64decode(png)
    elif "text/html" in data:
        return f'<div class="output-html">\n{data["text/html"]}\n</div>'
    else:
        return fenced(data.get("text/plain", ""), "text", "output", "no-copy")
    return f"![Figure {len(figures)}]({[*figures][-1]}){{ .figure }}"


def card(example: Example) -> str:
    """An item of the index: thumbnail, title, summary."""
    figure = next(iter(example.figures), None)
    picture = f"[![{example.title}]({figure}){{ .thumbnail }}]({example.name}.md)\n\n    " if figure else ""
    return f"-   {picture}**[{example.title}]({example.name}.md)**\n\n    {example.summary}"


def on_config(config):
    """Lists the examples in the navigation."""
    for item in config.nav or []:
        if "Gallery" in item:
            item["Gallery"] = ["gallery/index.md", *(f"gallery/{path.stem}.md" for path in scripts())]
    return config


def on_files(files, config):
    """Adds the pages and their figures."""
    paths = scripts()
    examples = list(map(rendered, paths, executed(paths)))
    for example in examples:
        files.append(File.generated(config, f"gallery/{example.name}.md", content=example.page))
        for name, content in example.figures.items():
            files.append(File.generated(config, f"gallery/{name}", content=content))
        script = f"{example.name}.py"
        files.append(
            File.generated(
                config,
                f"gallery/scripts/{script}",
                abs_src_path=str(EXAMPLES / script),
                inclusion=InclusionLevel.INCLUDED,
            )
        )
    index = (ROOT / "docs" / "gallery" / "index.md").read_text()
    cards = "\n\n".join(map(card, examples))
    page = f'{index}\n<div class="grid cards gallery" markdown>\n\n{cards}\n\n</div>\n'
    files.remove(files.get_file_from_path("gallery/index.md"))
    files.append(File.generated(config, "gallery/index.md", content=page))
    return files
