"""Picture files of any format that PIL reads, to upright 8-bit RGB; clear errors for the rest."""

import io
import os
import re
import stat
import threading
import warnings
from contextlib import AbstractContextManager
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from critic_jax.errors import InputError

# 400 MB as RGB; a 108-megapixel photograph passes.
MAX_PIXELS = 2**27

_FORMATS = "give a PNG, JPEG, WebP, GIF, TIFF or BMP picture"

# How files begin whose damage is worth telling from files that are no pictures at all.
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# `catch_warnings` swaps a list that all threads share; only one of ours may do so at a time.
_warnings_lock = threading.Lock()


class PictureError(InputError):
    """A picture cannot be used; the message names it and says what would be right."""


def open_picture(
    source: str | os.PathLike[str] | bytes | Image.Image,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """A picture as upright 8-bit RGB without metadata.

    `source` is a path, the bytes of a file, or a picture that PIL has opened. `name` stands for it
    in messages (default: the path, or "picture"). Of a file with several frames the first is used;
    an opened picture gives its current frame. The EXIF orientation is applied. `to_rgb` states how
    colours are converted.

    A picture of more than `max_pixels` is refused from its header, before any pixel is decoded.
    PIL's own hard limit (twice `PIL.Image.MAX_IMAGE_PIXELS`, 179 million pixels) holds beside it.

    Raises:
        PictureError: missing, a folder, empty, not a picture, damaged, cut off, or too large.
    """
    if isinstance(source, Image.Image):
        name = name or str(getattr(source, "filename", "")) or "picture"
        return _decode(source, name, max_pixels)
    if isinstance(source, bytes):
        name = name or "picture"
        file: BinaryIO = io.BytesIO(source)
        size = len(source)
    elif isinstance(source, str | os.PathLike):
        name = name or os.fspath(source)
        file, size = _open_file(source, name)
    else:
        raise PictureError(
            f"{name or 'picture'}: a {type(source).__name__} is not a picture; "
            "give a path, the bytes of a file or a PIL image"
        )
    with file:
        if size == 0:
            raise PictureError(f"{name}: the file is empty (0 bytes); {_FORMATS}")
        with _read_header(file, name, max_pixels) as image:
            return _decode(image, name, max_pixels)


def read_picture(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a picture file as they are, not yet looked at.

    Raises PictureError for a file that is missing, a folder or not readable.
    """
    file, _ = _open_file(path, os.fspath(path))
    with file:
        return file.read()


def to_rgb(image: Image.Image) -> Image.Image:
    """Any PIL mode to RGB; a picture that is RGB already comes back as it is.

    - Transparency (an alpha channel, a transparent palette entry or colour) is laid over white, as
      transformers' processor does. PIL's plain conversion would lay bare whatever colour the
      hidden pixels store, mostly black: a drawing in black on nothing would vanish.
    - 16-bit grey is scaled from 0..65535 to 0..255 and rounded (PIL clips it to white). 32-bit
      integers count as 16-bit where they fit, otherwise as a share of their largest value.
    - Floats count as 0..1, 0..255 or 0..65535, the smallest that holds every value, otherwise as
      a share of the largest. Values that are negative or not finite are black.
    - CIELAB goes to sRGB by colour management.
    - Everything else (1-bit, grey, palette, CMYK, YCbCr, HSV) is PIL's `convert("RGB")`.

    Raises:
        ValueError: PIL knows no way from this mode to RGB.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # it is None for in-place conversion only
        return converted
    if image.mode in ("La", "RGBa"):  # colours multiplied by alpha
        image = image.convert(image.mode.upper())
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _open_file(path: str | os.PathLike[str], name: str) -> tuple[BinaryIO, int]:
    """The file and its size in bytes."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise PictureError(f"{name}: is a folder; give the path of a picture file")
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may never end
            raise PictureError(f"{name}: is not a regular file; give the path of a picture file")
        return open(path, "rb"), status.st_size
    except FileNotFoundError:
        raise PictureError(f"{name}: no such file; give the path of a picture file") from None
    except (OSError, ValueError) as error:  # ValueError: a path that holds a zero byte
        reason = getattr(error, "strerror", None) or str(error)
        raise PictureError(
            f"{name}: cannot be opened ({reason}); give the path of a readable picture file"
        ) from error


def _read_header(file: BinaryIO, name: str, max_pixels: int) -> AbstractContextManager[Image.Image]:
    """The picture with only its header read."""
    try:
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(file)
    except UnidentifiedImageError as error:
        file.seek(0)
        if file.read(4).startswith(_SIGNATURES):
            raise _damaged(name, "its header cannot be read") from error
        raise PictureError(
            f"{name}: is not a picture in a format that can be read; {_FORMATS}"
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_large(name, _pixels_of(error), max_pixels) from error
    except Exception as error:  # PIL's many readers raise all sorts of things on damaged files
        raise _damaged(name, _reason(error)) from error


def _decode(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    """All of `open_picture` after the header."""
    _check_size(image, name, max_pixels)
    try:
        image.load()
    except Image.DecompressionBombError as error:  # an icon that holds more than it announced
        raise _too_large(name, _pixels_of(error), max_pixels) from error
    except Exception as error:  # as above
        raise _damaged(name, _reason(error)) from error
    _check_size(image, name, max_pixels)
    method = _UPRIGHT.get(_orientation(image))
    try:
        rgb = to_rgb(image)
        upright = rgb.copy() if method is None else rgb.transpose(method)
    except Exception as error:
        raise PictureError(
            f"{name}: its colours (mode {image.mode}) cannot be converted to RGB ({error}); "
            "save it as an 8-bit RGB picture"
        ) from error
    upright.info = {}  # else a second call would find the orientation again
    return upright


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where damaged metadata hides it from us.

    Read after loading: some of PIL's readers (TIFF) turn the pixels themselves and drop the tag.
    """
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # any damage in a block that says nothing about the pixels
        return 1


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise PictureError(f"{name}: is {width} x {height} pixels; both sides must be at least 1")
    if width * height > max_pixels:
        raise _too_large(name, f"{width:,} x {height:,} pixels", max_pixels)


def _too_large(name: str, size: str, max_pixels: int) -> PictureError:
    return PictureError(
        f"{name}: is too large ({size}); at most {max_pixels:,} pixels are read, scale it down"
    )


def _pixels_of(error: Exception) -> str:
    """The number of pixels that PIL's complaint about a picture's size mentions."""
    number = re.search(r"\d+", str(error))
    return f"{int(number.group()):,} pixels" if number else "according to its header"


def _damaged(name: str, reason: str) -> PictureError:
    return PictureError(
        f"{name}: the picture is damaged or cut off ({reason}); give a complete file"
    )


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Integers or floats [height, width] as uint8; `to_rgb` states the ranges."""
    ranges: tuple[float, ...] = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (65535.0,)
    real = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    largest = float(real.max())
    full = next((limit for limit in ranges if largest <= limit), largest)
    return np.floor(np.clip(real, 0.0, full) * (255.0 / full) + 0.5).astype(np.uint8)
