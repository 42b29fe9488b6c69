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
from typing import Literal

from PIL import Image, UnidentifiedImageError

from flaxnets.data.files import DataError

BadFiles = Literal["stop", "skip"]

# What a name's ending says that a file is, in Pillow's words.
FORMATS = {
    ".bmp": "BMP", ".gif": "GIF", ".jpeg": "JPEG", ".jpg": "JPEG", ".pgm": "PPM", ".png": "PNG", ".ppm": "PPM",
    ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP",
}  # fmt: skip
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
# What Pillow's readers raise, each for other kinds of damage.
_DAMAGED = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError,
    struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Complaint:
    """Why an image or a line is not used.

    >>> print(Complaint("pets/cat/7.png", "empty"))
    pets/cat/7.png: empty
    """

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{printable(self.where)}: {self.reason}"


def printable(text: str) -> str:
    """Returns the text, or its ``repr`` where it has line breaks or what is not UTF-8, so that it can be printed.

    >>> printable("a cat.png"), printable("a\\ncat.png")
    ('a cat.png', "'a\\\\ncat.png'")
    """
    return text if text.isprintable() else repr(text)


def report(name: str, complaints: Sequence[Complaint], bad_files: BadFiles, warn: Callable[[str], None]) -> None:
    """Raises all complaints at once, or with ``bad_files="skip"`` hands each to ``warn``.

    Raises:
        DataError: with one line a complaint.

    >>> report("folder:pets", [Complaint("pets/cat/7.png", "empty")], "skip", print)
    left out: pets/cat/7.png: empty
    """
    if bad_files == "skip":
        for complaint in complaints:
            warn(f"left out: {complaint}")
    elif complaints:
        lines = "\n".join(map(str, complaints))
        raise DataError(f"{name}: {len(complaints)} cannot be used; mend them, or leave them out (skip):\n{lines}")


def locate(root: Path, name: str | os.PathLike) -> Path:
    """Returns where a path below ``root`` leads, through links; looks at nothing that is outside of it.

    Args:
        root: a folder, itself without links.
        name: relative to it.

    Raises:
        DataError: with the reason, if it leads outside or nowhere.
    """
    name = os.fspath(name)
    if "\0" in name:
        raise DataError("a NUL in the name")
    if os.path.isabs(name) or os.path.normpath(name).split(os.sep)[0] == os.pardir:
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


def check_images(paths: Sequence[Path]) -> list[str | None]:
    """Returns for each file what is wrong with it, or None; every one is decoded, since only that shows all damage."""
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # what Pillow says of tags that do not matter here
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return list(pool.map(_problem, paths))


def _problem(path: Path) -> str | None:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{_KINDS.get(stat.S_IFMT(status.st_mode), 'a device')}, expected an image file")
        if not status.st_size:
            raise DataError("empty")
        if path.suffix.lower() not in FORMATS:
            raise DataError(f"no image by its name, expected one that ends in {', '.join(FORMATS)}")
        with _opened(path) as image:
            _check_header(image, FORMATS[path.suffix.lower()])
            _convert(image, "RGB")
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except DataError as error:
        return str(error)
    return None


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


def _check_header(image: Image.Image, expected: str) -> None:
    found = "JPEG" if image.format == "MPO" else image.format  # a camera's JPEG with a preview in it
    if found != expected:
        raise DataError(f"its content is {found}, its name says {expected}")
    if image.mode == "CMYK":
        raise DataError("CMYK: convert it to RGB")
    if _deep(image):
        raise DataError("more than 8 bits a channel: would lose the lower ones; convert it to 8")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise DataError(f"{frames} frames, expected one image")


def _deep(image: Image.Image) -> bool:
    """Pillow has no mode for 16 bits in several channels and cuts them; only what it will decode tells."""
    if image.mode[0] in "IF":
        return True
    arguments = [tile[3] for tile in getattr(image, "tile", ())]
    if image.format == "PPM":
        return any(
            isinstance(part, int) and part > 255 for each in arguments if isinstance(each, tuple) for part in each
        )
    return image.format in ("PNG", "TIFF") and any(";16" in str(each) for each in arguments)


def decode_image(path: Path, mode: str) -> Image.Image:
    """Reads an image, in ``RGB`` or ``L``; what is transparent loses just that.

    Args:
        path: of a file.
        mode: Pillow's name of what is wanted.

    Raises:
        DataError: with the reason, if it cannot be read.
    """
    with _opened(path) as image:
        return _convert(image, mode)


def _convert(image: Image.Image, mode: str) -> Image.Image:
    image.load()
    if "transparency" in image.info:  # which Pillow converts to other modes with a warning
        image = image.convert("RGBA")
    return image.convert(mode)
