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

from energysolve import EnergySolver
from energysolve.images import psnr, solve_image

# %% [markdown]
# ## The energy
#
# The regularizer `R` is a field of experts: filters with potentials that remove noise
# and let edges pass. It was trained through its minimum, on other photographs.

# %%
solver = EnergySolver.from_pretrained("denoise")
print(solver)

# %% [markdown]
# ## Noise of two levels
#
# A part of a photograph in colour, 8 bits, with noise of standard deviation 25 and 75:
# training had at most 55. `denoise` takes NumPy arrays of any size and depth; the
# noise level `sigma` is in their units, and estimated where it is not given.

# %%
photograph = data.stereo_motorcycle()[0][80:208, 340:516]
generator = np.random.default_rng(0)
noisy, clean, smooth = {}, {}, {}
for sigma in (25, 75):
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
figure, axes = plt.subplots(2, 2, figsize=(7, 5.5), layout="constrained")
for row, sigma in zip(axes, noisy, strict=True):
    for axis, image in zip(row, (noisy[sigma], clean[sigma]), strict=True):
        axis.imshow(image.clip(0, 1))
        axis.set(title=f"{decibels(image):.1f} dB", xticks=[], yticks=[])
    row[0].set_ylabel(f"noise {sigma}")
plt.show()

# %% [markdown]
# Files and folders of images, on the command line too: [Images](../docs/images.md). The
# same regularizer [fills holes and sharpens](inpaint_and_deblur.py).
