"""Tests of image decoding: orientation, 8 bits, and the colors of ``PIL.Image.convert("RGB")``."""

import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from image_data import PICTURE, encoded, fill, raw_png
from PIL import Image

from flaxnets.data import ImageFiles, channel_statistics, load, read_image
from flaxnets.data.image_checks import decode_image

# How EXIF's eight orientations transform the stored rows and columns.
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image),
}
GREY_16 = Image.fromarray(np.asarray(PICTURE)[..., 0].astype(np.uint16) * 257)


def with_exif(form: str, image: Image.Image = PICTURE, **options) -> Callable[[int], bytes]:
    def make(orientation: int) -> bytes:
        exif = Image.Exif()
        exif[0x0112] = orientation
        return encoded(form, image, exif=exif, **options)

    return make


def with_xmp(orientation: int) -> bytes:
    xmp = f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()
    return encoded("JPEG", xmp=xmp)


# The name of a file, and a function that returns its content for an orientation.
TURNED: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "jpeg": ("x.jpg", with_exif("JPEG")),
    "jpeg with xmp": ("x.jpg", with_xmp),
    "gray jpeg": ("x.jpeg", with_exif("JPEG", PICTURE.convert("L"))),
    "cmyk jpeg": ("x.jpg", with_exif("JPEG", PICTURE.convert("CMYK"))),
    "jpeg that says png": ("x.png", with_exif("JPEG")),
    "png": ("x.png", with_exif("PNG")),
    "palette": ("x.png", with_exif("PNG", PICTURE.quantize(16))),
    "transparent": ("x.png", with_exif("PNG", PICTURE.quantize(16), transparency=3)),
    "16 bits": ("x.png", with_exif("PNG", GREY_16)),
    "webp": ("x.webp", with_exif("WEBP", lossless=True)),
    "tiff": ("x.tif", with_exif("TIFF")),
    "gray tiff": ("x.tif", with_exif("TIFF", PICTURE.convert("L"))),
    "transparent tiff": ("x.tif", with_exif("TIFF", PICTURE.convert("RGBA"))),
    "cmyk tiff": ("x.tif", with_exif("TIFF", PICTURE.convert("CMYK"))),
    "packed tiff": ("x.tif", with_exif("TIFF", compression="tiff_lzw")),
    "16-bit tiff": ("x.tiff", with_exif("TIFF", GREY_16)),
}


def seen_in_training(path: Path, mode: str, workers: int = 0) -> np.ndarray:
    """Return an image as it is in a batch, in the size of its file."""
    with warnings.catch_warnings(action="ignore"):
        width, height = decode_image(path, mode).size
    shape = (1 if mode == "L" else 3, height, width)
    ((images, _),) = ImageFiles((path,), np.zeros(1, np.int32)).batches(
        np.zeros(1, int), 1, image_shape=shape, workers=workers
    )
    np.testing.assert_array_equal(read_image(path, shape), images[0])
    return images[0].transpose(1, 2, 0)


@pytest.mark.parametrize(("name", "make"), TURNED.values(), ids=TURNED)
def test_every_orientation_is_turned_upright(name, make, tmp_path):
    path = tmp_path / name
    path.write_bytes(make(1))
    stored = seen_in_training(path, "RGB")
    assert stored.shape == (20, 24, 3)
    for orientation, upright in UPRIGHT.items():
        path.write_bytes(make(orientation))
        np.testing.assert_array_equal(seen_in_training(path, "RGB"), upright(stored), err_msg=str(orientation))


TAG = struct.pack("<2sHLHHHLLL", b"II", 42, 8, 1, 0x0112, 3, 1, 6, 0)
BAD_EXIF = {
    "empty": b"",
    "no header": b"Exif\0\0",
    "no TIFF": b"Exif\0\0not a TIFF header",
    "cut off": b"Exif\0\0" + TAG[:17],
    "outside": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "zero": b"Exif\0\0" + TAG.replace(b"\x06\0\0\0\0", b"\0\0\0\0\0"),
    "nine": b"Exif\0\0" + TAG.replace(b"\x06\0\0\0\0", b"\x09\0\0\0\0"),
    "text": b"Exif\0\0" + struct.pack("<2sHLHHHL4sL", b"II", 42, 8, 1, 0x0112, 2, 4, b"six\0", 0),
    "three numbers": b"Exif\0\0" + struct.pack("<2sHLHHHLLL", b"II", 42, 8, 1, 0x0112, 3, 3, 9999, 0),
    "endless": b"Exif\0\0" + struct.pack("<2sHLHHHLLL", b"II", 42, 8, 1, 0x8769, 4, 1, 8, 8),
}


@pytest.mark.parametrize("exif", BAD_EXIF.values(), ids=BAD_EXIF)
@pytest.mark.parametrize(("form", "name"), [("JPEG", "x.jpg"), ("PNG", "x.png"), ("WEBP", "x.webp")])
def test_damaged_exif_data_is_not_looked_at(form, name, exif, tmp_path):
    options = {"lossless": True} if form == "WEBP" else {}
    (tmp_path / name).write_bytes(encoded(form, exif=exif, **options))
    (tmp_path / "plain").write_bytes(encoded(form, **options))
    with Image.open(tmp_path / "plain") as plain:
        np.testing.assert_array_equal(seen_in_training(tmp_path / name, "RGB", workers=1), np.asarray(plain))


def test_the_statistics_are_those_of_upright_images(tmp_path):
    (tmp_path / "x.jpg").write_bytes(TURNED["jpeg"][1](6))
    seen = seen_in_training(tmp_path / "x.jpg", "RGB")
    mean, _ = channel_statistics(ImageFiles((tmp_path / "x.jpg",), np.zeros(1, np.int32)), (3, *seen.shape[:2]))
    np.testing.assert_allclose(mean, seen.mean((0, 1)) / 255)


COLORS = np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8)
MODES: dict[str, tuple[Image.Image, str, dict]] = {
    "RGB": (Image.fromarray(COLORS), "png", {}),
    "RGB, one transparent": (Image.fromarray(COLORS), "png", {"transparency": tuple(COLORS[0, 0].tolist())}),
    "RGBA": (Image.fromarray(np.dstack([COLORS, COLORS[..., 0]])), "png", {}),
    "L": (Image.fromarray(COLORS[..., 0]), "png", {}),
    "L, one transparent": (Image.fromarray(COLORS[..., 0]), "png", {"transparency": 7}),
    "LA": (Image.fromarray(COLORS[..., :2], "LA"), "png", {}),
    "1": (Image.fromarray(COLORS[..., 0] > 99), "bmp", {}),
    "1, tiff": (Image.fromarray(COLORS[..., 0] > 99), "tif", {}),
    "P": (Image.fromarray(COLORS // 86 * 127).quantize(27), "gif", {}),
    "P, one transparent": (Image.fromarray(COLORS).quantize(200), "png", {"transparency": 5}),
    "P, many transparent": (Image.fromarray(COLORS).quantize(200), "png", {"transparency": bytes(range(200))}),
    "CMYK, jpeg": (Image.fromarray(COLORS).convert("CMYK"), "jpg", {}),
    "CMYK, tiff": (Image.fromarray(COLORS).convert("CMYK"), "tiff", {}),
    "YCbCr, tiff": (Image.fromarray(COLORS).convert("YCbCr"), "tif", {}),
    "LAB, tiff": (Image.fromarray(COLORS, "LAB"), "tif", {}),
}


@pytest.mark.parametrize(("image", "ending", "options"), MODES.values(), ids=MODES)
def test_every_mode_becomes_what_pillow_and_so_torchvision_makes_of_it(image, ending, options, tmp_path):
    path = tmp_path / f"x.{ending}"
    image.save(path, **options)
    with warnings.catch_warnings(action="ignore"), Image.open(path) as file:
        expected = file.convert("RGB")
    np.testing.assert_array_equal(seen_in_training(path, "RGB"), np.asarray(expected))
    np.testing.assert_array_equal(seen_in_training(path, "L")[..., 0], np.asarray(expected.convert("L")))


def tiff_of_12_bits(first: int, second: int) -> bytes:
    tags = {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8 + 2 + 9 * 12 + 4, 277: 1, 278: 1, 279: 3}
    entries = b"".join(struct.pack("<HHLL", tag, 3, 1, value) for tag, value in tags.items())
    packed = bytes([first >> 4, (first & 15) << 4 | second >> 8, second & 255])
    return struct.pack("<2sHLH", b"II", 42, 8, len(tags)) + entries + bytes(4) + packed


def grey(kind: str, values: list[float], form: str = "TIFF") -> bytes:
    return encoded(form, Image.fromarray(np.array([values], kind)))


# The name of a file, its content, and its pixels in 8 bits. White is 65535 in 16 bits, 4095 in 12 bits.
DEEP: dict[str, tuple[str, bytes, list[int]]] = {
    "png": ("x.png", grey("<u2", [0, 1, 256, 32896, 65535], "PNG"), [0, 0, 1, 128, 255]),
    "dark png": ("x.png", grey("<u2", [0, 100, 255, 257], "PNG"), [0, 0, 1, 1]),
    "tiff": ("x.tif", grey("<u2", [0, 1, 256, 32896, 65535]), [0, 0, 1, 128, 255]),
    "big-endian tiff": ("x.tif", grey(">u2", [0, 1, 256, 32896, 65535]), [0, 0, 1, 128, 255]),
    "pgm": ("x.pgm", b"P5 3 1 65535\n" + struct.pack(">3H", 0, 257, 65535), [0, 1, 255]),
    "dark pgm": ("x.pgm", b"P5 3 1 65535\n" + struct.pack(">3H", 0, 100, 255), [0, 0, 1]),
    "pgm up to 1000": ("x.pgm", b"P5 3 1 1000\n" + struct.pack(">3H", 0, 500, 1000), [0, 128, 255]),
    "12-bit tiff": ("x.tif", tiff_of_12_bits(4095, 2048), [255, 128]),
    "whole numbers": ("x.tif", grey("<i4", [0, 1, 256, 32896, 65535]), [0, 0, 1, 128, 255]),
    "whole numbers of 8 bits": ("x.tif", grey("<i4", [0, 1, 128, 255]), [0, 1, 128, 255]),
    "shares": ("x.tif", grey("<f4", [0, 0.25, 0.5, 1]), [0, 64, 128, 255]),
    "fractions": ("x.tif", grey("<f4", [0, 0.4, 99.6, 255]), [0, 0, 100, 255]),
    "rgb png": ("x.png", raw_png((2, 1), 16, 2, b"\0" + struct.pack(">6H", *[0] * 3, *[65535] * 3)), [0, 255]),
    "gray and alpha": ("x.png", raw_png((2, 1), 16, 4, b"\0" + struct.pack(">4H", 0, 9, 65535, 9)), [0, 255]),
}


@pytest.mark.parametrize(("name", "content", "expected"), DEEP.values(), ids=DEEP)
def test_deep_gray_values_are_scaled_and_not_cut_off(name, content, expected, tmp_path):
    (tmp_path / name).write_bytes(content)
    for mode in ("L", "RGB"):
        for channel in seen_in_training(tmp_path / name, mode)[0].T:
            assert channel.tolist() == expected


def test_names_that_lie_and_cmyk_are_one_warning_each(tmp_path):
    fill(tmp_path, {"a": 2, "b": 2})
    cmyk = PICTURE.convert("CMYK")
    files = {
        "a/1.jpg": encoded("PNG"), "a/2.png": encoded("JPEG"), "b/3.jpg": encoded("WEBP"), "b/4.bmp": encoded("GIF"),
        "b/5.tif": encoded("PNG", cmyk.convert("RGB")), "a/6.jpg": encoded("JPEG", cmyk),
        "b/7.tif": encoded("TIFF", cmyk), "a/8.png": encoded("JPEG", cmyk), "a/9.JPG": encoded("JPEG"),
        "a/9.jfif": encoded("JPEG"),
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    said: list[str] = []
    data = load(f"folder:{tmp_path}", warn=said.append)
    assert len(data.train) + len(data.test) == 4 + len(files)
    assert said == [
        f"images with another format than their suffix: 6; for example {tmp_path / 'a/1.jpg'} is a PNG file",
        f"CMYK images that Pillow converts to RGB: 3; for example {tmp_path / 'a/6.jpg'}",
    ]
    with pytest.warns(UserWarning, match="suffix: 6; for"), pytest.warns(UserWarning, match="RGB: 3; for"):
        load(f"folder:{tmp_path}")
