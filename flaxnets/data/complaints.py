"""Reports of unusable images and lines: printed, and written to a file if there are many."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from flaxnets.cache import cache_folder
from flaxnets.data.files import DataError

BadFiles = Literal["stop", "skip"]

_SHOWN = 10  # maximum number of complaints or names in one message


@dataclasses.dataclass(frozen=True)
class Complaint:
    """The reason why an image or a line cannot be used.

    >>> print(Complaint("pets/cat/7.png", "empty"))
    pets/cat/7.png: empty
    """

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{printable(self.where)}: {self.reason}"


def printable(text: str) -> str:
    """Return the text, or its ``repr`` if it contains line breaks or characters that cannot be printed.

    >>> printable("a cat.png"), printable("a\\ncat.png")
    ('a cat.png', "'a\\\\ncat.png'")
    """
    return text if text.isprintable() else repr(text)


def listed(names: Iterable[str]) -> str:
    """Return at most ten names in quotes, and the number of the remaining ones.

    >>> listed(["cat", "dog"])
    "'cat', 'dog'"
    >>> listed(map(str, range(500)))
    "'0', '1', '2', '3', '4', '5', '6', '7', '8', '9' and 490 more"
    """
    names = [*names]
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more


def report(name: str, complaints: Sequence[Complaint], bad_files: BadFiles, warn: Callable[[str], None]) -> None:
    """Raise one error for all complaints, or with ``bad_files="skip"`` pass them to ``warn``.

    At most ten complaints are shown. If there are more, all are written to ``bad-files-....txt`` in
    :func:`flaxnets.cache.cache_folder`, one file for each ``name``, and the last line names the file.

    Raises:
        DataError: with one line for each complaint.

    >>> report("folder:pets", [Complaint("pets/cat/7.png", "empty")], "skip", print)
    skipped: pets/cat/7.png: empty
    """
    if not complaints:
        return
    prefix = "skipped: " if bad_files == "skip" else ""
    lines = [f"{prefix}{complaint}" for complaint in complaints[:_SHOWN]]
    if len(complaints) > _SHOWN:
        lines.append(f"... and {len(complaints) - _SHOWN:,} more; {_write(name, complaints)}")
    if bad_files == "skip":
        for line in lines:
            warn(line)
    else:
        raise DataError(
            f"{name}: {len(complaints):,} cannot be used. Fix: repair them, or skip them with --bad-files skip:\n"
            + "\n".join(lines)
        )


def _write(name: str, complaints: Sequence[Complaint]) -> str:
    """Write all complaints to a file; return a phrase with its path, or with the reason why this failed."""
    try:
        path = cache_folder() / f"bad-files-{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{complaint}\n" for complaint in complaints), "utf-8", "backslashreplace")
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home folder
        return f"no list of all of them could be written: {error}"
    return f"all in {path}"
