"""A limit of time, so that a slow energy keeps nobody waiting."""

import time

import torch

from ..halting import Halting


class Deadline(Halting):
    """Fires for all samples once so many seconds have passed since it was made; for one solve."""

    def __init__(self, seconds: float):
        self._end = time.monotonic() + seconds
        self.passed = False

    def fires(self, info):
        self.passed = time.monotonic() >= self._end
        return torch.full_like(info.energy, self.passed, dtype=torch.bool)

    def earliest(self):
        return 1
