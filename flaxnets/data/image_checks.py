"""One image file: opened only where it is a file below its root, taken only where nothing of it is lost."""

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

# What a name's ending says that a file is, in Pillow's words.
FORMATS = {
    ".bmp": "BMP", ".gif": "GIF", ".jfif": "JPEG", ".jpe": "JPEG", ".jpeg": "JPEG", ".jpg": "JPEG", ".pgm": "PPM",
    ".png": "PNG", ".ppm": "PPM", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP",
}  # fmt: skip
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
# What Pillow's readers raise, each for other kinds of damage.
_DAMAGED = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError,
    struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip
_ORIENTATION = 0x0112  # EXIF's tag: how the camera was turned
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS_PER_SAMPLE = 258  # TIFF's tag


def locate(root: Path, name: str | os.PathLike, alias: Path | None = None) -> Path:
    """Returns where a path below ``root`` leads, through links; looks at nothing that is outside of it.

    Args:
        root: a folder, itself without links.
        name: relative to it, or absolute.
        alias: another path of the root, which absolute names may begin with as well.

    Raises:
        DataError: with the reason, if it leads outside or nowhere.
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
        problem: why it cannot be used.
        content: its format, if its name says another one.
        cmyk: whether it has the colors of printing.
    """

    problem: str | None = None
    content: str | None = None
    cmyk: bool = False


def check_images(paths: Sequence[Path]) -> list[Check]:
    """Decodes every file, since only that shows all damage."""
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # what Pillow says of tags that do not matter here
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
            raise DataError(f"no image by its name, expected one that ends in {', '.join(FORMATS)}")
        with _opened(path) as image:
            content = "JPEG" if image.format == "MPO" else image.format  # a camera's JPEG with a preview in it
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
    """Says once for all images that some have another format than their names say, and once that some are CMYK.

    >>> warn_of_conversions([("a/1.jpg", Check(content="PNG")), ("a/2.jpg", Check(content="PNG"))], print)
    images with another format than their names say, read by their content: 2, such as a/1.jpg, a PNG
    """
    renamed = [f"{printable(where)}, a {check.content}" for where, check in checks if check.content]
    cmyk = [printable(where) for where, check in checks if check.cmyk]
    for what, images in (
        ("images with another format than their names say, read by their content", renamed),
        ("CMYK images, converted to RGB by Pillow", cmyk),
    ):
        if images:
            warn(f"{what}: {len(images):,}, such as {images[0]}")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=sorted(set(FORMATS.values()))) as image:
            yield image
    except DataError:
        raise
    except UnidentifiedImageError as error:
        with path.open("rb") as file:
            raise DataError(f"no image that Pillow knows, it begins with {file.read(4).hex(' ')}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels") from error
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"cannot be read: {error.strerror}") from error
        raise DataError(f"damaged, Pillow says: {' '.join(str(error).split()) or type(error).__name__}") from error


def decode_image(path: Path, mode: str) -> Image.Image:
    """Reads an image: upright as its EXIF data says, in ``RGB`` or ``L``, with 8 bits a channel.

    Colors are converted as ``PIL.Image.convert("RGB")`` does, which torchvision's ``ImageFolder`` calls; transparency
    is dropped. Gray values of 16 bits are scaled from 0...65535 to 0...255. Whole numbers of 32 bits up to 255 are
    pixels, larger ones up to 65535 are scaled as 16 bits. Floating-point values from 0 to 1 are multiplied by 255,
    larger ones up to 255 are pixels.

    Args:
        path: of a file.
        mode: Pillow's name of what is wanted.

    Raises:
        DataError: with the reason, if it cannot be read.
    """
    with _opened(path) as image:
        return _convert(image, mode)


def ignore_pillow_warnings() -> None:
    """Ignore Pillow's warnings about damaged EXIF data in the whole process and all its threads."""
    add_ignore_filter(category=UserWarning, module=r"PIL\.")


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.format == "TIFF":
        image.filename = ""  # pyright: ignore[reportAttributeAccessIssue]  (else Pillow maps turned rows wrongly)
    image.load()
    upright = _upright(image)
    if upright.mode[0] in "IF":
        upright = _scaled(image, upright)
    elif "transparency" in upright.info:  # which Pillow converts to other modes with a warning
        upright = upright.convert("RGBA")
    return upright.convert("RGB").convert(mode)


def _upright(image: Image.Image) -> Image.Image:
    """Turns an image as its EXIF data says; Pillow does so itself for TIFF, and removes the tag."""
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION))  # pyright: ignore[reportArgumentType]
    except _DAMAGED:  # the pixels are good
        return image
    return image if turn is None else image.transpose(turn)


def _scaled(image: Image.Image, upright: Image.Image) -> Image.Image:
    """Scales deep gray values to 8 bits, which Pillow would cut off at 255."""
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
