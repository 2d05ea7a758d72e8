# %% [markdown]
"""
# Inpainting and deblurring with the same regularizer

Energies add. The regularizer of a denoising energy, `R(y)`, knows what photographs look
like, whatever was done to them; with another data term, `1/2 |A y - x|²`, it fills in
missing pixels, or sharpens a blurred photograph, without any further training. Needs
the extra `image`.
"""

# %%
import torch
from matplotlib import pyplot as plt
from skimage import data
from torch.nn import functional as F

from energysolve import Energy, EnergySolver, FromInput, GradientNorm
from energysolve.images import psnr

# %% [markdown]
# ## A denoising energy
#
# The shipped one, [as before](denoise_photograph.py).

# %%
denoiser = EnergySolver.from_pretrained("denoise")

# %% [markdown]
# ## Its regularizer
#
# The denoising energy without its data term `1/2 |y - x|²`. The strength `sigma` is
# what was the noise level. A problem is a dictionary with the observed `image`, a
# `start` for the descent, and `sigma`.


# %%
class Regularizer(Energy):
    def __init__(self, denoising):
        super().__init__()
        self.denoising = denoising

    def encode(self, x):
        return x["start"], self.denoising.encode((x["start"], x["sigma"]))

    def evaluate(self, context, y):
        start, encoded = context
        near = (y - start).square().flatten(1).sum(1) / 2
        return self.denoising.evaluate(encoded, y) - near


regularizer = Regularizer(denoiser.energy).double()

# %% [markdown]
# ## Two data terms
#
# What an answer would look like if it were observed, against what was: with pixels
# missing, or through a blur.


# %%
def seen(x, y):
    return (x["mask"] * (y - x["image"])).square().flatten(1).sum(1) / 2


place = torch.arange(-6, 7, dtype=torch.float64)
line = torch.exp(-(place**2) / 8)
kernel = torch.outer(line, line)[None, None] / line.sum() ** 2


def blur(y):
    return F.conv2d(F.pad(y, (6, 6, 6, 6), mode="reflect"), kernel)


def blurred(x, y):
    return (blur(y) - x["image"]).square().flatten(1).sum(1) / 2


# %% [markdown]
# ## The problems
#
# A photograph with half of its pixels missing, and blurred (a Gaussian of two
# pixels), both with a little noise. Holes start from the mean of the pixels around
# them.

# %%
photograph = torch.tensor(data.stereo_motorcycle()[0][100:196, 340:484]).double()
photograph = photograph.mean(2)[None, None] / 255
generator = torch.Generator().manual_seed(0)
noise = torch.zeros_like(photograph).normal_(0, 2 / 255, generator=generator)
mask = (torch.rand(photograph.shape, generator=generator) < 1 / 2).double()
holes = mask * (photograph + noise)
filled = torch.where(mask > 0, holes, blur(holes) / blur(mask).clamp(min=1e-6))
soft = blur(photograph) + noise


def strength(sigma):
    return torch.tensor([sigma / 255], dtype=torch.float64)


problems = {
    "inpainting": (
        regularizer + seen,
        {"image": holes, "mask": mask, "start": filled, "sigma": strength(5)},
    ),
    "deblurring": (
        regularizer + blurred,
        {"image": soft, "start": soft, "sigma": strength(1)},
    ),
}

# %% [markdown]
# ## The solves
#
# In float64: the data terms are weak in some directions, and sums of many small terms
# lose digits.

# %%
answers, starts = {}, {}
for name, (energy, x) in problems.items():
    solver = EnergySolver(
        energy,
        init=FromInput(lambda x: x["start"]),
        halting=GradientNorm(rtol=1e-2),
        max_steps=500,
    )
    solution = solver.minimize(x)
    answers[name], starts[name] = solution.y, x["start"]
    solution.raise_for_status(strict=True)
    before, after = (psnr(each, photograph).item() for each in (x["start"], solution.y))
    print(f"{name}: {before:.1f} -> {after:.1f} dB after {solution.steps.item()} steps")

# %%
figure, axes = plt.subplots(2, 2, figsize=(7, 5), layout="constrained")
observed = {"inpainting": holes, "deblurring": soft}
for row, name in zip(axes, problems, strict=True):
    for axis, image in zip(row, (observed[name], answers[name]), strict=True):
        axis.imshow(image[0, 0].numpy(), cmap="gray", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
    row[0].set_title("observed")
    decibels = psnr(answers[name], photograph).item()
    row[1].set_title(f"{name}: {decibels:.1f} dB")
plt.show()

# %% [markdown]
# More on energies of images: [Images](../docs/images.md). More on sums of energies:
# [Write your own energy](../docs/custom-energy.md).
