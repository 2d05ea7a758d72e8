"""Custom halting criteria, a decorated function and a class with state, and a property test.

Needs the ``testing`` extra (hypothesis).
"""

from dataclasses import dataclass

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from energysolve import SGD, EnergySolver, Halting, Normal, halting
from energysolve.testing import check_halting


@halting
def descended(info):
    """Fires where the energy has fallen to a hundredth of its initial value."""
    return info.energy <= 0.01 * info.initial_energy


@dataclass(frozen=True)
class Stalled(Halting):
    """Fires where the lowest energy so far is ``n`` iterates old.

    The loop carries the lowest energy and its age; the object itself never changes.
    """

    n: int

    def init(self, energy):
        return torch.full_like(energy, torch.inf), torch.zeros_like(energy, dtype=torch.int64)

    def update(self, info, state):
        lowest, age = state
        better = info.energy < lowest
        age = torch.where(better, 0, age + 1)
        return age >= self.n, (torch.minimum(lowest, info.energy), age)


def bumpy(x, y):
    return ((y - x).square() + 0.3 * (1 - (5 * (y - x)).cos())).sum(-1)


solver = EnergySolver(bumpy, SGD(lr=0.05), init=Normal((2,)), halting=descended, max_steps=100)
x = torch.zeros(64, 2)


@settings(max_examples=20, deadline=None, database=None)
@given(n=st.integers(1, 10), seed=st.integers(0, 1000))
def test_more_patience_never_takes_fewer_steps(n, seed):
    check_halting(Stalled(n))  # one decision per sample, independent samples, no state on the object
    y = torch.randn(16, 2, generator=torch.Generator().manual_seed(seed))
    sooner = solver.replace(halting=Stalled(n)).minimize(x[:16], y)
    later = solver.replace(halting=Stalled(n + 1)).minimize(x[:16], y)
    assert (sooner.steps <= later.steps).all()


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    check_halting(descended)
    for name, criterion in {"descended": descended, "Stalled(5)": Stalled(5), "either": descended | Stalled(5)}.items():
        solution = solver.replace(halting=criterion).minimize(x, generator=generator)
        share = solution.converged.float().mean().item()
        print(f"{name}: {share:.0%} of the samples halted, after {solution.steps.float().mean():.1f} steps on average")
    test_more_patience_never_takes_fewer_steps()
    print("property test passed")


if __name__ == "__main__":
    main()
