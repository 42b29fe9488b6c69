"""Datasets of image files: a folder for each class, or a table of paths and labels."""

import csv
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from flaxnets.data.examples import SPLIT_SEED, Dataset
from flaxnets.data.files import DataError
from flaxnets.data.image_checks import FORMATS, BadFiles, Complaint, check_images, locate, printable, report
from flaxnets.data.image_files import ImageFiles

_TEST_PARTS = "val", "valid", "test"  # the first that is there is evaluated on
_PATH_COLUMNS = {"file", "file_name", "filename", "image", "image_path", "path"}
_LABEL_COLUMNS = {"category", "class", "label", "target"}


@dataclasses.dataclass(frozen=True)
class _Found:
    where: str  # it was named: a path, or a line of a table
    path: Path
    label: str
    part: str | None = None
    number: int = 0  # of the line


def image_folder(name: str, folder: Path, bad_files: BadFiles, warn: Callable[[str], None]) -> Dataset:
    """Loads the images below a folder, as :func:`flaxnets.data.load` says.

    Args:
        name: of the dataset.
        folder: with a folder for each class, or with folders ``train`` and ``val``, ``valid`` or ``test`` of those.
        bad_files: as that of :func:`flaxnets.data.load`.
        warn: as that of :func:`flaxnets.data.load`.

    Raises:
        DataError: for files that cannot be used, or a folder without two classes.
        FileNotFoundError: if there is no such folder.
    """
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of images, got a file")
    folders = [entry.name for entry in _entries(folder) if entry.is_dir(follow_symlinks=False)]
    test = next((part for part in _TEST_PARTS if part in folders), None)
    parts: list[str | None] = ["train", test] if test and "train" in folders else [None]
    root, found, complaints = folder.resolve(), [], []
    for part in parts:
        for path, label, problem in _below(folder / (part or "")):
            try:
                if problem:
                    raise DataError(problem)
                found.append(_Found(str(path), locate(root, path.relative_to(folder)), label, part))
            except DataError as error:
                complaints.append(Complaint(str(path), str(error)))
    return _assemble(name, folder, found, complaints, bad_files, warn)


def _below(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """Yields the files in the folders of the classes: path, class, and what is wrong with a path where that shows."""
    for entry in _entries(folder):
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            paths = list(_files_below(path))
            yield from ((image, entry.name, "") for image in paths)
            if not paths:
                yield path, entry.name, "no images in it"
        elif entry.is_symlink() or path.suffix.lower() in FORMATS:
            yield path, "", f"expected a folder of images, got a {'link' if entry.is_symlink() else 'file'}"


def _files_below(folder: Path) -> Iterator[Path]:
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False) and Path(entry.name).suffix.lower() not in FORMATS:
            yield from _files_below(Path(entry.path))
        else:
            yield Path(entry.path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def image_table(name: str, table: Path, bad_files: BadFiles, warn: Callable[[str], None]) -> Dataset:
    """Loads the images that a CSV file names, as :func:`flaxnets.data.load` says.

    Args:
        name: of the dataset.
        table: lines of a path, relative to the file's folder, and a label.
        bad_files: as that of :func:`flaxnets.data.load`.
        warn: as that of :func:`flaxnets.data.load`.

    Raises:
        DataError: for lines and files that cannot be used, or a table without two classes.
        FileNotFoundError: if there is no such table.
    """
    root, complaints = table.parent.resolve(), []
    found: dict[Path, _Found] = {}
    for number, line in _lines(table, complaints):
        where = f"{table}:{number}"
        try:
            path, label = _fields(line)
            if number == 1 and _is_header(path, label):
                continue
            if not path or not label:
                raise DataError(f"no {'label' if path else 'image path'}")
            where = f"{where}: {printable(path)}"
            image = locate(root, path)
            if image in found:
                raise DataError(f"the same image as on line {found[image].number}")
            found[image] = _Found(where, image, label, number=number)
        except DataError as error:
            complaints.append(Complaint(where, str(error)))
    chosen = _listed(found, table, complaints)
    return _assemble(name, table, chosen, complaints, bad_files, warn)


def _listed(found: dict[Path, _Found], table: Path, complaints: list[Complaint]) -> list[_Found]:
    """Returns the images that the lists beside the table have, each with its part; all where there are no lists."""
    lists = {part: table.with_suffix(f".{part}.txt") for part in ("train", "test")}
    missing = [path for path in lists.values() if not os.path.lexists(path)]
    if len(missing) == len(lists):
        return list(found.values())
    if missing:
        raise DataError(f"{missing[0]}: no such file; expected a list for the training and the test part, or neither")
    root, places = table.parent.resolve(), {}
    for part, path in lists.items():
        try:
            locate(root, path.name)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        for number, line in _lines(path, complaints):
            where = f"{path}:{number}: {printable(line.strip())}"
            try:
                image = locate(root, line.strip())
                if image not in found:
                    raise DataError(f"{table.name} has no good line for it")
                if image in places:
                    raise DataError(f"the same image as on line {places[image]}")
                places[image] = f"{number} of {path.name}"
                found[image] = dataclasses.replace(found[image], part=part)
            except DataError as error:
                complaints.append(Complaint(where, str(error)))
    return [found[image] for image in places]


def _lines(path: Path, complaints: list[Complaint]) -> Iterator[tuple[int, str]]:
    """Yields the lines that are not blank, with their numbers; a line break in quotes does not join two."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    for number, content in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            line = content.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            reason = f"not UTF-8: the byte {content[error.start]:02x} after {error.start} others"
            complaints.append(Complaint(f"{path}:{number}", reason))
            continue
        if line.strip():
            yield number, line


def _fields(line: str) -> tuple[str, str]:
    if "\0" in line:
        raise DataError("a NUL in the line")
    try:
        fields = [field.strip() for field in next(csv.reader([line], strict=True))]
    except csv.Error as error:
        raise DataError(f"no line of a CSV file: {error}") from error
    if len(fields) != 2:
        raise DataError(f"expected 2 fields, image path and label, got {len(fields)}")
    return fields[0], fields[1]


def _is_header(first: str, second: str) -> bool:
    first, second = first.lower(), second.lower()
    if first in _LABEL_COLUMNS and second in _PATH_COLUMNS:
        raise DataError(f"the columns are {first!r} and {second!r}, expected the image path first and then the label")
    return first in _PATH_COLUMNS and second in _LABEL_COLUMNS


def _assemble(
    name: str,
    source: Path,
    found: Sequence[_Found],
    complaints: list[Complaint],
    bad_files: BadFiles,
    warn: Callable[[str], None],
) -> Dataset:
    problems = check_images([each.path for each in found])
    bad = [Complaint(each.where, problem) for each, problem in zip(found, problems, strict=True) if problem]
    report(name, [*complaints, *bad], bad_files, warn)
    good = [each for each, problem in zip(found, problems, strict=True) if not problem]
    classes = tuple(sorted({each.label for each in good}))
    if len(classes) < 2:
        raise DataError(f"{source}: expected images of at least two classes, got {list(classes) or 'none'}")
    indices = {name: index for index, name in enumerate(classes)}
    labels = np.array([indices[each.label] for each in good], np.int32)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(good))  # so that the first ones are of all classes
    if good[0].part is None:
        in_test = _test_share(source, labels[order], classes)
    else:
        in_test = np.array([good[i].part != "train" for i in order])
        _check_parts(source, classes, labels[order][~in_test], labels[order][in_test])
    train, test = (
        ImageFiles(tuple(good[i].path for i in part), labels[part]) for part in (order[~in_test], order[in_test])
    )
    return Dataset(name, "classification", train, test, {"num_classes": len(classes)}, classes=classes)


def _test_share(source: Path, labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Chooses the first fifth of each class."""
    in_test = np.zeros(len(labels), bool)
    for label, members in enumerate(np.flatnonzero(labels == label) for label in range(len(classes))):
        if len(members) < 2:
            raise DataError(
                f"{source}: the class {classes[label]!r} has one image, expected at least two: one to test on"
            )
        in_test[members[: max(len(members) // 5, 1)]] = True
    return in_test


def _check_parts(source: Path, classes: Sequence[str], train: np.ndarray, test: np.ndarray) -> None:
    absent = {
        part: [name for label, name in enumerate(classes) if label not in labels]
        for part, labels in (("to learn from", train), ("to test on", test))
    }
    lacks = [f"no images {part} of {', '.join(map(repr, names))}" for part, names in absent.items() if names]
    if lacks:
        raise DataError(f"{source}: {' and '.join(lacks)}; expected both parts to have every class")
