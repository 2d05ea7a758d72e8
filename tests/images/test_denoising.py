"""Images as arrays: answers are those of the solver, whatever the colours, the depth and the size."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from image_energies import Estimating, Halving, Smooth

from energysolve import LBFGS, EnergySolver, GradientNorm
from energysolve.images import denoise, solve_image
from energysolve.initializers import FromInput

RNG = np.random.default_rng(0)
CLEAN = np.kron(RNG.random((4, 5)), np.ones((8, 8)))
IMAGE = CLEAN + 0.1 * RNG.standard_normal(CLEAN.shape)


def solver_of(energy, **options):
    settings = {"init": FromInput(), "halting": GradientNorm(rtol=1e-4), "max_steps": 300, **options}
    return EnergySolver(energy, LBFGS(), **settings)


SMOOTH = solver_of(Smooth())
HALVING = solver_of(Halving())


def test_a_grey_image_is_solved_as_it_is():
    for image in (IMAGE, IMAGE.astype(np.float32)):
        x = torch.from_numpy(image)[None, None].float()
        expected = SMOOTH.minimize(x).y[0, 0].numpy()
        found = denoise(SMOOTH, image)
        assert found.dtype == image.dtype
        np.testing.assert_allclose(found, expected, atol=1e-6)
        np.testing.assert_array_equal(denoise(SMOOTH, image[..., None])[..., 0], found)
    assert np.square(found - CLEAN).mean() < 0.5 * np.square(IMAGE - CLEAN).mean()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_keep_their_depth(dtype):
    white = np.iinfo(dtype).max
    image = (IMAGE.clip(0, 1) * white).round().astype(dtype)
    found = denoise(SMOOTH, image)
    assert found.dtype == dtype
    np.testing.assert_allclose(found / white, denoise(SMOOTH, image / white), atol=0.51 / white + 1e-6)


def test_rounding_stays_in_the_range():
    class Brighter(Halving):
        def evaluate(self, context, y):
            return (y - 3 * context + 1).square().flatten(1).sum(1) / 2

    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(
        denoise(solver_of(Brighter()), image), (3.0 * image - 255).clip(0, 255).round().astype(np.uint8)
    )


def test_colours_are_solved_as_luminance_and_two_differences():
    """Which are orthogonal, so that halving them, each stored around 1/2, is known in terms of the colours."""
    image = RNG.random((6, 7, 3))
    light = image.mean(-1, keepdims=True)
    # A difference d is stored as d + 1/2. Half of that is d/2 + 1/4, which is read as d/2 - 1/4.
    shift = -0.25 * np.array([1 + 2 / 3, -4 / 3, -1 + 2 / 3])
    expected = light / 2 + (image - light) / 2 + shift
    np.testing.assert_allclose(denoise(HALVING, image), expected, atol=1e-5)


def test_grey_colours_stay_grey_and_the_sum_of_colours_is_the_luminances():
    image = np.repeat(IMAGE[..., None], 3, 2)
    found = denoise(SMOOTH, image)
    np.testing.assert_array_equal(found[..., 0], found[..., 1])
    np.testing.assert_array_equal(found[..., 0], denoise(SMOOTH, IMAGE))
    tinted = RNG.random((9, 8, 3))
    np.testing.assert_allclose(denoise(SMOOTH, tinted).mean(-1), denoise(SMOOTH, tinted.mean(-1)), atol=1e-4)


def test_each_plane_is_told_its_own_noise():
    told = []

    class Telling(Smooth):
        def encode(self, x):
            told.append(x[1])
            return super().encode(x)

    noise = RNG.standard_normal((100, 100, 3))
    denoise(solver_of(Telling(), max_steps=2), 128 + 20 * noise, sigma=20.0)
    planes = [noise.mean(-1), (noise[..., 0] - noise[..., 2]) / 2, (noise @ [1, -2, 1]) / 4]
    np.testing.assert_allclose(told[0].numpy(), [20 * plane.std() for plane in planes], rtol=0.03)


def test_the_noise_is_in_units_of_the_image():
    image = (IMAGE.clip(0, 1) * 255).round().astype(np.uint8)
    expected = denoise(SMOOTH, image / 255, sigma=0.3)
    np.testing.assert_allclose(denoise(SMOOTH, image, sigma=0.3 * 255) / 255, expected, atol=0.51 / 255)
    assert np.abs(expected - denoise(SMOOTH, image / 255, sigma=0.0)).max() > 0.01


def test_the_estimated_noise_is_told():
    image = 0.5 + 0.1 * RNG.standard_normal((40, 40, 3))
    found = solve_image(solver_of(Estimating()), image)
    assert found.sigma == pytest.approx(0.1, rel=0.05)
    assert found.steps <= found.evaluations
    assert found.converged
    assert solve_image(SMOOTH, image).sigma is None
    assert solve_image(SMOOTH, image, sigma=0.2).sigma == 0.2


def test_transparency_is_kept():
    image = RNG.integers(0, 256, (6, 7, 4), dtype=np.uint8)
    found = denoise(SMOOTH, image)
    np.testing.assert_array_equal(found[..., 3], image[..., 3])
    np.testing.assert_array_equal(found[..., :3], denoise(SMOOTH, image[..., :3]))
    found = denoise(SMOOTH, image[..., :2])
    np.testing.assert_array_equal(found[..., 1], image[..., 1])
    np.testing.assert_array_equal(found[..., 0], denoise(SMOOTH, image[..., 0]))


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (1, 9), (7, 6), (7, 6, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_constant_images_are_their_own_answer(shape, dtype):
    image = np.full(shape, 7, dtype=dtype)
    for solver in (SMOOTH, solver_of(Estimating()), HALVING):
        found = solve_image(solver, image)
        np.testing.assert_array_equal(found.image, image)
        assert (found.steps, found.converged) == (0, True)


@pytest.mark.parametrize(("energy", "shape"), [(Smooth(), (70, 131, 3)), (Estimating(), (110, 90))])
def test_tiles_give_the_answer_of_the_whole(energy, shape):
    """Noise that grows from left to right: tiles that estimated it on their own would differ."""
    image = 0.5 + RNG.standard_normal(shape) * np.linspace(0.05, 0.2, shape[1]).reshape(
        (1, -1) + (1,) * (len(shape) - 2)
    )
    solver = solver_of(energy, halting=GradientNorm(rtol=1e-4))
    seen = []
    found = denoise(solver, image, tile=32, overlap=24, progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_allclose(found, denoise(solver, image), atol=2e-3)
    assert seen[-1][0] == seen[-1][1] == len(seen) > 4
    assert np.abs(denoise(solver, image, tile=32, overlap=0) - found).max() > 0.01


def test_unlike_sizes_are_told_how_to_be_solved():
    images = [IMAGE, IMAGE[:5]]
    with pytest.raises(ValueError, match=r"\[denoise\(solver, image\) for image in images\]"):
        denoise(SMOOTH, images)
    tensors = [torch.from_numpy(image)[None, None] for image in images]
    with pytest.raises(ValueError, match="one at a time"):
        SMOOTH.minimize(tensors)
    with pytest.raises(ValueError, match=r"one floating-point tensor \(batch, 1, H, W\)"):
        SMOOTH.minimize(tensors[0][0])
    with pytest.raises(ValueError, match=r"one noise level for each of the 1 images, \(1,\)"):
        SMOOTH.minimize((tensors[0], torch.ones(2)))


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((3, 4, 5)), {}, r"got shape \(3, 4, 5\)"),
        (np.zeros((2, 3, 4, 3)), {}, "Several images are solved one at a time"),
        (np.zeros((0, 4)), {}, r"got shape \(0, 4\)"),
        (np.zeros((3, 4), dtype=bool), {}, "got bool"),
        (np.full((3, 4), np.nan), {}, "NaN or infinite"),
        (IMAGE, {"sigma": -1.0}, "sigma must be a finite number of 0 or more"),
        (IMAGE, {"sigma": np.inf}, "sigma must be a finite number"),
        (IMAGE, {"tile": 30}, "multiples of 4"),
    ],
)
def test_other_arrays_are_refused(image, options, message):
    with pytest.raises(ValueError, match=message):
        denoise(SMOOTH, image, **options)


LARGE = """
import resource
import numpy as np
from test_denoising import SMOOTH
from energysolve.images import denoise
image = np.zeros((4000, 6000), dtype=np.uint8)
image[::2, ::2] = 200
found = denoise(SMOOTH, image, max_steps=1)
assert found.shape == image.shape and found.dtype == np.uint8
assert 0 < found[100:200, 100:200].astype(float).std() < image[100:200, 100:200].astype(float).std()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_a_large_image_takes_little_memory():
    """24 megapixels, one step, within 4 GiB of memory; in a process of its own, whose memory is of this alone."""
    paths = [Path(__file__).parent, Path(__file__).parents[1], Path(__file__).parents[2]]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    ended = subprocess.run([sys.executable, "-c", LARGE], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert float(ended.stdout) < 4
