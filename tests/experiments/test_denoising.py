"""The experiments on images, with a small preset and two small images."""

import json

import numpy as np
import pytest
import torch
from bm3d import bm3d
from PIL import Image
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle
from small_presets import small_domains

from energysolve import EnergySolver
from energysolve.energies import FieldsEnergy
from energysolve.experiments import figure8, filters, psnr, table5
from energysolve.experiments.denoisers import BM3D, NonLocalMeans, TotalVariation
from energysolve.experiments.runs import Laboratory
from energysolve.images import psnr as psnr_of
from energysolve.images import ssim
from energysolve.tasks.image import noisy, photographs


@pytest.fixture
def laboratory(tmp_path, monkeypatch):
    for module in (table5, psnr):
        monkeypatch.setattr(module, "LEVELS", (25, 75))
    photograph = (photographs(["camera"])["camera"] * 255).round().astype(np.uint8)
    for number in range(3):
        side = 32 + 8 * number
        (tmp_path / "test").mkdir(exist_ok=True)
        Image.fromarray(photograph[100 : 100 + side, 200:240]).save(tmp_path / "test" / f"{number}.png")
    return Laboratory(
        *(tmp_path / "models", tmp_path / "results", "energysolve reproduce ...", 2),
        domains=small_domains(),
        train_data=tmp_path / "test",
        test_data=tmp_path / "test",
    )


def test_classical_methods_are_those_of_their_packages():
    images = [torch.from_numpy(image)[None, None, 50:90, 50:82] for image in photographs(["camera", "coins"]).values()]
    clean, sigma = torch.cat(images), torch.tensor([0.1, 0.2])
    x = noisy(clean, sigma, torch.Generator().manual_seed(0))
    sigma = sigma.double()
    for i, (image, level) in enumerate(zip(x[:, 0].double().numpy(), sigma.tolist(), strict=True)):
        nlm = {"patch_size": 5, "patch_distance": 8, "fast_mode": True, "h": 0.9 * level, "sigma": level}
        expected = {
            BM3D(): bm3d(image, level),
            NonLocalMeans(0.9): denoise_nl_means(image, **nlm),
            TotalVariation(0.8): denoise_tv_chambolle(image, weight=0.8 * level, max_num_iter=500),
        }
        for method, answer in expected.items():
            found = method.solve((x, sigma)).y
            assert found.shape == x.shape
            np.testing.assert_allclose(found[i, 0], answer, atol=1e-3)  # BM3D is not the same twice
            assert psnr_of(found, clean)[i] > psnr_of(x, clean)[i]
    with pytest.raises(ValueError, match="must be told the noise"):
        BM3D().solve(x)


def test_table_5(laboratory, monkeypatch):
    written = table5.reproduce(laboratory, "paper", 1)
    results = {path.stem: json.loads(path.read_text()) for path in written if path.suffix == ".json"}
    assert len(results) == 2 * 5
    found = results["paper-75"]["images"]
    assert set(found) == {"0", "1"}  # as many as the laboratory has problems
    solver = EnergySolver.from_pretrained(laboratory.models / "denoise-irem-paper-seed0")
    clean = table5.test_images(laboratory)["1"]
    x, sigma = table5.problem("1", clean, 75)
    y = solver.minimize(x).y
    assert found["1"]["psnr"] == pytest.approx(psnr_of(y, clean).item())
    assert found["1"]["ssim"] == pytest.approx(ssim(y, clean).item())
    noisy_image = results["noisy-75"]["images"]["1"]
    assert noisy_image["psnr"] == pytest.approx(psnr_of(x, clean).item())  # the very same noise
    assert (x - clean).std().item() == pytest.approx(sigma.item(), rel=0.1)
    text = (laboratory.results / "table5.md").read_text()
    assert "| IREM (published, BSD68) | - | 23.43 |" in text
    means = [np.mean([each["psnr"] for each in results[f"bm3d-{k}"]["images"].values()]) for k in (25, 75)]
    assert f"| BM3D, told the noise level | {means[0]:.2f} | {means[1]:.2f} |" in text
    assert "| method | 25 | *75 |" in text

    # Nothing is evaluated again, and no other images are mixed in.
    monkeypatch.setattr(table5, "_evaluated", None)
    assert table5.reproduce(laboratory, "paper", 1) == written
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(laboratory.test_data / "0.png")
    with pytest.raises(ValueError, match="on other images"):
        table5.reproduce(laboratory, "paper", 1)


def test_quality_after_each_step(laboratory, monkeypatch):
    monkeypatch.setattr(psnr, "STEPS", 3)
    written = psnr.reproduce(laboratory, "paper", 1)
    found = json.loads(written[0].read_text())["levels"]["75"]
    images = table5.test_images(laboratory)
    start = [psnr_of(table5.problem(name, clean, 75)[0], clean).item() for name, clean in images.items()]
    assert found["psnr_by_step"][0] == pytest.approx(np.mean(start))
    assert len(found["psnr_by_step"]) == 4
    assert all(path.exists() for path in written)


def test_figure_8(laboratory, monkeypatch):
    monkeypatch.setattr(figure8, "STEPS", (1, 2))
    monkeypatch.setattr(figure8, "SHOWN", ("camera",))
    (path,) = figure8.reproduce(laboratory, "paper", 1)
    with Image.open(path) as image:
        assert image.size[0] > 1000


def test_filters_and_the_slopes_of_their_potentials(laboratory):
    torch.manual_seed(0)
    energy = FieldsEnergy(filters=16, size=5, groups=8).double()
    above, below = filters.draw_fields(energy).subfigs
    drawn = [image.get_array().data for axes in above.axes for image in axes.get_images()]
    assert len(drawn) == 4  # one of each four
    own = energy.filters().detach().numpy()[::4]
    assert all(any(np.array_equal(each, one) for one in own) for each in drawn)
    (weights, ends), lines = energy.potentials(), below.axes[0].lines
    assert len(lines) == 2
    for line, a, b in zip(lines, weights[::4].tolist(), ends[::4].tolist(), strict=True):
        r = torch.from_numpy(line.get_xdata()).double().requires_grad_()
        huber = [torch.where(each < 1, each.square() / 2, each - 0.5) for each in (r, r / b)]
        (slope,) = torch.autograd.grad((a * (huber[0] - b * huber[1])).sum(), r)
        np.testing.assert_allclose(line.get_ydata(), slope, atol=1e-6)
    with pytest.raises(ValueError, match="ConvEnergy, which has no filters"):
        filters.reproduce(laboratory, "paper", 1)
