# %% [markdown]
"""
# A halting criterion of your own, with its laws

When is an answer good enough? Two criteria, a function and a class with state, and
property-based tests of the laws that every criterion satisfies: over optimizers,
energies and layouts that hypothesis draws. Needs the extra `testing`.
"""

# %%
from dataclasses import dataclass

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt

from energysolve import SGD, EnergySolver, Halting, Normal, Trajectory, halting
from energysolve.testing import check_halting
from energysolve.testing.strategies import (
    batch_layout,
    batches,
    criteria,
    energies,
    optimizers,
)

# %% [markdown]
# ## Two criteria
#
# `@halting` turns a function of the iterate into a criterion. It returns one boolean
# for each sample.


# %%
@halting
def descended(info):
    """Fires where the energy has fallen to a hundredth of its initial value."""
    return info.energy <= 0.01 * info.initial_energy


# %% [markdown]
# A criterion that remembers something subclasses `Halting`. The loop carries what it
# remembers, one value for each sample; the object itself never changes.


# %%
@dataclass(frozen=True)
class Stagnant(Halting):
    """Fires where the lowest energy so far is ``n`` iterates old."""

    n: int

    def init(self, energy):
        age = torch.zeros_like(energy, dtype=torch.int64)
        return torch.full_like(energy, torch.inf), age

    def update(self, info, state):
        lowest, age = state
        better = info.energy < lowest
        age = torch.where(better, 0, age + 1)
        return age >= self.n, (torch.minimum(lowest, info.energy), age)


# %% [markdown]
# ## In use
#
# On an energy with many local minima, most samples never descend to a hundredth. With
# `|` the other criterion stops those.


# %%
def bumpy(x, y):
    away = y - x
    return (away.square() + 1 - (5 * away).cos()).sum(-1)


x = torch.zeros(64, 2)
y = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
solver = EnergySolver(bumpy, SGD(lr=0.03), init=Normal((2,)), max_steps=100)
solutions = {}
for name, criterion in {
    "descended": descended,
    "Stagnant(5)": Stagnant(5),
    "descended | Stagnant(5)": descended | Stagnant(5),
}.items():
    solution = solver.replace(halting=criterion, recorder=Trajectory()).minimize(x, y)
    solutions[name] = solution
    share, steps = solution.converged.float().mean(), solution.steps.float().mean()
    print(f"{name}: {share:.0%} halted, after {steps:.1f} steps on average")

# %%
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
both = solutions["descended | Stagnant(5)"]
paths = torch.stack(both.record.energy)  # (iterates, 64)
for sample, steps in enumerate(both.steps.tolist()):
    axes.plot(paths[: steps + 1, sample], color="C0", linewidth=0.6, alpha=0.6)
    axes.plot(steps, paths[steps, sample], ".", color="C1")
axes.set(xlabel="iterate", ylabel="energy", title="Each sample stops on its own (dots)")
axes.set(xlim=(-0.5, int(both.steps.max()) + 0.5))
plt.show()

# %% [markdown]
# ## Its laws
#
# `check_halting` checks what every criterion must satisfy: one decision per sample,
# samples that do not see each other, no state on the object.

# %%
check_halting(descended)
check_halting(Stagnant(5))

# %% [markdown]
# The strategies of `energysolve.testing` draw whole solves: energies, optimizers, other
# criteria, batches of every layout. The laws of composition hold for all of them. In a
# test file, pytest would find these functions; here they are called.

# %%
few = settings(max_examples=15, deadline=None, database=None)


@few
@given(batches(), energies(), optimizers(), criteria(), st.integers(1, 4))
def test_either_halts_at_the_earlier(batch, energy, optimizer, other, n):
    def steps(criterion):
        scratchpad = None if batch.z is None else (lambda x, layout, generator: batch.z)
        solver = EnergySolver(
            energy,
            optimizer,
            layout=batch_layout,
            halting=criterion,
            scratchpad=scratchpad,
            max_steps=12,
        )
        return solver.minimize(batch.x, batch.y, batch.z).steps

    alone = torch.minimum(steps(Stagnant(n)), steps(other))
    assert torch.equal(steps(Stagnant(n) | other), alone)


@few
@given(n=st.integers(1, 10), seed=st.integers(0, 1000))
def test_more_patience_never_takes_fewer_steps(n, seed):
    y = torch.randn(16, 2, generator=torch.Generator().manual_seed(seed))
    sooner = solver.replace(halting=Stagnant(n)).minimize(x[:16], y)
    later = solver.replace(halting=Stagnant(n + 1)).minimize(x[:16], y)
    assert (sooner.steps <= later.steps).all()


test_either_halts_at_the_earlier()
test_more_patience_never_takes_fewer_steps()
print("the laws hold")

# %% [markdown]
# The criteria that come with the library, and what each can tell of a minimum:
# [Halting](../docs/custom-halting.md) and
# [Is CONVERGED the minimum?](../docs/convergence.md)
