"""The model card of a saved solver: its ``README.md``, generated from its configuration alone."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from .registry import LIBRARY
from .serialization import from_config

_SEAL = "<!-- Written by energysolve, anew with each save until somebody edits it. sha256 of the text above: "
_FLOORS = {"zero_error": "floor: error of answering zero", "copy_error": "floor: error of giving back what is seen"}
"""Errors of trivial answers to the same problems, in configurations of earlier versions."""

_CARD = """\
---
library_name: energysolve
tags:
- energy-based-model
---

# {title}

A trained energy `E(x, y)` and the solver that answers with it, saved by energysolve {version}. To answer a problem `x`,
the solver descends the energy in `y`, sample by sample, until its halting criterion is met.

## How to load it

```bash
pip install 'energysolve[hub]'
```

```python
from energysolve import EnergySolver

solver = EnergySolver.from_pretrained({arguments})
solution = solver.minimize(x)  # solution.y, .energy, .steps, .status, .converged
```
{note}
## Settings

{settings}
"""


def model_card(config: Mapping[str, Any], name: str) -> str:
    """The card of a saved solver, in Markdown, from its ``config.json``.

    ``name`` is the argument for `EnergySolver.from_pretrained`: a folder or an id on the hub. The card ends with a seal
    by which `unedited` recognizes it.
    """
    argument, note = _energy_argument(config["energy"])
    sections = [
        _CARD.format(
            title=_line(name),
            version=_line(config.get("energysolve", "(unknown version)")),
            arguments=json.dumps(name, ensure_ascii=False) + argument,
            note=note,
            settings=_settings(config),
        )
    ]
    training = dict(config.get("training") or {})
    evaluation = training.pop("evaluation", None)
    if evaluation:
        sections.append(f"## Evaluation\n\n{_evaluation(evaluation)}\n")
    if training:
        sections.append(f"## Training\n\n{_json(training)}\n")
    text = "\n".join(sections) + "\n"
    return text + _seal(text)


def unedited(card: str) -> bool:
    """Whether a card is exactly as `model_card` wrote it, so that replacing it loses nobody's edits."""
    text, mark, _ = card.rpartition(_SEAL)
    return bool(mark) and card == text + _seal(text)


def _energy_argument(energy: Mapping[str, Any]) -> tuple[str, str]:
    """What to pass to `EnergySolver.from_pretrained` for an energy that the library cannot build, and a note on it."""
    cls = _line(energy["class"])
    if energy.get("config") is None:
        return ", energy=energy", f"\nHere `energy` is a `{cls}`, whose code is not part of the model.\n"
    if cls in LIBRARY:
        return "", ""
    return f", energy={cls}", f"\nThe code of the class `{cls}` is not part of the model.\n"


def _seal(text: str) -> str:
    return f"{_SEAL}{hashlib.sha256(text.encode()).hexdigest()} -->\n"


def _settings(config: Mapping[str, Any]) -> str:
    energy, solver = config["energy"], config["solver"]
    arguments = energy.get("config") or {}
    shown = f"{energy['class']}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"
    rows = {"energy": shown if arguments else energy["class"]}
    for name, value in solver.items():
        rows[name] = repr(from_config(value) if isinstance(value, dict) else value)
    return _table(["part", "setting"], ([name, f"`{_line(shown)}`"] for name, shown in rows.items()))


def _evaluation(evaluation: Any) -> str:
    """A table with a column for each difficulty; evaluations of another form as JSON."""
    if not isinstance(evaluation, Mapping) or not all(isinstance(each, Mapping) for each in evaluation.values()):
        return _json(evaluation)
    columns = {difficulty: dict(_flat(measures)) for difficulty, measures in evaluation.items()}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    labels = {name: _FLOORS.get(name, name.replace("floors, ", "floor: ")) for name in names}
    rows = [[label, *(column.get(name, "-") for column in columns.values())] for name, label in labels.items()]
    table = _table(["", *columns], rows)
    if all(name == label for name, label in labels.items()):
        return table
    return f"{table}\n\nCompare an error with its floor: the error of a trivial answer to the same problems."


def _flat(measures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in measures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}, ")
        else:
            yield f"{prefix}{name}", value


def _table(header: list[str], rows: Any) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_line(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _line(value: Any) -> str:
    """A value in one line, numbers with four digits."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())


def _json(value: Any) -> str:
    return f"```json\n{json.dumps(value, indent=2, ensure_ascii=False)}\n```"
