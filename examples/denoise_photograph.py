# %% [markdown]
"""
# A photograph denoised

A learned energy of images, `E(x, y) = 1/2 |y - x|² + R(y)`, finds the clean photograph
behind a noisy one: near it, and of low energy. It takes any size and any noise level,
which it estimates itself, also beyond those that it was trained on. Needs the extra
`image`.
"""

# %%
import numpy as np
import torch
from matplotlib import pyplot as plt
from skimage import data
from skimage.restoration import denoise_tv_chambolle

from energysolve import CG, LBFGS, EnergySolver, FromInput, GradientNorm, Implicit
from energysolve.energies import FieldsEnergy
from energysolve.images import psnr, solve_image
from energysolve.tasks import Denoising
from energysolve.training import MinimumLoss, OneCycle, SupervisedTrainer

# %% [markdown]
# ## The energy
#
# The regularizer `R` is a field of experts: filters with potentials that let edges
# pass. Here a small one is trained for some seconds, on photographs other than the one
# below, through its minimum.


# %%
def told(x, target):
    """Training states the noise level, which otherwise is estimated."""
    return x, (x - target).square().flatten(1).mean(1).sqrt()


torch.manual_seed(0)
task = Denoising(size=32)
solver = EnergySolver(
    FieldsEnergy(filters=16, size=5, groups=8),
    LBFGS(memory=5),
    init=FromInput(),
    halting=GradientNorm(rtol=1e-2),
    differentiation=Implicit(CG(rtol=0.1, max_steps=60)),
)
loss = MinimumLoss(solver, power=1.25, pose=told)
trainer = SupervisedTrainer(
    loss, task, batch_size=4, lr=0.06, schedule=OneCycle(), clip_norm=1.0, replay=0
)
trainer.fit(60)
solver = EnergySolver(
    solver.energy, init=FromInput(), halting=GradientNorm(rtol=1e-3), max_steps=100
)

# %% [markdown]
# ## Noise of three levels
#
# A part of a photograph in colour, 8 bits, with noise of standard deviation 25, 50 and
# 75: training had at most 55. `denoise` takes NumPy arrays of any size and depth; the
# noise level `sigma` is in their units, and estimated where it is not given.

# %%
photograph = data.stereo_motorcycle()[0][60:252, 300:556]
generator = np.random.default_rng(0)
noisy, clean, smooth = {}, {}, {}
for sigma in (25, 50, 75):
    noise = generator.normal(scale=sigma, size=photograph.shape)
    noisy[sigma] = (photograph + noise) / 255  # not clipped
    found = solve_image(solver, noisy[sigma], sigma=sigma / 255)
    clean[sigma] = found.image
    print(f"noise {sigma}: {found.steps} steps, converged: {found.converged}")

# %% [markdown]
# ## How close to the photograph
#
# Peak signal-to-noise ratios, in decibels. Total variation (scikit-image), with the
# weight that is best for this very photograph, is the classical method to beat.


# %%
def decibels(image):
    pair = [torch.from_numpy(each)[None] for each in (image, photograph / 255)]
    return psnr(*pair).item()


for sigma, image in noisy.items():
    candidates = [
        denoise_tv_chambolle(image, weight=factor * sigma / 255, channel_axis=-1)
        for factor in (0.6, 0.8, 1.0, 1.2, 1.5)
    ]
    smooth[sigma] = max(candidates, key=decibels)
    results = [decibels(each) for each in (image, smooth[sigma], clean[sigma])]
    print(
        "noise {}: {:.1f} dB, total variation {:.1f}, energy {:.1f}".format(
            sigma, *results
        )
    )

# %%
figure, axes = plt.subplots(3, 2, figsize=(7, 8), layout="constrained")
for row, sigma in zip(axes, noisy, strict=True):
    for axis, image in zip(row, (noisy[sigma], clean[sigma]), strict=True):
        axis.imshow(image.clip(0, 1))
        axis.set(title=f"{decibels(image):.1f} dB", xticks=[], yticks=[])
    row[0].set_ylabel(f"noise {sigma}")
plt.show()

# %% [markdown]
# Files and folders of images, on the command line too: [Images](../docs/images.md). The
# same regularizer [fills holes and sharpens](inpaint_and_deblur.py).
