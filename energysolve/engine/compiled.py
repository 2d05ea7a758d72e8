"""The compiled step."""

from functools import cache
from typing import Any

import torch

from .loop import Carry, Descent

COMPILE_OPTIONS: dict[str, Any] = {"pattern_matcher": False}
"""Options of `torch.compile`. The pattern matcher of torch 2.13 fuses ``torch.add(a, b @ c, alpha=...)`` into one
product and drops alpha. It also fuses biases into products, which is slower than fusing them into the next activation.
"""


@cache
def _compiled():
    return torch.compile(Descent.advance, fullgraph=True, dynamic=False, options=COMPILE_OPTIONS)


def advance_compiled(descent: Descent, carry: Carry) -> Carry:
    """`Descent.advance`, compiled at its first use."""
    return _compiled()(descent, carry)
