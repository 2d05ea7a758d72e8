"""The compiled step."""

from functools import cache

import torch

from .loop import Carry, Descent


@cache
def _compiled():
    return torch.compile(Descent.advance, fullgraph=True, dynamic=False)


def advance_compiled(descent: Descent, carry: Carry) -> Carry:
    """`Descent.advance`, compiled at its first use."""
    return _compiled()(descent, carry)
