"""The compiled step."""

from functools import cache
from typing import Any

import torch

from .loop import Carry, Descent

COMPILE_OPTIONS: dict[str, Any] = {"pattern_matcher": False}
"""Of the compiler. torch 2.13's pattern matcher fuses ``torch.add(a, b @ c, alpha=...)`` into one product and forgets
alpha; and fusing biases into products makes them slower than fusing them into the activations that follow.
"""


@cache
def _compiled():
    return torch.compile(Descent.advance, fullgraph=True, dynamic=False, options=COMPILE_OPTIONS)


def advance_compiled(descent: Descent, carry: Carry) -> Carry:
    """`Descent.advance`, compiled at its first use."""
    return _compiled()(descent, carry)
