"""Docstrings as the site shows them: what reads well in Python becomes what its Markdown expects."""

import re
import textwrap
from typing import Any

import griffe

LITERAL = re.compile(r"^(?P<text>.*)::\n(?P<code>(?:\n+(?P<indent> {4,}).*(?:\n(?P=indent).*)*)+)", flags=re.MULTILINE)


def as_markdown(docstring: str) -> str:
    """Sections named `Example` are examples, and blocks announced by two colons are Python code."""
    docstring = re.sub(r"^( *)Example:$", r"\1Examples:", docstring, flags=re.MULTILINE)
    return LITERAL.sub(_fenced, docstring)


def _fenced(found: re.Match) -> str:
    before = re.match(" *", found["text"])[0]
    code = textwrap.dedent(found["code"].strip("\n"))
    return f"{found['text']}:\n\n" + textwrap.indent(f"```python\n{code}\n```", before)


class Docstrings(griffe.Extension):
    """Rewrites each docstring when it has been read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrites the docstring of an object."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
