"""Image files: what is read is what another program wrote, with its depth; damaged and other files are refused."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from energysolve.images import read_image, write_image

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (5, 7, 4), dtype=np.uint8)
WORDS = RNG.integers(0, 65536, (5, 7, 3), dtype=np.uint16)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
@pytest.mark.parametrize("pixels", [BYTES[..., 0], BYTES[..., :3]], ids=["grey", "colour"])
def test_images_of_8_bits(pixels, suffix, tmp_path):
    Image.fromarray(pixels).save(tmp_path / f"in.{suffix}")
    read = read_image(tmp_path / f"in.{suffix}").pixels
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, pixels)
    write_image(read, tmp_path / f"out.{suffix}")
    with Image.open(tmp_path / f"out.{suffix}") as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency(mode, suffix, tmp_path):
    pixels = BYTES if mode == "RGBA" else BYTES[..., :2]
    Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / f"in.{suffix}")
    read = read_image(tmp_path / f"in.{suffix}").pixels
    np.testing.assert_array_equal(read, pixels)
    write_image(read, tmp_path / f"out.{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"out.{suffix}").pixels, pixels)
    with Image.open(tmp_path / f"out.{suffix}") as image:
        assert image.mode == mode


def test_jpeg(tmp_path):
    smooth = np.linspace(0, 255, 32 * 32).reshape(32, 32).astype(np.uint8)
    write_image(smooth, tmp_path / "a.jpg")
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg").pixels.astype(float), smooth, atol=4)


def test_a_photograph_is_turned_as_its_file_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    Image.fromarray(BYTES[..., 0]).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, np.rot90(BYTES[..., 0], -1))


def test_a_palette_becomes_colours(tmp_path):
    image = Image.fromarray(BYTES[..., 0] % 3).convert("P")
    image.putpalette([10, 20, 30, 200, 0, 50, 7, 7, 7])
    colours = np.array([[10, 20, 30], [200, 0, 50], [7, 7, 7]], dtype=np.uint8)[BYTES[..., 0] % 3]
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, colours)
    image.save(tmp_path / "b.png", transparency=1)
    read = read_image(tmp_path / "b.png").pixels
    np.testing.assert_array_equal(read[..., 3], np.where(BYTES[..., 0] % 3 == 1, 0, 255))
    tifffile.imwrite(
        tmp_path / "c.tif",
        BYTES[..., 0] % 3,
        photometric="palette",
        colormap=np.pad(np.array([[10, 200, 7], [20, 0, 7], [30, 50, 7]], np.uint16) * 257, ((0, 0), (0, 253))),
    )
    np.testing.assert_array_equal(read_image(tmp_path / "c.tif").pixels, colours)


def test_16_bits_of_grey_in_a_png(tmp_path):
    write_image(WORDS[..., 0], tmp_path / "a.png")
    read = read_image(tmp_path / "a.png").pixels
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, WORDS[..., 0])


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiffs_keep_their_depth(dtype, channels, tmp_path):
    pixels = (RNG.random((5, 7, channels)) * 900).astype(dtype)
    pixels = pixels[..., 0] if channels == 1 else pixels
    write_image(pixels, tmp_path / "a.tif")
    for read in (read_image(tmp_path / "a.tif").pixels, tifffile.imread(tmp_path / "a.tif")):
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, pixels)


def test_other_tiffs(tmp_path):
    tifffile.imwrite(tmp_path / "planes.tif", np.moveaxis(WORDS, 2, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "planes.tif").pixels, WORDS)
    tifffile.imwrite(tmp_path / "white.tif", WORDS[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "white.tif").pixels, 65535 - WORDS[..., 0])
    Image.fromarray(BYTES[..., :3]).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read_image(tmp_path / "lzw.tif").pixels, BYTES[..., :3])
    Image.fromarray(BYTES[..., 0] > 99).save(tmp_path / "bits.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "bits.tif").pixels, (BYTES[..., 0] > 99) * 255)


def png_of_16_bits(pixels):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.fixture
def damaged(tmp_path):
    """Files that cannot be read, by name."""
    frames = [Image.fromarray(BYTES[..., number]) for number in (0, 1)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([WORDS[..., 0]] * 2), photometric="minisblack")
    Image.fromarray(RNG.integers(0, 256, (64, 64), dtype=np.uint8)).save(tmp_path / "whole.png")
    Image.fromarray(RNG.integers(0, 256, (64, 64), dtype=np.uint8)).save(tmp_path / "whole.jpg")
    tifffile.imwrite(tmp_path / "whole.tif", WORDS)
    for suffix in ("png", "jpg", "tif"):
        content = (tmp_path / f"whole.{suffix}").read_bytes()
        (tmp_path / f"cut.{suffix}").write_bytes(content[: len(content) * 2 // 3])
        (tmp_path / f"text.{suffix}").write_text("This is no image, but a text of some length.")
        (tmp_path / f"empty.{suffix}").write_bytes(b"")
    (tmp_path / "deep.png").write_bytes(png_of_16_bits(WORDS))
    tifffile.imwrite(tmp_path / "complex.tif", WORDS[..., 0].astype(np.complex64))
    (tmp_path / "notes.txt").write_text("text")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("moving.gif", "animated"),
        ("moving.png", "animated"),
        ("stack.tif", "holds 2 images"),
        ("cut.png", "truncated or damaged"),
        ("cut.jpg", "truncated or damaged"),
        ("cut.tif", "truncated or damaged"),
        ("text.png", "no image, or damaged"),
        ("text.jpg", "no image, or damaged"),
        ("text.tif", "no TIFF"),
        ("empty.png", "no image, or damaged"),
        ("empty.tif", "no TIFF"),
        ("deep.png", "Save it as a .tif"),
        ("complex.tif", "complex64"),
        ("notes.txt", "expected an image as .png"),
    ],
)
def test_what_cannot_be_read_is_told(name, message, damaged):
    with pytest.raises(ValueError, match=message) as error:
        read_image(damaged / name)
    assert name in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none\.png"):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("name", "pixels", "message"),
    [
        ("a.png", WORDS, r"no colour image of uint16. Write a .tif"),
        ("a.png", WORDS[..., 0] / 1.0, r"no image of float64"),
        ("a.jpg", WORDS[..., 0], r"no image of uint16"),
        ("a.jpg", BYTES, r"no transparency"),
        ("a.gif", BYTES, r"images are written as .png"),
    ],
)
def test_what_cannot_be_written_is_told(name, pixels, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_image(pixels, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_exchanged_arguments_are_named(tmp_path):
    unchecked = getattr(write_image, "__wrapped__", write_image)  # in tests, jaxtyping checks annotations first
    with pytest.raises(TypeError, match=r"needs a NumPy array as pixels, got str"):
        unchecked(str(tmp_path / "a.png"), WORDS)
