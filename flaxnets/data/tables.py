"""CSV files of images and labels; delimiter, header and columns are detected."""

import collections
import csv
import dataclasses
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePath

from flaxnets.data.complaints import Complaint, listed
from flaxnets.data.files import DataError
from flaxnets.data.image_checks import FORMATS

# Names of columns, reduced to letters and digits. A later group counts only if no column is in an earlier group.
_IMAGE_NAMES = (
    {
        "file", "filename", "filepath", "image", "imagefile", "imagefilename", "imagename", "imagepath", "img",
        "imgfile", "imgname", "imgpath", "path", "photo", "picture", "relativepath", "relpath",
    },
    {"id", "imageid", "imgid"},
)  # fmt: skip
_LABEL_NAMES = (
    {
        "breed", "category", "categoryname", "class", "classlabel", "classname", "groundtruth", "label", "labelname",
        "labels", "species", "tag", "target",
    },
    {"categoryid", "classid", "classindex", "labelid", "labelindex", "targetid", "y"},
)  # fmt: skip
_FIX = "Fix: --csv-image-column and --csv-label-column, each with a name or a number from 1"
_DELIMITERS = ",;\t|"  # in case of a tie, the first
_SAMPLE = 100  # number of lines from which the delimiter and the columns are detected

Columns = tuple[str | None, str | None]  # columns of the image and the label that the user has chosen


@dataclasses.dataclass(frozen=True)
class _Layout:
    image: int
    label: int
    count: int = 2
    header: bool = False


def read_table(table: Path, columns: Columns, complaints: list[Complaint]) -> Iterator[tuple[int, str, str]]:
    """Yield the number, the image path and the label of each valid line.

    Args:
        table: a CSV file in UTF-8, delimited by ``,``, ``;``, ``|`` or tabs, with or without a header.
        columns: names, or numbers from 1, of the columns; None to detect them.
        complaints: list to which a complaint about each invalid line is added.

    Raises:
        DataError: if the columns cannot be detected.
        FileNotFoundError: if the file does not exist.
    """
    lines = [*text_lines(table, complaints)]
    declared = re.fullmatch(r"sep=(.)", lines[0][1]) if lines else None  # spreadsheets declare the delimiter like this
    if declared:
        del lines[0]
    sample = [line for _, line in lines[:_SAMPLE]]
    delimiter = declared[1] if declared else max(_DELIMITERS, key=lambda each: _fitness(sample, each))
    layout = _layout(table, [_split(line, delimiter) for line in sample], columns)
    for number, line in lines[layout.header :]:
        try:
            fields = _fields(line, delimiter)
            if len(fields) != layout.count:
                what = ", image path and label" if layout.count == 2 else ""
                raise DataError(f"expected {layout.count} fields{what}, got {len(fields)}")
            path, label = fields[layout.image], fields[layout.label]
            if not path or not label:
                raise DataError(f"no {'label' if path else 'image path'}")
        except DataError as error:
            complaints.append(Complaint(f"{table}:{number}", str(error)))
        else:
            yield number, path, label


def text_lines(path: Path, complaints: list[Complaint]) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line that is not blank; quoted line breaks end a line too."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    text = path.read_bytes()
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: UTF-16, expected UTF-8. Fix: save it as CSV in UTF-8")
    for number, content in enumerate(text.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            line = content.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            reason = f"not UTF-8: the byte {content[error.start]:02x} after {error.start} others"
            complaints.append(Complaint(f"{path}:{number}", reason))
            continue
        if line.strip():
            yield number, line


def _fields(line: str, delimiter: str) -> list[str]:
    if "\0" in line:
        raise DataError("a NUL in the line")
    try:
        return [
            field.strip() for field in next(csv.reader([line], strict=True, delimiter=delimiter, skipinitialspace=True))
        ]
    except csv.Error as error:
        raise DataError(f"not a line of a CSV file: {error}") from error


def _split(line: str, delimiter: str) -> list[str]:
    """Return the fields; none for an invalid line."""
    try:
        return _fields(line, delimiter)
    except DataError:
        return []


def _fitness(sample: Sequence[str], delimiter: str) -> tuple[int, int]:
    """Count lines with a field that has an image suffix, and lines with several fields."""
    rows = [fields for line in sample if len(fields := _split(line, delimiter)) > 1]
    return sum(any(map(_is_image, fields)) for fields in rows), len(rows)


def _is_image(field: str) -> bool:
    return PurePath(field).suffix.lower() in FORMATS


def _layout(table: Path, rows: Sequence[list[str]], columns: Columns) -> _Layout:
    """Detect the columns of the image and the label, and whether the first line is a header.

    Args:
        table: path of the file, for errors.
        rows: fields of the first lines.
        columns: names or numbers that the user has chosen.
    """
    first, *others = [*rows, []]
    named = any(column is not None and (column in first or not column.isdecimal()) for column in columns)
    usual = any(_matches(first, names) for names in (_IMAGE_NAMES, _LABEL_NAMES))
    if named or (usual and not any(map(_is_image, first))):
        image = _column(table, first, "image", columns[0], _IMAGE_NAMES)
        label = _column(table, first, "label", columns[1], _LABEL_NAMES)
        return _both(table, first, image, label, header=True)
    header = not any(map(_is_image, first)) and any(_is_image(field) for fields in others for field in fields)
    counts = collections.Counter(map(len, filter(None, rows)))
    count = max(counts.most_common(1)[0][0] if counts else 2, 2)
    if columns != (None, None):
        numbers = [int(column) - 1 if column is not None else None for column in columns]
        for number in numbers:
            if number is not None and not 0 <= number < count:
                raise DataError(f"{table}: no column {number + 1}. Expected 1 to {count}. {_FIX}")
        return _both(table, [*map(str, range(1, count + 1))], *numbers, header=header)
    if header or count > 2:
        raise DataError(f"{table}: cannot detect which of the columns {listed(first)} are image and label. {_FIX}")
    return _Layout(0, 1, 2, header=False)


def _both(table: Path, names: Sequence[str], image: int | None, label: int | None, header: bool) -> _Layout:
    """Complete the layout: in a table of two columns, one column determines the other."""
    if len(names) == 2 and image is None and label is not None:
        image = 1 - label
    if len(names) == 2 and label is None and image is not None:
        label = 1 - image
    if image is None or label is None:
        missing = " and the ".join(what for what, index in (("image", image), ("label", label)) if index is None)
        raise DataError(f"{table}: cannot detect the column of the {missing}. The columns are {listed(names)}. {_FIX}")
    if image == label:
        raise DataError(f"{table}: the column {names[image]!r} cannot be both the image and the label. {_FIX}")
    return _Layout(image, label, len(names), header)


def _normal(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.casefold())


def _matches(header: Sequence[str], groups: Sequence[Collection[str]]) -> list[int]:
    """Return the columns that have a name of the first group that matches."""
    found = ([i for i, name in enumerate(header) if _normal(name) in names] for names in groups)
    return next(filter(None, found), [])


def _column(
    table: Path, header: Sequence[str], what: str, chosen: str | None, names: Sequence[Collection[str]]
) -> int | None:
    """Return the index of a column in a header; None if no column has a known name."""
    if chosen is not None:
        if chosen in header:
            return header.index(chosen)
        if chosen.isdecimal() and 0 < int(chosen) <= len(header):
            return int(chosen) - 1
        raise DataError(f"{table}: no column {chosen!r}. Expected one of {listed(header)}. Fix: --csv-{what}-column")
    found = _matches(header, names)
    if len(found) > 1:
        several = listed(header[i] for i in found)
        raise DataError(f"{table}: several columns may be the {what}: {several}. Fix: --csv-{what}-column")
    return found[0] if found else None
