"""The denoising task: patches are pixels of the images, in all positions and turns, and noise has its level."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from energysolve.images import psnr, ssim
from energysolve.tasks import Denoising
from energysolve.tasks.image import grey, images_of, noisy, photographs


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def folder(tmp_path):
    """Two images of unlike size, all of whose pixels differ, and their values."""
    values = np.random.default_rng(0).permutation(65536)[: 6 * 5 + 4 * 9]
    images = [values[:30].reshape(6, 5), values[30:].reshape(4, 9)]
    for number, image in enumerate(images):
        Image.fromarray(image.astype(np.uint16)).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path, [image / 65535 for image in images]


def test_every_patch_in_every_turn_is_drawn_equally_often(folder):
    path, images = folder
    patches = Denoising(3, str(path)).patches(24_000, generator())
    known = {}
    for image in images:
        for window in np.lib.stride_tricks.sliding_window_view(image, (3, 3)).reshape(-1, 3, 3):
            for turned in (np.rot90(flipped, k) for k in range(4) for flipped in (window, window[::-1])):
                known[turned.astype(np.float32).tobytes()] = 0
    assert len(known) == 8 * (4 * 3 + 2 * 7)
    for patch in patches.numpy():
        known[patch.tobytes()] += 1  # a KeyError for a patch that is not in the images
    expected = len(patches) / len(known)
    # The chi-squared statistic of 207 degrees of freedom: mean 207, standard deviation 20.
    assert sum((count - expected) ** 2 / expected for count in known.values()) < 207 + 5 * 20


def test_noise_has_the_level_of_the_difficulty():
    task = Denoising(16)
    for difficulty in ("15", "75"):
        x, target = task.sample(400, difficulty, generator())
        noise = (x - target) * 255
        assert noise.std().item() == pytest.approx(float(difficulty), rel=0.02)
        assert abs(noise.mean().item()) < 0.02 * float(difficulty)
    assert x.min() < -0.2  # not clipped
    assert 0 <= target.min() < target.max() <= 1


def test_training_draws_all_levels_up_to_the_highest():
    x, target = Denoising(32).sample(300, generator=generator())
    levels = ((x - target) * 255).flatten(1).std(1)
    assert levels.min() < 3
    assert 52 < levels.max() < 58
    assert levels.mean().item() == pytest.approx(27.5, rel=0.1)
    half = Denoising(32, most=20).sample(300, generator=generator())
    assert ((half[0] - half[1]) * 255).flatten(1).std(1).max() < 22


def test_told_problems_have_the_same_images_and_their_levels():
    x, target = Denoising(32).sample(50, generator=generator())
    (images, sigma), same = Denoising(32, told=True).sample(50, generator=generator())
    torch.testing.assert_close(images, x, rtol=0, atol=0)
    torch.testing.assert_close(same, target, rtol=0, atol=0)
    assert sigma.shape == (50,)
    torch.testing.assert_close((x - target).flatten(1).std(1), sigma, rtol=0.15, atol=0)


def test_the_same_generator_draws_the_same_problems():
    for difficulty in ("same", "45"):
        first, again = (Denoising(8).sample(5, difficulty, generator(3)) for _ in range(2))
        torch.testing.assert_close(first, again, rtol=0, atol=0)


def test_errors_are_of_clipped_answers():
    task = Denoising(8)
    x, target = task.sample(6, "75", generator())
    expected = ((x.clamp(0, 1) - target) ** 2).flatten(1).mean(1)
    torch.testing.assert_close(task.error_of(x, x, target), expected)
    torch.testing.assert_close(task.floors("75", x, target)["noisy image"], expected)
    (told, sigma), _ = Denoising(8, told=True).sample(6, "75", generator())
    torch.testing.assert_close(task.floors("75", (told, sigma), target)["noisy image"], expected)


def test_quality_is_that_of_torchmetrics():
    clean = torch.from_numpy(photographs(["camera"])["camera"])[None, None, 100:164, 200:264].double()
    images = torch.cat([noisy(clean, level / 255, generator()) for level in (15, 75)])
    target = clean.expand(2, -1, -1, -1)
    clipped = images.clamp(0, 1)
    for i in range(2):
        expected = peak_signal_noise_ratio(clipped[i], target[i], data_range=1.0)
        torch.testing.assert_close(psnr(images, target)[i], expected.double())
    expected = structural_similarity_index_measure(clipped, target, data_range=1.0, reduction="none")
    # Borders differ: torchmetrics reflects, scikit-image leaves them out.
    torch.testing.assert_close(ssim(images, target), torch.as_tensor(expected), atol=0.02, rtol=0)
    assert psnr(clean, clean).item() == float("inf")
    assert ssim(clean, clean).item() == pytest.approx(1)
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(clean[..., :10], clean[..., :10])


def test_photographs_are_those_of_scikit_image():
    found = images_of(None)
    assert len(found) == 9
    np.testing.assert_allclose(found["camera"], data.camera() / 255, atol=1e-6)
    with Image.fromarray(data.coffee()) as image:
        expected = np.asarray(image.convert("L")) / 255  # rounded
    np.testing.assert_allclose(found["coffee"], expected, atol=1 / 255)
    words = np.full((2, 2, 2), 65535, dtype=np.uint16)
    np.testing.assert_array_equal(grey(words), np.ones((2, 2)))


def test_what_cannot_be_sampled_is_told(folder, tmp_path):
    with pytest.raises(ValueError, match="'0' of 6 x 5 pixels is smaller than a patch of 6 x 6"):
        Denoising(6, str(folder[0])).sample(1)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"no images in .*none"):
        Denoising(6, str(tmp_path / "none")).sample(1)
    with pytest.raises(ValueError, match="no difficulty '60'"):
        Denoising(6).sample(1, "60")
    with pytest.raises(ValueError, match="size"):
        Denoising(0)
    with pytest.raises(ValueError, match="most"):
        Denoising(most=-1.0)
