"""The figures of graphs, with small presets."""

import json
from dataclasses import replace

import pytest
from small_presets import small_domains

from energysolve.experiments import figure2, sizes, table1, table2
from energysolve.experiments.runs import Laboratory

pytest.importorskip("torch_geometric")


@pytest.fixture
def laboratory(tmp_path):
    domains = {
        name: replace(domain, kinds={}) for name, domain in small_domains().items() if domain.section == "graphs"
    }
    return Laboratory(tmp_path / "models", tmp_path / "results", "energysolve reproduce ...", 3, domains=domains)


def test_errors_against_sizes(laboratory, monkeypatch):
    monkeypatch.setattr(sizes, "SIZES", {3: 3, 5: 2})
    monkeypatch.setattr(sizes, "_SPARSE", (6, 2))
    written = sizes.reproduce(laboratory, "best", 1)
    found = json.loads((laboratory.results / "sizes.json").read_text())["tasks"]
    assert set(found) == {"edge-copy", "components", "shortest-path"}
    at = found["components"]["seed 0"]["as in training"]["5"]
    assert at["problems"] == 2
    assert 0 <= at["exact"] <= 1
    assert at["best step's error"] <= at["error"] + 1e-6
    assert set(found["shortest-path"]["seed 0"]) == {"as in training", "random geometric", "Barabási-Albert"}
    assert all(path.exists() for path in written)


def test_errors_against_steps_at_several_sizes(laboratory, monkeypatch):
    monkeypatch.setattr(figure2, "SIZES", (3, 4))
    monkeypatch.setattr(figure2, "STEPS", 2)
    written = figure2.reproduce(laboratory, "tuned", 1)
    found = json.loads((laboratory.results / "figure2.json").read_text())["tasks"]
    assert [len(curve) for curve in found["edge-copy"]["IREM"].values()] == [3, 3]
    assert all(path.exists() for path in written)


def test_replay_and_truncation(laboratory):
    """All four combinations; gradients through all steps need more memory, and so do twice as many graphs."""
    laboratory = replace(laboratory, iterations=3)
    written = table2.reproduce(laboratory, "paper", 1)
    rows = json.loads((laboratory.results / "table2.json").read_text())["rows"]
    memory = {(row["replay"], row["gradients"]): row["peak_mib"] for row in rows}
    assert len(memory) == 4
    assert memory[True, "all steps"] > memory[True, "last step"] > memory[False, "last step"]
    assert memory[True, "all steps"] > memory[False, "all steps"]
    assert all(row["seconds_per_iteration"] > 0 and row["errors"]["same"]["error"] > 0 for row in rows)
    assert "| yes | last step |" in (laboratory.results / "table2.md").read_text()
    assert all(path.exists() for path in written)


def test_table_1_has_both_halves(laboratory):
    """Rows of graphs name the larger problems; those of the energy carry the paper's errors."""
    table1.reproduce(laboratory, "paper", 1)
    text = (laboratory.results / "table1.md").read_text()
    assert "## Connected components" in text
    assert "| edges | - |" in text
    row = next(line for line in text.splitlines() if line.startswith("| IREM | `paper` |"))
    assert "| 0.0019 |" in row
