"""Image files: PNG, JPEG and others by Pillow, TIFF by tifffile. Depth, colours and transparency are kept."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_atomic

TIFF = (".tif", ".tiff")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", *TIFF, ".bmp", ".webp", ".pgm", ".ppm", ".gif")
"""Kinds of files that can be read."""
_WRITTEN = (".png", ".jpg", ".jpeg", *TIFF, ".bmp")
_INSTALL = "Reading and writing images needs Pillow and tifffile: pip install energysolve[image]."


@dataclass(frozen=True)
class Picture:
    """An image of a file.

    Attributes:
        pixels: ``(H, W)`` or ``(H, W, 3)``, with transparency ``(H, W, 2)`` or ``(H, W, 4)``; uint8, uint16, float32 or
            float64.
        path: the file.

    Examples:
        >>> import numpy as np
        >>> from energysolve.images import read_image, write_image
        >>> write_image(np.zeros((4, 6, 3), dtype=np.uint8), "black.png")
        >>> picture = read_image("black.png")
        >>> picture.pixels.shape, picture.pixels.dtype, picture.path.name
        ((4, 6, 3), dtype('uint8'), 'black.png')
    """

    pixels: np.ndarray
    path: Path


def read_image(path: str | Path) -> Picture:
    """Read an image with its depth. Palettes become colours, and a photograph is turned as its file says.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if Pillow or tifffile is not installed.
        ValueError: if the file is no image, truncated, animated, or of a kind whose depth would be lost.

    Examples:
        >>> import numpy as np
        >>> from energysolve.images import read_image, write_image
        >>> pixels = np.arange(24, dtype=np.uint16).reshape(4, 6) * 1000
        >>> write_image(pixels, "deep.png")
        >>> bool((read_image("deep.png").pixels == pixels).all())  # all 16 bits
        True
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"{path}: expected an image as {', '.join(IMAGE_SUFFIXES)}, got a file {path.suffix!r}.")
    try:
        pixels = _read_tiff(path) if path.suffix.lower() in TIFF else _read_other(path)
    except ImportError as error:
        raise ImportError(_INSTALL) from error
    if not pixels.size:
        raise ValueError(f"{path} has no pixels.")
    return Picture(np.ascontiguousarray(pixels), path)


def write_image(pixels: np.ndarray, path: str | Path) -> None:
    """Write an image, whole or not at all.

    Args:
        pixels: ``(H, W)``, ``(H, W, 2)``, ``(H, W, 3)`` or ``(H, W, 4)``, as `read_image` gives them.
        path: a ``.png`` (8 bits, or 16 for grey), ``.jpg`` or ``.bmp`` (8 bits), or a ``.tif`` (any depth).

    Raises:
        ImportError: if Pillow or tifffile is not installed.
        TypeError: if the pixels are no NumPy array, such as the path in their place.
        ValueError: if files of that kind cannot hold the image; the message names a kind that can.

    Examples:
        >>> import numpy as np
        >>> from energysolve.images import read_image, write_image
        >>> write_image(np.full((4, 6), 0.25, dtype=np.float32), "answers/image.tif")  # the folder is made
        >>> float(read_image("answers/image.tif").pixels.max())
        0.25
    """
    if not isinstance(pixels, np.ndarray):
        raise TypeError(f"write_image(pixels, path) needs a NumPy array as pixels, got {type(pixels).__name__}.")
    path = Path(path)
    check_writable(path, pixels)
    buffer = io.BytesIO()
    try:
        if path.suffix.lower() in TIFF:
            import tifffile

            colours = pixels.ndim == 3 and pixels.shape[2] > 2
            extra = ["unassalpha"] if pixels.ndim == 3 and pixels.shape[2] in (2, 4) else None
            photometric = "rgb" if colours else "minisblack"
            tifffile.imwrite(buffer, pixels, photometric=photometric, extrasamples=extra, planarconfig=_contig(pixels))
        else:
            from PIL import Image

            kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP"}.get(path.suffix.lower(), "PNG")
            Image.fromarray(pixels).save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}))
    except ImportError as error:
        raise ImportError(_INSTALL) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())


def check_writable(path: Path, pixels: np.ndarray) -> None:
    """Raise a ValueError if files of that kind cannot hold such an image; before hours of work."""
    suffix = path.suffix.lower()
    if suffix not in _WRITTEN:
        raise ValueError(f"{path}: images are written as {', '.join(_WRITTEN)}.")
    if suffix in TIFF:
        return
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if pixels.dtype != np.uint8 and not (pixels.dtype == np.uint16 and channels == 1 and suffix == ".png"):
        kind = "colour image" if channels > 1 else "image"
        raise ValueError(f"{path}: a {suffix} holds no {kind} of {pixels.dtype}. Write a .tif, which keeps the depth.")
    if channels in (2, 4) and suffix != ".png":
        raise ValueError(f"{path}: a {suffix} holds no transparency. Write a .png or a .tif.")


def _contig(pixels: np.ndarray) -> Any:
    return "contig" if pixels.ndim == 3 else None


def _read_other(path: Path) -> np.ndarray:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise ValueError(
                    f"{path} is animated, or holds {image.n_frames} images; expected one. Save the frames as files."
                )
            _check_depth(path, image)
            image.load()
            return _pixels(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is no image, or damaged: its contents are not those of a {path.suffix}.") from error
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"{path} is truncated or damaged: {str(error).rstrip('.')}.") from error


def _check_depth(path: Path, image: Any) -> None:
    """Raise a ValueError for a file that Pillow reads with fewer bits than it has."""
    rawmodes = [tile[3] if isinstance(tile[3], str) else tile[3][0] for tile in image.tile or () if tile[3]]
    if image.mode not in ("I", "I;16", "I;16B", "F") and any(";16" in str(mode) for mode in rawmodes):
        raise ValueError(
            f"{path} has colours of 16 bits, of which Pillow reads 8. Save it as a .tif, which is read whole."
        )


def _pixels(image: Any) -> np.ndarray:
    """The pixels of a Pillow image in one of our forms."""
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("F", "L", "RGB", "LA", "RGBA"):
        return np.asarray(image)
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    if image.mode in ("P", "PA") or "transparency" in image.info:
        return np.asarray(image.convert("RGBA" if "A" in image.mode or "transparency" in image.info else "RGB"))
    return np.asarray(image.convert("RGB"))  # CMYK, YCbCr, Lab, HSV


def _read_tiff(path: Path) -> np.ndarray:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            if len(file.pages) != 1:
                raise ValueError(f"{path} holds {len(file.pages)} images; expected one. Save them as files.")
            page: Any = file.pages[0]
            if page.photometric.name not in ("MINISBLACK", "MINISWHITE", "RGB"):
                return _read_other(path)  # palettes, CMYK, YCbCr: 8 bits, by Pillow
            pixels = _decoded(path, page)
            return _in_form(path, page, pixels)
    except (tifffile.TiffFileError, OSError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no TIFF, or truncated or damaged: {str(error).rstrip('.')}.") from error


def _decoded(path: Path, page: Any) -> np.ndarray:
    try:
        return page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise ValueError(f"{path} is truncated or damaged: {str(error).rstrip('.')}.") from error
        if page.dtype == np.uint8:
            return _read_other(path)
        raise ValueError(f"{path} is compressed in a way that needs a package: pip install imagecodecs.") from error


def _in_form(path: Path, page: Any, pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 3 and page.planarconfig.name == "SEPARATE":
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 2, 3, 4)):
        raise ValueError(f"{path} has an array of shape {pixels.shape}; expected one image, grey or in colour.")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    convert: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "bool": lambda bits: bits.astype(np.uint8) * np.uint8(255),
        "float16": lambda half: half.astype(np.float32),
    }
    pixels = convert.get(str(pixels.dtype), lambda same: same)(pixels)
    if pixels.dtype not in (np.uint8, np.uint16, np.float32, np.float64):
        raise ValueError(f"{path} holds {pixels.dtype}; expected 8 or 16 bits without sign, or floating-point numbers.")
    if page.photometric.name == "MINISWHITE" and np.issubdtype(pixels.dtype, np.integer):
        pixels = np.iinfo(pixels.dtype).max - pixels
    return pixels
