"""Checking and decoding of one image file."""

import contextlib
import dataclasses
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from flaxnets._warnings import add_ignore_filter
from flaxnets.data.complaints import printable
from flaxnets.data.files import DataError

# Pillow's format for each suffix.
FORMATS = {
    ".bmp": "BMP", ".gif": "GIF", ".jfif": "JPEG", ".jpe": "JPEG", ".jpeg": "JPEG", ".jpg": "JPEG", ".pgm": "PPM",
    ".png": "PNG", ".ppm": "PPM", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP",
}  # fmt: skip
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
# Errors that Pillow raises for damaged files.
_DAMAGED = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError,
    struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip
_ORIENTATION = 0x0112  # EXIF tag of the orientation
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS_PER_SAMPLE = 258  # TIFF tag


def locate(root: Path, name: str | os.PathLike, alias: Path | None = None) -> Path:
    """Resolve the links of a path below ``root``, without accessing anything outside of ``root``.

    Args:
        root: a folder; its path contains no links.
        name: a path relative to ``root``, or an absolute path.
        alias: another path of ``root`` with which absolute paths may begin.

    Raises:
        DataError: with the reason, if the path leads outside of ``root`` or does not exist.
    """
    name = os.fspath(name)
    if "\0" in name:
        raise DataError("a NUL in the name")
    if os.path.isabs(name):
        absolute = Path(os.path.normpath(name))
        base = next((base for base in (root, alias) if base and absolute.is_relative_to(base)), None)
        name = os.path.relpath(absolute, base) if base else os.pardir
    if os.path.normpath(name).split(os.sep)[0] == os.pardir:
        raise DataError(f"outside of {root}, expected a path below it")
    try:
        path = Path(os.path.realpath(root / name, strict=True))
    except FileNotFoundError as error:
        raise DataError("no such file") from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}") from error
    if not path.is_relative_to(root):
        raise DataError(f"a link that leads outside of {root}")
    return path


@dataclasses.dataclass(frozen=True)
class Check:
    """The result of decoding a file once.

    Attributes:
        problem: the reason why the file cannot be used; None if it can.
        content: the format, if the suffix belongs to another format.
        cmyk: whether the image has CMYK colors.
    """

    problem: str | None = None
    content: str | None = None
    cmyk: bool = False


def check_images(paths: Sequence[Path]) -> list[Check]:
    """Decode every file, because only decoding finds all damage."""
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # of tags that are not used
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return list(pool.map(_check, paths))


def _check(path: Path) -> Check:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{_KINDS.get(stat.S_IFMT(status.st_mode), 'a device')}, expected an image file")
        if not status.st_size:
            raise DataError("empty")
        if path.suffix.lower() not in FORMATS:
            raise DataError(f"not an image suffix, expected one of {', '.join(FORMATS)}")
        with _opened(path) as image:
            content = "JPEG" if image.format == "MPO" else image.format  # a JPEG of a camera that contains a preview
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":
                raise DataError(f"{frames} frames, expected one image")
            _convert(image, "RGB")
            return Check(None, None if content == FORMATS[path.suffix.lower()] else content, image.mode == "CMYK")
    except OSError as error:
        return Check(f"cannot be read: {error.strerror}")
    except DataError as error:
        return Check(str(error))


def warn_of_conversions(checks: Sequence[tuple[str, Check]], warn: Callable[[str], None]) -> None:
    """Warn once if images have another format than their suffix, and once if images are CMYK.

    >>> warn_of_conversions([("a/1.jpg", Check(content="PNG")), ("a/2.jpg", Check(content="PNG"))], print)
    images with another format than their suffix: 2; for example a/1.jpg is a PNG file
    """
    renamed = [f"{printable(where)} is a {check.content} file" for where, check in checks if check.content]
    cmyk = [printable(where) for where, check in checks if check.cmyk]
    if renamed:
        warn(f"images with another format than their suffix: {len(renamed):,}; for example {renamed[0]}")
    if cmyk:
        warn(f"CMYK images that Pillow converts to RGB: {len(cmyk):,}; for example {cmyk[0]}")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=sorted(set(FORMATS.values()))) as image:
            yield image
    except DataError:
        raise
    except UnidentifiedImageError as error:
        with path.open("rb") as file:
            raise DataError(f"not an image that Pillow can read, it begins with {file.read(4).hex(' ')}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels") from error
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"cannot be read: {error.strerror}") from error
        raise DataError(f"damaged, Pillow says: {' '.join(str(error).split()) or type(error).__name__}") from error


def decode_image(path: Path, mode: str) -> Image.Image:
    """Decode an image to ``RGB`` or ``L`` with 8 bits per channel, rotated by its EXIF orientation.

    Colors are converted by ``PIL.Image.convert("RGB")``, as in torchvision's ``ImageFolder``; transparency is dropped.
    16-bit gray values are scaled from 0...65535 to 0...255. 32-bit integers are pixels if none exceeds 255, and are
    scaled like 16-bit values if none exceeds 65535. Floating-point values are multiplied by 255 if none exceeds 1, and
    are pixels if none exceeds 255.

    Args:
        path: the file.
        mode: Pillow mode of the result, ``RGB`` or ``L``.

    Raises:
        DataError: with the reason, if the file cannot be decoded.
    """
    with _opened(path) as image:
        return _convert(image, mode)


def ignore_pillow_warnings() -> None:
    """Ignore Pillow's warnings about damaged EXIF data in the whole process and all its threads."""
    add_ignore_filter(category=UserWarning, module=r"PIL\.")


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.format == "TIFF":
        image.filename = ""  # pyright: ignore[reportAttributeAccessIssue]  (otherwise Pillow maps the rows of rotated images wrongly)
    image.load()
    upright = _upright(image)
    if upright.mode[0] in "IF":
        upright = _scaled(image, upright)
    elif "transparency" in upright.info:  # Pillow warns when it converts this to another mode
        upright = upright.convert("RGBA")
    return upright.convert("RGB").convert(mode)


def _upright(image: Image.Image) -> Image.Image:
    """Rotate an image by its EXIF orientation; for TIFF, Pillow has done so and has removed the tag."""
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION))  # pyright: ignore[reportArgumentType]
    except _DAMAGED:  # damaged EXIF data; the pixels can be used
        return image
    return image if turn is None else image.transpose(turn)


def _scaled(image: Image.Image, upright: Image.Image) -> Image.Image:
    """Scale gray values of more than 8 bits, which Pillow would clip at 255."""
    values = np.asarray(upright)
    low, high = values.min(), values.max()
    if upright.mode == "F":
        top = 1 if high <= 1 else 255
    elif upright.mode == "I" and image.format == "TIFF":
        top = 255 if high <= 255 else 65535
    else:
        top = 2 ** getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0] - 1
    if not (low >= 0 and high <= top):
        raise DataError(f"gray values from {low} to {high}, expected 0 to {top}")
    return Image.fromarray(np.round(values * (255 / top)).astype(np.uint8))
