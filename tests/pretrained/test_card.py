"""Model cards: what they show, and when they are replaced."""

import re

import pytest
import torch
from huggingface_hub import ModelCard

from energysolve import SGD, EnergySolver, MLPEnergy, Uniform
from energysolve.pretrained.card import model_card, unedited
from energysolve.pretrained.files import find, load, read_config, save


def small_solver(**fields):
    return EnergySolver(MLPEnergy(6, 3, width=8), SGD(lr=0.5), init=Uniform((3,))).replace(**fields)


def test_the_card_follows_the_solver_until_somebody_edits_it(tmp_path):
    card = tmp_path / "README.md"
    small_solver(max_steps=7).save_pretrained(tmp_path)
    assert "| max_steps | `7` |" in card.read_text()
    small_solver(max_steps=8).save_pretrained(tmp_path)
    assert "| max_steps | `8` |" in card.read_text()
    for edited in (card.read_text().replace("`8`", "`9`"), card.read_text() + "\nMore.\n", "Mine", ""):
        card.write_text(edited)
        assert not unedited(edited)
        small_solver(max_steps=10).save_pretrained(tmp_path)
        assert card.read_text() == edited


def test_the_card_shows_how_to_load_and_what_was_measured():
    config = read_config(find("addition-mlp"))
    card = model_card(config, "addition-mlp")
    assert card.startswith("---\nlibrary_name: energysolve\n")
    assert ModelCard(card, ignore_metadata_errors=False).data.library_name == "energysolve"
    solver = load(EnergySolver, "addition-mlp")
    for name in ("optimizer", "init", "halting", "max_steps"):
        assert f"| {name} | `{getattr(solver, name)!r}` |" in card
    evaluation = config["training"]["evaluation"]
    for name, row in {"error": "error", "zero_error": "floor: error of answering zero"}.items():
        values = [f"{evaluation[difficulty][name]:.4g}" for difficulty in ("same", "harder")]
        assert f"| {row} | {' | '.join(values)} |" in card
    assert "|  | same | harder |" in card
    assert config["training"]["command"] in card
    shown = re.search(r"```python\n(.*?)```", card, flags=re.DOTALL)[1]
    space = {"x": torch.rand(2, 800)}
    exec(shown, space)
    assert space["solution"].y.shape == (2, 400)


@pytest.mark.parametrize(
    ("training", "shown"),
    [
        ({"evaluation": {"test": {"error": None, "by | pipe": 1}}}, [r"| by \| pipe | 1 |", "| error | - |"]),
        ({"evaluation": {"accuracy": 0.5}}, ['"accuracy": 0.5']),
        ({"by": "hand\n```\n# heading"}, [r'"by": "hand\n```\n# heading"']),
    ],
)
def test_any_training_metadata_is_shown(tmp_path, training, shown):
    small_solver().save_pretrained(tmp_path, training=training)
    assert read_config(tmp_path)["training"] == training
    card = (tmp_path / "README.md").read_text()
    assert all(each in card for each in shown)
    assert "floor" not in card


def test_a_card_is_written_by_save_too(tmp_path):
    save(small_solver(), tmp_path / "name")
    assert 'from_pretrained("name")' in (tmp_path / "name" / "README.md").read_text()
