# %% [markdown]
"""
# A solve on a Ray cluster

Problems in a dataset of Ray Data, solved where they are, on as many cores or machines
as the cluster has. Here the cluster is this machine; on a real one, only the address
changes. Needs the extra `ray`.
"""

# %%
import logging
import os
import warnings

import numpy as np
import torch

from energysolve import EnergySolver, GradientNorm, Zeros

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage reports to Ray
try:
    import ray
except ImportError:
    ray = None
    print("This example needs Ray: pip install 'energysolve[ray]'")

# %% [markdown]
# ## The solver
#
# Any solver, with an energy of your own too: Ray sends it to the workers. This one
# finds the softmax of `x`, as the minimum over logarithms of probabilities.


# %%
def energy(x, y):  # (batch, 4) each  ->  (batch,)
    return y.exp().sum(1) - (x.softmax(1) * y).sum(1)


solver = EnergySolver(energy, init=Zeros((4,)), halting=GradientNorm(1e-4))

# %% [markdown]
# ## The dataset
#
# Rows with a key and a problem. On a cluster this would be
# `ray.data.read_parquet("s3://bucket/problems")` after `ray.init("auto")`.

# %%
problems = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)
rows = []
if ray is not None:
    import ray.data

    from energysolve.streaming.cluster import Columns, solve_dataset

    warnings.simplefilter("ignore")  # those of Ray's own threads
    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=256 << 20,
    )
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    items = [{"key": f"k{i}", "x": row} for i, row in enumerate(problems)]
    dataset = ray.data.from_items(items, override_num_blocks=4)

    answers = solve_dataset(solver, dataset, problem=Columns(["x"]), chunk=256)
    rows = answers.take_all()
    ray.shutdown()

# %% [markdown]
# ## The answers
#
# They are further columns of the dataset, in its order: `answers.write_parquet(...)`
# would write them without any process ever holding all of them.

# %%
if rows:
    print(rows[0])
    y = torch.tensor(np.stack([row["y"] for row in rows]))
    steps = torch.tensor([row["steps"] for row in rows])
    error = (y.exp() - torch.tensor(problems).softmax(1)).abs().max().item()
    print(f"{len(rows)} problems, {steps.float().mean():.1f} steps on average,")
    print(f"largest error {error:.0e}")

# %% [markdown]
# What happens when a worker dies, files instead of datasets, and what a billion
# problems take: [Beyond one machine](../docs/scale.md).
