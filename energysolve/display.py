"""HTML for notebooks. All text is escaped."""

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = "text-align:left; padding:2px 12px 2px 0; vertical-align:top; font-weight:normal"


def card(title: str, rows: Iterable[tuple[str, str]], *more: str) -> str:
    """A title, names with values, and further HTML. Line breaks in values are kept."""
    lines = "".join(
        f'<tr><th style="{_STYLE}; opacity:.7">{escape(name)}</th>'
        f'<td style="{_STYLE}; white-space:pre-wrap; font-family:monospace">{escape(value)}</td></tr>'
        for name, value in rows
    )
    return f"<div><strong>{escape(title)}</strong><table>{lines}</table>{''.join(more)}</div>"


def folded(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that opens by a click on its title."""
    head = "".join(f'<th style="{_STYLE}; opacity:.7">{escape(heading)}</th>' for heading in headings)
    lines = [f'<td style="{_STYLE}">' + f'</td><td style="{_STYLE}">'.join(map(escape, row)) + "</td>" for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<details><summary>{escape(title)}</summary><table><tr>{head}</tr>{body}</table></details>"
