"""What the site is made with: the reference lists every public name, links are rewritten, examples are executed."""

import ast
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from mkdocs.config import load_config
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocstrings import Inventory

ROOT = Path(__file__).parents[2]


def hook(name, monkeypatch):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "hooks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def public_names(reference):
    """What the modules that users import say is public, by module; read, not imported, which would take long."""
    found = {}
    for path in sorted((ROOT / "energysolve").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if module.startswith(reference.PRIVATE):
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "__all__":
                found[module] = ast.literal_eval(node.value)
    return found


def test_every_public_module_is_in_the_reference(monkeypatch):
    reference = hook("reference", monkeypatch)
    whole = {module for topic in reference.TOPICS for module in topic.modules if ":" not in module}
    # The names of the package itself are in the modules that define them; the build fails where one is not.
    assert set(public_names(reference)) - {"energysolve"} == whole


def test_every_public_name_has_an_entry_in_the_built_reference(monkeypatch):
    if not (ROOT / "site" / "objects.inv").exists():
        pytest.skip("the site is not built: make docs")
    with open(ROOT / "site" / "objects.inv", "rb") as file:
        built = set(Inventory.parse_sphinx(file))
    public = public_names(hook("reference", monkeypatch))
    assert len(public) > 10
    assert not [
        f"{module}.{name}" for module, names in public.items() for name in names if f"{module}.{name}" not in built
    ]
    assert {"energysolve.EnergySolver.minimize", "energysolve.EnergySolver.from_pretrained"} <= built


@pytest.fixture
def configuration(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "mkdocs.yml").write_text("site_name: test\n")
    config = load_config(str(tmp_path / "mkdocs.yml"))
    config.plugins._current_plugin = "test"  # whose files they are
    return config


def test_links_lead_to_pages_of_the_site_or_copies_of_files(monkeypatch, configuration):
    links = hook("links", monkeypatch)
    files = Files([File.generated(configuration, "training.md", content="", inclusion=InclusionLevel.INCLUDED)])

    def on_page(name, text):
        return links.on_page_markdown(text, SimpleNamespace(file=SimpleNamespace(src_uri=name)), configuration, files)

    assert on_page("custom-energy.md", "[a](../examples/fit_curves.py)") == "[a](gallery/fit_curves.md)"
    assert on_page("gallery/fit_curves.md", "[a](../docs/training.md#b)") == "[a](../training.md#b)"
    assert on_page("gallery/fit_curves.md", "[a](custom_energy.py)") == "[a](custom_energy.md)"
    assert on_page("changelog.md", "[a](docs/training.md)") == "[a](training.md)"
    assert on_page("custom-energy.md", "[a](../CHANGELOG.md)") == "[a](changelog.md)"
    assert on_page("experiments/x.md", "[a](../training.md) [b](https://e.org/x)") == (
        "[a](../training.md) [b](https://e.org/x)"
    )
    assert on_page("custom-energy.md", "![a](nothing.svg)") == "![a](nothing.svg)"  # mkdocs says that it is missing
    fenced = "```text\n[a](../LICENSE)\n```\n"
    assert on_page("x.md", fenced + "[a](../LICENSE)") == fenced + "[a](repository/LICENSE)"
    assert files.get_file_from_path("repository/LICENSE").abs_src_path == str(ROOT / "LICENSE")
    files.append(File.generated(configuration, "gallery/one.md", content=""))
    assert on_page("x.md", "`examples/one.py` `examples/two.py`") == (
        "[`examples/one.py`](gallery/one.md) `examples/two.py`"
    )
    with pytest.raises(PluginError, match="links to the folder tests"):
        on_page("x.md", "[a](../tests)")


def test_the_first_mention_of_a_public_name_leads_to_its_entry(monkeypatch):
    links = hook("links", monkeypatch)
    page = "<h1><code>LBFGS</code></h1><p><code>LBFGS()</code> <code>LBFGS</code> <code>other</code></p>"
    entry = '<autoref identifier="energysolve.LBFGS" optional><code>LBFGS()</code></autoref>'
    assert links.on_page_content(page, None, None, None) == page.replace("<code>LBFGS()</code>", entry)
    assert links.on_page_content(f"<pre>{page}</pre>", None, None, None) == f"<pre>{page}</pre>"


def test_docstrings_become_markdown(monkeypatch):
    docstrings = hook("docstrings", monkeypatch)
    before = "Does this::\n\n    a = 1\n\n    if a:\n        b()\n\nAnd that.\n\nExample:\n    >>> 1\n    1\n"
    after = "Does this:\n\n```python\na = 1\n\nif a:\n    b()\n```\n\nAnd that.\n\nExamples:\n    >>> 1\n    1\n"
    assert docstrings.as_markdown(before) == after


EXAMPLE = '''# %% [markdown]
"""
# A title

One paragraph,
of two lines.

Another.
"""

# %%
from matplotlib import pyplot as plt

print("```said```")
print("not shown", file=__import__("sys").stderr)
figure, axes = plt.subplots(figsize=(2, 1))
plt.show()

# %%
6 * 7
'''


def test_an_example_becomes_a_page_with_its_output(monkeypatch, tmp_path):
    gallery = hook("gallery", monkeypatch)
    monkeypatch.setattr(gallery, "CACHE", tmp_path / "cache")
    (tmp_path / "one.py").write_text(EXAMPLE)

    def made_page():
        path = tmp_path / "one.py"
        return gallery.rendered(path, *gallery.executed([path]))

    made = made_page()
    assert (made.name, made.title, made.summary) == ("one", "A title", "One paragraph, of two lines.")
    assert [*made.figures] == ["one-1.svg"]
    assert b"<svg" in made.figures["one-1.svg"]
    assert made.page.startswith("# A title\n")
    for part in (
        '``` { .python }\nfrom matplotlib import pyplot as plt\n\nprint("```said```")'.replace("``` {", "```` {"),
        "```` { .text .output .no-copy }\n```said```\n````",
        "![Figure 1](one-1.svg)",
        "``` { .text .output .no-copy }\n42\n```",
        "[Download `one.py`](scripts/one.py)",
    ):
        assert part in made.page
    assert "not shown" not in made.page.replace('print("not shown"', "")
    # What has been executed is kept as long as nothing changes.
    monkeypatch.setattr(gallery, "NotebookClient", None)
    assert made_page() == made
    monkeypatch.setattr(gallery, "library_digest", lambda: "another library")
    with pytest.raises(TypeError):
        made_page()


def test_an_example_that_fails_or_has_no_title_is_named(monkeypatch, tmp_path):
    gallery = hook("gallery", monkeypatch)
    monkeypatch.setattr(gallery, "CACHE", tmp_path / "cache")
    (tmp_path / "bad.py").write_text("# %%\n1 / 0\n")
    with pytest.raises(PluginError, match=r"(?s)bad\.py failed.*ZeroDivisionError"):
        gallery.executed([tmp_path / "bad.py"])
    untitled = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    with pytest.raises(PluginError, match=r"untitled\.py must begin with"):
        gallery.rendered(tmp_path / "untitled.py", untitled)
