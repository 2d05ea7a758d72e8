"""``energysolve solve denoise --input``: files and folders of images, with an energy whose answers are known."""

import networkx as nx
import numpy as np
import pytest
from PIL import Image

from energysolve import LBFGS, EnergySolver, GradientNorm
from energysolve.cli import main
from energysolve.energies import ConvEnergy
from energysolve.images import denoise, read_image, write_image
from energysolve.initializers import FromInput
from energysolve.presets import DOMAINS

RNG = np.random.default_rng(0)
CLEAN = np.kron(RNG.integers(40, 200, (3, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
NOISY = (CLEAN + 20 * RNG.standard_normal(CLEAN.shape)).clip(0, 255).round().astype(np.uint8)


@pytest.fixture
def model(tmp_path):
    """A folder with a solver, which is not trained."""
    solver = EnergySolver(ConvEnergy(4, 1, 4), LBFGS(), init=FromInput(), halting=GradientNorm(rtol=1e-3), max_steps=40)
    solver.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def solve(task, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["solve", task, *map(str, arguments)])
    return ended.value.code


def run(model, *arguments):
    return solve("denoise", "--model", model, *arguments)


def answer(model, pixels):
    return denoise(EnergySolver.from_pretrained(model), pixels)


def error(a, b):
    return 10 * np.log10(255**2 / np.square(a.astype(float) - b).mean())


def test_a_photograph(model, tmp_path, capsys):
    write_image(NOISY, tmp_path / "in.png")
    write_image(CLEAN, tmp_path / "clean.png")
    output = tmp_path / "new" / "out.png"
    assert run(model, "--input", tmp_path / "in.png", "--output", output, "--reference", tmp_path / "clean.png") == 0
    found = read_image(output).pixels
    np.testing.assert_array_equal(found, answer(model, NOISY))
    said = capsys.readouterr().out
    assert f"PSNR {error(NOISY, CLEAN):.2f} -> {error(found, CLEAN):.2f} dB" in said
    assert "32 x 24 pixels, colour, uint8" in said
    with Image.open(tmp_path / "new" / "out-before-after.png") as picture:
        assert min(picture.size) > 100
    assert run(model, "--input", tmp_path / "in.png", "--output", output) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert run(model, "--input", tmp_path / "in.png", "--output", output, "--overwrite", "--max-steps", "0") == 0
    np.testing.assert_array_equal(read_image(output).pixels, NOISY)


def test_a_folder(model, tmp_path, capsys):
    images = {"a.png": NOISY, "b.tif": NOISY[..., 0].astype(np.uint16) * 257, "c.tif": NOISY[:9] / np.float32(255)}
    for name, pixels in images.items():
        write_image(pixels, tmp_path / "in" / name)
    for name, clean in {"a.png": CLEAN, "b.tif": CLEAN[..., 0], "c.tif": CLEAN[:9]}.items():
        write_image(clean, tmp_path / "clean" / name)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    folders = ("--input", tmp_path / "in", "--output", tmp_path / "out")
    assert run(model, *folders, "--reference", tmp_path / "clean") == 0
    for name, pixels in images.items():
        found = read_image(tmp_path / "out" / name).pixels
        assert found.dtype == pixels.dtype
        np.testing.assert_array_equal(found, answer(model, pixels))
    said = capsys.readouterr().out
    assert "PSNR of 3 images on average" in said
    assert len(list((tmp_path / "out").glob("*-before-after.png"))) == 3
    assert run(model, *folders) == 1
    assert "holds 3 of the answers already, such as a.png" in capsys.readouterr().err
    assert run(model, *folders, "--overwrite") == 0


def test_the_noise_level_is_for_energies_that_take_one(model, tmp_path, capsys, monkeypatch):
    write_image(NOISY, tmp_path / "in.png")
    arguments = ("--input", tmp_path / "in.png", "--output", tmp_path / "out.png", "--sigma", "50")
    assert run(model, *arguments) == 1
    assert "ConvEnergy finds the noise level by itself and takes none" in capsys.readouterr().err
    told = []
    monkeypatch.setattr(ConvEnergy, "takes_noise_level", True)
    encode = ConvEnergy.encode
    monkeypatch.setattr(ConvEnergy, "encode", lambda self, x: told.append(x[1]) or encode(self, x))
    assert run(model, *arguments) == 0
    np.testing.assert_allclose(told[0].numpy(), np.sqrt([1 / 3, 1 / 2, 3 / 8]) * 50 / 255, rtol=1e-5)
    assert "noise level 50.0 of 255" in capsys.readouterr().out


def test_what_cannot_be_solved_is_told(model, tmp_path, capsys):
    write_image(NOISY, tmp_path / "in.png")
    write_image(NOISY[:9], tmp_path / "small.png")
    write_image(NOISY * np.float64(1), tmp_path / "bright.tif")
    (tmp_path / "empty").mkdir()
    cases = {
        ("in.png", "out.gif"): "images are written as",
        ("in.png", "out.png", "--reference", "small.png"): "has shape (9, 32, 3)",
        ("in.png", "out.png", "--reference", "none.png"): "There is no file",
        ("in.png", "out.png", "--table"): "--table is for files of many problems",
        ("none.png", "out.png"): "There is no file",
        ("bright.tif", "out.tif"): "Divide them by the value of white",
        ("empty", "out"): "There are no images in",
        (".", "out.png"): "must be a folder, too",
        (".", "."): "would replace the images",
        (".", "out", "--reference", "in.png"): "the reference must be a folder",
    }
    for (name, output, *more), message in cases.items():
        options = [tmp_path / each if each.endswith("png") else each for each in more]
        assert run(model, "--input", tmp_path / name, "--output", tmp_path / output, *options) == 1, name
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.png").exists()


def test_options_of_images_are_for_images(tmp_path, capsys):
    nx.write_edgelist(nx.path_graph(3), tmp_path / "graph.edges", data=False)
    files = ("--input", tmp_path / "graph.edges", "--output", tmp_path / "out.csv")
    assert solve("shortest-path", *files, "--sigma", "3") == 1
    assert "--sigma is for files of denoise, not of shortest-path" in capsys.readouterr().err
    np.savez(tmp_path / "x.npz", x=np.eye(3)[None])
    files = ("--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz")
    assert solve("inverse", *files, "--sigma", "3") == 1
    assert "--sigma is for files of denoise, not of inverse" in capsys.readouterr().err
    assert solve("inverse", "--sigma", "3") == 1
    assert "--sigma goes with --input" in capsys.readouterr().err


def test_the_help_lists_the_options(capsys):
    assert {"sigma", "reference"} == set(DOMAINS["denoise"].file_options)
    with pytest.raises(SystemExit):
        main(["solve", "--help"])
    said = capsys.readouterr().out
    assert "--sigma" in said
    assert "--reference" in said
