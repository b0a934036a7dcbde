"""Opening pictures: every format and mode, orientation, and one clear line for everything wrong."""

import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from critic_jax.errors import InputError
from critic_jax.imaging import PictureError, open_picture

ORIENTATION = 0x0112


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def noise(width: int = 40, height: int = 30) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def refusal(source: Any, name: str | None = None, **options: Any) -> str:
    with pytest.raises(PictureError) as error:
        open_picture(source, name, **options)
    message = str(error.value)
    assert "\n" not in message
    assert "object at 0x" not in message
    return message


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


# ---- what can be opened


LOSSLESS = ["PNG", "BMP", "TIFF", "PPM", "TGA", "ICO", "PCX", "SGI", "DDS", "QOI"]


@pytest.mark.parametrize("form", LOSSLESS)
def test_lossless_formats_come_back_exactly(form: str) -> None:
    image = noise(32, 32)
    opened = open_picture(encoded(image, form))
    assert opened.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(opened), np.asarray(image))


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "AVIF", "JPEG2000", "GIF"])
def test_lossy_formats_come_back_nearly(form: str) -> None:
    image = Image.linear_gradient("L").resize((64, 48)).convert("RGB")
    opened = open_picture(encoded(image, form))
    assert (opened.mode, opened.size) == ("RGB", (64, 48))
    error = np.asarray(opened).astype(int) - np.asarray(image).astype(int)
    assert np.abs(error).mean() < 3


def test_path_bytes_and_opened_picture_are_the_same(tmp_path: Path) -> None:
    data = encoded(noise(), "PNG")
    path = tmp_path / "a picture.png"
    path.write_bytes(data)
    expected = np.asarray(noise())
    with Image.open(path) as lazy:
        for source in (path, str(path), data, lazy):
            np.testing.assert_array_equal(np.asarray(open_picture(source)), expected)


def test_a_picture_is_copied_and_its_metadata_dropped() -> None:
    image = noise()
    image.info["comment"] = "kept"
    opened = open_picture(image)
    assert opened is not image
    assert opened.info == {}
    assert image.info == {"comment": "kept"}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "corners"),
    # The four corners of the upright picture (top left, top right, bottom left, bottom right),
    # for a stored picture whose corners are 0, 80 / 160, 240.
    [
        (1, [0, 80, 160, 240]),
        (2, [80, 0, 240, 160]),
        (3, [240, 160, 80, 0]),
        (4, [160, 240, 0, 80]),
        (5, [0, 160, 80, 240]),
        (6, [160, 0, 240, 80]),
        (7, [240, 80, 160, 0]),
        (8, [80, 240, 0, 160]),
    ],
)
def test_the_exif_orientation_is_applied_once(
    form: str, orientation: int, corners: list[int]
) -> None:
    quarters = np.array([[0, 80], [160, 240]], np.uint8).repeat(16, 0).repeat(24, 1)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(Image.fromarray(quarters).convert("RGB"), form, exif=exif)
    opened = open_picture(data)
    assert opened.size == ((48, 32) if orientation < 5 else (32, 48))
    right, bottom = opened.width - 3, opened.height - 3
    found = [opened.getpixel(at)[0] for at in ((2, 2), (right, 2), (2, bottom), (right, bottom))]
    assert found == pytest.approx(corners, abs=6)
    assert np.array_equal(np.asarray(open_picture(opened)), np.asarray(opened))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_metadata_does_not_cost_the_picture() -> None:
    image = Image.new("RGB", (20, 10), (10, 200, 30))
    data = encoded(image, "PNG", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff")
    assert open_picture(data).size == (20, 10)
    image.info["exif"] = b"Exif\x00\x00no such order"
    assert open_picture(image).size == (20, 10)


def test_transparency_is_laid_over_white() -> None:
    drawing = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    drawing.putpixel((1, 0), (200, 0, 0, 51))
    opened = open_picture(encoded(drawing, "PNG"))
    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert opened.getpixel((1, 0)) == (244, 204, 204)
    for premultiplied in (drawing.convert("RGBa"), drawing.convert("LA").convert("La")):
        assert open_picture(premultiplied).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([9, 9, 9])
    assert open_picture(encoded(palette, "PNG")).getpixel((0, 0)) == (9, 9, 9)
    data = encoded(palette, "PNG", transparency=0)
    assert open_picture(data).getpixel((0, 0)) == (255, 255, 255)


LEVELS = [(0, 0), (128, 0), (129, 1), (257, 1), (32896, 128), (65406, 254), (65407, 255)]


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize(("stored", "grey"), [*LEVELS, (65535, 255)])
def test_16_bit_grey_is_scaled(form: str, stored: int, grey: int) -> None:
    image = Image.fromarray(np.array([[stored, 65535]], np.uint16))
    opened = open_picture(encoded(image, form))
    assert opened.getpixel((0, 0)) == (grey, grey, grey)
    assert opened.getpixel((1, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("values", "greys"),
    [
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.array([[-5, 100_000, 200_000]], np.int32), [0, 128, 255]),
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 99.6, 255]], np.float32), [0, 100, 255]),
        (np.array([[0, 257, 60_000]], np.float32), [0, 1, 233]),
        (np.array([[0, 1e6, 2e6]], np.float32), [0, 128, 255]),
        (np.array([[-1, np.nan, 0.2]], np.float32), [0, 0, 51]),
        (np.array([[-1, -2, -3]], np.float32), [0, 0, 0]),
    ],
)
def test_wide_integers_and_floats_are_scaled(values: np.ndarray, greys: list[int]) -> None:
    opened = open_picture(encoded(Image.fromarray(values), "TIFF"))
    assert np.asarray(opened)[0].tolist() == [[grey] * 3 for grey in greys]


def test_print_and_laboratory_colours() -> None:
    ink = Image.new("CMYK", (8, 8), (255, 0, 255, 0))
    assert open_picture(encoded(ink, "TIFF")).getpixel((4, 4)) == (0, 255, 0)
    near = open_picture(encoded(ink, "JPEG", quality=95)).getpixel((4, 4))
    assert near == pytest.approx((0, 255, 0), abs=6)
    lab = Image.new("LAB", (8, 8), (255, 128, 128))  # 128: neutral
    assert open_picture(encoded(lab, "TIFF")).getpixel((4, 4)) == pytest.approx((255,) * 3, abs=2)


def test_of_an_animation_the_first_frame_is_used() -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "lime", "blue")]
    for form in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if form == "WEBP" else {}
        data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
        assert open_picture(data).getpixel((3, 2)) == (255, 0, 0), form


# ---- what is refused


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    path.touch()
    assert refusal(path).startswith(f"{path}: the file is empty (0 bytes); give a PNG, JPEG")
    assert refusal(b"", "record 3").startswith("record 3: the file is empty")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(form: str, share: float) -> None:
    data = encoded(noise(120, 90), form)
    message = refusal(data[: int(len(data) * share)], "half.pic")
    assert message.startswith("half.pic: ")
    assert "give a complete file" in message or "give a PNG, JPEG" in message


def test_a_truncated_jpeg_says_so() -> None:
    data = encoded(noise(120, 90), "JPEG")
    message = refusal(data[: len(data) // 2], "scan.jpg")
    assert message.startswith("scan.jpg: the picture is damaged or cut off (")
    assert message.endswith("; give a complete file")


def test_every_single_damage_is_refused_or_read() -> None:
    """A byte that is wrong may pass unseen, but never as another kind of error."""
    rng = np.random.default_rng(1)
    for form in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "ICO", "TGA", "PSD"):
        data = encoded(noise(32, 32), form) if form != "PSD" else b"8BPS\x00\x01" + b"\0" * 60
        for _ in range(40):
            broken = bytearray(data)
            broken[rng.integers(min(len(broken), 200))] = rng.integers(256)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    image = open_picture(bytes(broken), "broken", max_pixels=10**6)
                except PictureError as error:
                    assert str(error).startswith("broken: ")
                else:
                    assert image.mode == "RGB"


@pytest.mark.parametrize("size", [(60_000, 60_000), (10_000, 13_422), (14_000, 12_000)])
def test_a_huge_picture_is_refused_from_its_header(size: tuple[int, int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = refusal(png_header(*size), "huge.png")
    assert message.startswith("huge.png: is too large (")
    assert message.endswith("at most 134,217,728 pixels are read, scale it down")


def test_the_limit_is_the_callers_and_inclusive() -> None:
    data = encoded(noise(40, 30), "PNG")
    assert open_picture(data, max_pixels=1200).size == (40, 30)
    assert "is too large (40 x 30 pixels); at most 1,199" in refusal(data, max_pixels=1199)
    assert "is too large (40 x 30 pixels)" in refusal(noise(40, 30), max_pixels=1199)


def test_a_picture_beyond_pils_own_limit_is_read_without_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_picture(encoded(noise(40, 30), "PNG")).size == (40, 30)
        message = refusal(encoded(noise(50, 50), "PNG"), "big.png")
    assert message.startswith("big.png: is too large (2,500 pixels)")


def test_an_icon_that_holds_more_than_it_announces_is_refused() -> None:
    inner = encoded(noise(64, 64), "PNG")
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)
    icon = struct.pack("<HHH", 0, 1, 1) + entry + inner
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "is too large (64 x 64 pixels)" in refusal(icon, max_pixels=1000)


def test_a_text_file_is_not_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "text.png"
    path.write_text("This is not a picture.\n" * 50)
    message = refusal(path)
    assert message.startswith(f"{path}: is not a picture in a format that can be read; give a PNG")
    assert refusal(path, "line 7, image").startswith("line 7, image: is not a picture")


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    missing = tmp_path / "missing.png"
    assert refusal(missing) == f"{missing}: no such file; give the path of a picture file"
    assert refusal(str(tmp_path)).startswith(f"{tmp_path}: is a folder; ")
    assert "cannot be opened" in refusal("a\0b.png")
    assert "cannot be opened" in refusal("a" * 5000)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "is not a regular file" in refusal(pipe)


def test_things_that_are_no_pictures() -> None:
    assert refusal(Image.new("RGB", (0, 3))).startswith("picture: is 0 x 3 pixels")
    assert "a int is not a picture; give a path, the bytes" in refusal(7)
    assert "a NoneType is not a picture" in refusal(None)


def test_a_format_without_a_decoder_is_refused() -> None:
    hdf = b"\x89HDF\r\n\x1a\n" + b"\0" * 100
    assert refusal(hdf, "data.h5").startswith("data.h5: ")


def test_a_known_signature_with_nothing_behind_it_is_damage() -> None:
    assert "damaged or cut off (its header cannot be read)" in refusal(b"\x89PNG\r\n\x1a\n")
    assert "damaged or cut off (its header cannot be read)" in refusal(png_header(9, 9)[:33])


def test_picture_errors_are_input_errors() -> None:
    with pytest.raises(InputError):
        open_picture(b"")
