"""Addition: what is measured of its models besides their errors."""

import numpy as np
import torch

from energysolve import Solution
from energysolve.presets.vector import composition
from energysolve.tasks import Addition


class InexactAdder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.error = torch.nn.Parameter(torch.tensor(0.1))

    def solve(self, x, max_steps=None, *, generator=None):
        a, b = x.chunk(2, -1)
        return Solution.of_answers((a + b + self.error).detach())


def test_composition_adds_up():
    errors = composition(InexactAdder(), Addition(3), 0, 5)
    np.testing.assert_allclose(errors, [(0.1 * k) ** 2 for k in range(1, 11)], rtol=1e-4)
