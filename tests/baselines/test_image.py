"""DnCNN: images of any size, trained by its own loss, saved and loaded."""

import pytest
import torch

from energysolve.baselines import DnCNN, load, save
from energysolve.presets import DOMAINS
from energysolve.solution import Status
from energysolve.tasks import Denoising
from energysolve.training import SupervisedTrainer

DENOISE = DOMAINS["denoise"]


def test_the_publications_network():
    """Zhang et al. count 17 layers of 64 channels, and 20 for the blind network; the arithmetic is by hand."""
    for depth in (17, 20):
        expected = (9 * 64 + 64) + (depth - 2) * (9 * 64 * 64 + 2 * 64) + (9 * 64 + 1)
        assert sum(parameter.numel() for parameter in DnCNN(depth).parameters()) == expected


def test_training_removes_noise_in_images_of_any_size(tmp_path):
    torch.manual_seed(0)
    task, model = Denoising(24), DnCNN(4, 8)
    SupervisedTrainer(model, task, batch_size=16, lr=2e-2).fit(120)
    model = model.cpu().eval()
    x, target = Denoising(40).sample(20, "50", torch.Generator().manual_seed(1))
    found = model.solve((x, torch.ones(20)))
    assert found.steps.tolist() == [1] * 20
    assert task.error(found, target).mean() < 0.7 * task.error_of(x, x, target).mean()
    torch.testing.assert_close(model.iterates(x, 2)[1], found.y)
    part = model.solve(x[3:4, :, :17, :9]).y
    torch.testing.assert_close(part[..., :5, :1], found.y[3:4, :, :5, :1])  # which do not see the cut
    save(model, tmp_path)
    torch.testing.assert_close(load(tmp_path).solve(x).y, found.y)
    assert model.solve(x * torch.nan).status.unique().tolist() == [Status.NONFINITE]


def test_its_preset_is_its_own():
    preset = DENOISE.preset("paper", "dncnn")
    assert preset.training.batch_size == 128
    assert isinstance(preset.build(Denoising(50), preset.settings), DnCNN)
    assert DENOISE.methods == ["dncnn", "irem"]
    with pytest.raises(ValueError, match="no method 'recurrent'"):
        DENOISE.preset("paper", "recurrent")


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="depth"):
        DnCNN(1)
    with pytest.raises(ValueError, match="width"):
        DnCNN(width=0)
