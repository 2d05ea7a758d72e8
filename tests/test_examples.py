"""Each example runs, without a warning, and its answers are those of an independent computation."""

import math
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def run(monkeypatch):
    """Runs an example as a script and returns its variables."""
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    drawn = []
    monkeypatch.setattr(plt, "show", lambda: drawn.append(plt.gcf().canvas.print_to_buffer()))
    random = torch.get_rng_state()

    def run(name, figures=1):
        found = runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        assert len(drawn) == figures, "a figure was not shown"
        return found

    yield run
    plt.close("all")
    torch.set_rng_state(random)


def test_every_example_is_tested_and_is_a_page():
    source = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        text = path.read_text()
        assert f'"{path.name}"' in source, path.name
        assert re.match(r'# %% \[markdown\]\n"""\n# \S.*\n\n\S', text), f"{path.name} does not begin with its title"
        linked = re.findall(r"\]\(([^)#:]+)\)", text)
        assert all((EXAMPLES / each).exists() for each in linked), path.name


def test_examples_run_as_scripts():
    """The others run inside this process, which takes less time."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore:FigureCanvasAgg", str(EXAMPLES / "custom_energy.py")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "100 CONVERGED" in done.stdout


def test_custom_energy(run):
    found = run("custom_energy.py")
    assert (found["solution"].y - found["position"]).abs().max() < 1e-4


def test_custom_halting(run, capsys):
    found = run("custom_halting.py")
    steps = {name: solution.steps for name, solution in found["solutions"].items()}
    both = steps["descended | Stagnant(5)"]
    assert torch.equal(both, torch.minimum(steps["descended"], steps["Stagnant(5)"]))
    assert len(both.unique()) > 5
    assert "the laws hold" in capsys.readouterr().out


def test_fit_curves(run):
    pytest.importorskip("scipy")
    found = run("fit_curves.py")
    assert abs(found["inside"] - found["expected"]) < 0.03
    assert abs(found["expected"] - 0.6694) < 1e-3  # of Student's t with 18 degrees of freedom
    for answers, errors in found["apart"].values():
        assert answers < 1e-3
        assert errors < 0.01


def test_portfolio(run):
    """Weights satisfy the optimality conditions, and derivatives are those of the equations on the support."""
    found = run("portfolio.py")
    covariance, mean = found["covariance"], found["mean"]
    y, aversion = found["solution"].y, found["aversion"]
    assert (y >= 0).all()
    torch.testing.assert_close(y.sum(1), torch.ones(200, dtype=torch.float64))
    slope = aversion[:, None] * y @ covariance - mean
    least = slope.amin(1, keepdim=True)
    assert (torch.where(y > 0, slope - least, 0) < 1e-6).all()

    exact = torch.zeros(200, 6, dtype=torch.float64)
    for row, held, risk in zip(exact, y > 0, aversion, strict=True):
        inverse = (risk * covariance[held][:, held]).inverse()
        along = inverse - torch.outer(inverse.sum(1), inverse.sum(0)) / inverse.sum()
        index = held.nonzero().squeeze(1).tolist()
        if 4 in index:
            row[held] = along[index.index(4)]
    torch.testing.assert_close(found["sensitivity"], exact, rtol=1e-3, atol=1e-3)
    assert found["agree"].sum() >= 190


def test_scratchpad(run):
    errors = run("scratchpad.py")["errors"]
    assert errors["with"] < 0.01 * errors["without"]


@pytest.mark.slow
def test_train_your_own_task(run):
    found = run("train_your_own_task.py")
    assert found["ratios"]["same"] >= 7
    assert found["ratios"]["harder"] >= 3


def test_heat_diffusion(run):
    pytest.importorskip("torch_geometric")
    found = run("heat_diffusion.py")
    assert found["solution"].converged.all()
    assert max(found["largest"].values()) < 1e-8


def test_karate_club(run):
    pytest.importorskip("torch_geometric")
    found = run("karate_club.py")
    assert len(found["found"]) == 34 * 33 // 2
    assert np.abs(found["found"] - found["exact"]).max() < 0.05


def test_matrices(run):
    found = run("matrices.py", figures=2)
    exact = np.linalg.inv(found["matrices"].double().numpy())
    error = np.linalg.norm(found["solution"].y.numpy() - exact, axis=(1, 2)) / np.linalg.norm(exact, axis=(1, 2))
    assert error.max() < 1e-3
    assert found["solution"].steps[-10:].float().mean() > 2 * found["solution"].steps[:10].float().mean()
    errors = list(found["error_of"].values())
    assert errors[2] < 0.9 * errors[1] < errors[0]


def test_denoise_photograph(run):
    metrics = pytest.importorskip("skimage.metrics")
    found = run("denoise_photograph.py")
    right = found["photograph"] / 255

    def decibels(image):
        return metrics.peak_signal_noise_ratio(right, image.clip(0, 1), data_range=1)

    for sigma, image in found["noisy"].items():
        assert math.isclose(found["decibels"](image), decibels(image), rel_tol=1e-6)
        assert decibels(found["clean"][sigma]) > decibels(image) + 5
        assert decibels(found["clean"][sigma]) > decibels(found["smooth"][sigma]) + 1


def test_inpaint_and_deblur(run):
    pytest.importorskip("skimage")
    found = run("inpaint_and_deblur.py")
    right = found["photograph"]
    for name, start in found["starts"].items():
        gain = 10 * ((start - right).square().mean() / (found["answers"][name] - right).square().mean()).log10()
        assert gain > 1, name
    # With every pixel observed, inpainting is denoising.
    image = found["soft"][..., :24, :24]
    x = {"image": image, "mask": torch.ones_like(image), "start": image / 2, "sigma": found["strength"](20)}
    y = (image + 0.1 * image.flip(-1)).requires_grad_()
    added = (found["regularizer"] + found["seen"])(x, y)
    expected = found["denoiser"].energy((image, x["sigma"]), y)
    gradients = [torch.autograd.grad(each.sum(), y)[0] for each in (added, expected)]
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(added, expected)


def test_differentiable_layer(run):
    found = run("differentiable_layer.py")
    assert math.isclose(found["by_theorem"], found["by_differences"], rel_tol=1e-3)
    assert found["errors"]["with the layer"] < 0.9 * found["errors"]["convolutions alone"]


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")  # the warnings of Ray's own threads
def test_ray_cluster(run):
    pytest.importorskip("ray.data")
    pytest.importorskip("pyarrow")
    found = run("ray_cluster.py", figures=0)
    assert [row["key"] for row in found["rows"]] == [f"k{i}" for i in range(1000)]
    for row in found["rows"][::100]:
        expected = np.exp(row["x"]) / np.exp(row["x"]).sum()
        np.testing.assert_allclose(np.exp(row["y"]), expected, atol=1e-3)


def test_without_ray_the_example_says_what_to_install(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    run("ray_cluster.py", figures=0)
    assert "pip install 'energysolve[ray]'" in capsys.readouterr().out
