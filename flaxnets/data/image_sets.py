"""Image datasets: a folder for each class, or a table of paths and labels."""

import dataclasses
import functools
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from flaxnets.data.class_names import composed, label_positions, sort_classes
from flaxnets.data.complaints import BadFiles, Complaint, listed, printable, report
from flaxnets.data.examples import SPLIT_SEED, Dataset
from flaxnets.data.files import DataError
from flaxnets.data.image_checks import FORMATS, check_images, locate, warn_of_conversions
from flaxnets.data.image_files import ImageFiles
from flaxnets.data.tables import Columns, read_table, text_lines

_PART_NAMES = {
    "train": {"train", "training", "trn"},
    "val": {"dev", "eval", "evaluation", "val", "valid", "validate", "validation"},
    "test": {"test", "testing", "tst"},
}
# Files and folders that operating systems and archives create; names that begin with a dot are ignored too.
_LEFTOVERS = {
    "#recycle", "#snapshot", "$recycle.bin", "@eadir", "@recently-snapshot", "@recycle", "@recycle.bin", "@tmp",
    "__macosx", "__pycache__", "desktop.ini", "ehthumbs.db", "ehthumbs_vista.db", "icon\r", "lost+found", "lost.dir",
    "network trash folder", "picasa.ini", "recycler", "system volume information", "temporary items", "thumbs.db",
    "zbthumbnail.info",
}  # fmt: skip
_LEFTOVER_ENDS = ":zone.identifier", ":encryptable"  # NTFS streams that were copied as files


@dataclasses.dataclass(frozen=True)
class Reading:
    """Options for reading image files; see :func:`flaxnets.data.load`."""

    bad_files: BadFiles = "stop"
    warn: Callable[[str], None] = warnings.warn
    names: Sequence[str] | None = None
    csv_columns: Columns = (None, None)


@dataclasses.dataclass(frozen=True)
class _Found:
    where: str  # for messages: a path, or a line of a table
    path: Path
    label: str
    part: str | None = None
    number: int = 0  # line number


def image_folder(name: str, folder: Path, reading: Reading) -> Dataset:
    """Load the images in a folder; see :func:`flaxnets.data.load`.

    Args:
        name: name of the dataset.
        folder: contains a folder for each class, or folders ``train``, ``val`` and ``test`` of class folders.
        reading: options.

    Raises:
        DataError: for files that cannot be used, fewer than two classes, or a mixture of parts and classes.
        FileNotFoundError: if the folder does not exist.
    """
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of images, got a file")
    tree = _Tree(folder, folder.resolve())
    parts = _parts(tree, reading.names)
    if set(parts) <= {"train"}:
        top = parts.get("train", folder)
        found, complaints = _images(tree, [(None, top)], reading)
        _refuse_parts_in_classes(top, found)
        return _assemble(name, folder, found, complaints, reading)
    test = "val" if "val" in parts else "test"
    if "train" not in parts and reading.names is None:
        raise DataError(
            f"{folder}: a folder {parts[test].name!r} but no folder of training images. Expected a folder 'train' "
            f"next to it. Fix: add a folder 'train', or use folder:{parts[test]}"
        )
    found, complaints = _images(tree, [(part, parts[part]) for part in ("train", test) if part in parts], reading)
    data = dataclasses.replace(_assemble(name, folder, found, complaints, reading), test_name=test)
    if test == "test" or "test" not in parts:
        return data
    held_out = functools.partial(_held_out, name, tree, parts["test"], reading, data.classes or ())
    return dataclasses.replace(data, held_out=held_out)


def _held_out(name: str, tree: "_Tree", folder: Path, reading: Reading, classes: Sequence[str]) -> ImageFiles:
    """Read a part that training does not use; its labels are matched by name."""
    reading = dataclasses.replace(reading, names=classes)
    found, complaints = _images(tree, [("test", folder)], reading)
    test = _assemble(name, folder, found, complaints, reading).test
    assert isinstance(test, ImageFiles)
    return test


@dataclasses.dataclass(frozen=True)
class _Tree:
    """A folder, by the user's path and by its path without links. Nothing outside of the folder is accessed."""

    top: Path
    root: Path

    def locate(self, path: Path) -> Path:
        return locate(self.root, path.relative_to(self.top))

    def problem(self, path: Path) -> str:
        """Return what is wrong with a link; an empty string if nothing is."""
        try:
            self.locate(path)
        except DataError as error:
            return str(error)
        return ""

    def is_folder(self, entry: os.DirEntry[str]) -> bool:
        """Return whether an entry is a folder, or a link to a folder inside the tree."""
        path = Path(entry.path)
        linked = entry.is_symlink() and not self.problem(path)
        return entry.is_dir(follow_symlinks=False) or (linked and path.is_dir())


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """List a folder, without files of operating systems, sorted by name."""
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not _is_leftover(entry.name)), key=lambda entry: entry.name)


def _is_leftover(name: str) -> bool:
    lower = name.lower()
    return lower.startswith(".") or lower in _LEFTOVERS or lower.endswith(_LEFTOVER_ENDS)


def _parts(tree: _Tree, names: Sequence[str] | None) -> dict[str, Path]:
    """Return the folder of each part; empty if the folders are classes."""
    entries = _entries(tree.top)
    folders = [
        entry.name
        for entry in entries
        if tree.is_folder(entry) or (_part(entry.name) and tree.problem(Path(entry.path)))
    ]
    part_of = {folder: part for folder in folders if (part := _part(folder))} or _parts_in_words(tree, folders)
    parts: dict[str, list[str]] = {}
    for folder, part in part_of.items():
        parts.setdefault(part, []).append(folder)
    if not parts or (names is not None and {*map(composed, folders)} <= {*map(composed, names)}):
        return {}
    others = [folder for folder in folders if folder not in part_of and _has_images(tree, tree.top / folder)]
    if others:
        its_parts = [folder for each in parts.values() for folder in each]
        raise DataError(
            f"{tree.top}: {listed(its_parts)} are parts of a dataset, {listed(others)} are not. Expected folders of "
            f"parts alone (train, val, test), or of classes alone. Fix: move {listed(others)} elsewhere; or, if "
            f"{its_parts[0]!r} is a class, rename it or move all classes into {tree.top / 'train'}"
        )
    for part, claims in parts.items():
        if len(claims) > 1:
            raise DataError(
                f"{tree.top}: {' and '.join(map(repr, claims))} are both the part {part!r}. Expected one folder for "
                "each part. Fix: join or rename them"
            )
    return {part: tree.top / claims[0] for part, claims in parts.items()}


def _part(folder: str) -> str | None:
    word = re.sub("[ _-]*(dataset|data|images|imgs|set|split)$", "", folder.lower())
    return next((part for part, words in _PART_NAMES.items() if word in words), None)


def _parts_in_words(tree: _Tree, folders: Iterable[str]) -> dict[str, str]:
    """Return parts by words in folder names, such as ``seg_train`` and ``val2017``; empty if these may be classes.

    The folders are parts if none contains images directly, and one is for training and another is not.
    """
    part_of = {}
    for folder in folders:
        part = next(filter(None, map(_part, re.findall("[a-z]+", folder.lower()))), None)
        if part and not any(Path(entry.name).suffix.lower() in FORMATS for entry in _entries(tree.top / folder)):
            part_of[folder] = part
    parts = {*part_of.values()}
    return part_of if "train" in parts and len(parts) > 1 else {}


def _refuse_parts_in_classes(folder: Path, images: Iterable[_Found]) -> None:
    """Raise DataError for images in ``cat/train`` and ``cat/test``, because both would be used for training."""
    inside: dict[str, dict[str, str]] = {}
    for image in images:
        label, *below = Path(image.where).relative_to(folder).parts[:-1]
        part = _part(below[0]) if below else None
        if part:
            inside.setdefault(label, {})[part] = below[0]
    for label, parts in inside.items():
        if "train" in parts and len(parts) > 1:
            raise DataError(
                f"{folder}: the class {label!r} has the parts {listed(parts.values())}. Expected classes in parts. "
                f"Fix: move {Path(label, parts['train'])} to {Path(parts['train'], label)}, and so on"
            )


def _images(
    tree: _Tree, parts: Iterable[tuple[str | None, Path]], reading: Reading
) -> tuple[list[_Found], list[Complaint]]:
    found, complaints = [], []
    places: dict[Path, Path] = {}
    for part, folder in parts:
        for path, label, problem in _class_files(tree, folder, places, reading.names is not None):
            try:
                if problem:
                    raise DataError(problem)
                found.append(_Found(str(path), tree.locate(path), composed(label), part))
            except DataError as error:
                complaints.append(Complaint(str(path), str(error)))
    return found, complaints


def _class_files(
    tree: _Tree, folder: Path, places: dict[Path, Path], may_lack: bool
) -> Iterator[tuple[Path, str, str]]:
    """Yield path, class and problem of each file in the class folders; the problem is empty if there is none.

    Args:
        tree: the tree of the folder.
        folder: contains a folder for each class.
        places: class folders that were read before, by their path without links; extended by the ones read here.
        may_lack: whether a class folder may be empty.
    """
    problem = tree.problem(folder)
    if problem:
        yield folder, "", problem
        return
    for entry in _entries(folder):
        path = Path(entry.path)
        if tree.is_folder(entry):
            same = places.setdefault(tree.locate(path), path)
            if same != path:
                yield path, "", f"the same folder as {same}"
                continue
            files = list(_files_below(tree, path, set()))
            yield from ((file, entry.name, problem) for file, problem in files)
            if not files and not may_lack:
                yield path, entry.name, "no images in it"
        elif entry.is_symlink() and tree.problem(path):
            yield path, "", tree.problem(path)
        elif path.suffix.lower() in FORMATS:
            yield path, "", "expected a folder of images, got a file"


def _files_below(tree: _Tree, folder: Path, seen: set[Path]) -> Iterator[tuple[Path, str]]:
    """Yield the files below a folder, and the folders that cannot be read, each with its problem.

    Args:
        tree: the tree of the folder.
        folder: the folder to search.
        seen: folders that were searched before, without links.
    """
    place = tree.locate(folder)
    if place in seen:
        yield folder, "a link to a folder that was read before"
        return
    seen.add(place)
    try:
        entries = _entries(folder)
    except OSError as error:
        yield folder, f"cannot be read: {error.strerror}"
        return
    for entry in entries:
        if tree.is_folder(entry) and Path(entry.name).suffix.lower() not in FORMATS:
            yield from _files_below(tree, Path(entry.path), seen)
        else:
            yield Path(entry.path), ""


def _has_images(tree: _Tree, folder: Path) -> bool:
    return any(path.suffix.lower() in FORMATS for path, _ in _files_below(tree, folder, set()))


def list_images(folder: str | os.PathLike) -> list[Path]:
    """List the images below a folder by suffix, without files of operating systems.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.png", "a.JPG", "._b.png", "notes.txt"):
    ...         _ = Path(folder, name).write_bytes(b"")
    ...     [path.name for path in list_images(folder)]
    ['a.JPG', 'b.png']
    """
    top = Path(folder)
    files = _files_below(_Tree(top, top.resolve()), top, set())
    return sorted(path for path, problem in files if not problem and path.suffix.lower() in FORMATS)


def image_table(name: str, table: Path, reading: Reading) -> Dataset:
    """Load the images of a CSV file; see :func:`flaxnets.data.load`.

    Args:
        name: name of the dataset.
        table: CSV file with a path and a label in each line. Paths are relative to the folder of the file, or absolute
            paths in it.
        reading: options.

    Raises:
        DataError: for lines and files that cannot be used, or fewer than two classes.
        FileNotFoundError: if the file does not exist.
    """
    complaints: list[Complaint] = []
    found: dict[Path, _Found] = {}
    for number, path, label in read_table(table, reading.csv_columns, complaints):
        where = f"{table}:{number}: {printable(path)}"
        try:
            image = _locate_beside(table, path)
            if image in found:
                raise DataError(f"the same image as on line {found[image].number}")
            found[image] = _Found(where, image, composed(label), number=number)
        except DataError as error:
            complaints.append(Complaint(where, str(error)))
    chosen = _listed(found, table, complaints)
    return _assemble(name, table, chosen, complaints, reading)


def _locate_beside(table: Path, name: str) -> Path:
    """Resolve a path of a table; it may be absolute, but must be in the folder of the table."""
    try:
        return locate(table.parent.resolve(), name, alias=Path(os.path.abspath(table.parent)))
    except DataError as error:
        if str(error) == "no such file" and Path(name).suffix.lower() not in FORMATS:
            raise DataError(f"no such file; expected a path with a suffix, such as {name}.jpg") from error
        if str(error) == "no such file" and "\\" in name:
            raise DataError("no such file; expected / between folders") from error
        raise


def _listed(found: dict[Path, _Found], table: Path, complaints: list[Complaint]) -> list[_Found]:
    """Return the images in the lists next to the table, each with its part; all images if there are no lists."""
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
        for number, line in text_lines(path, complaints):
            where = f"{path}:{number}: {printable(line.strip())}"
            try:
                image = _locate_beside(table, line.strip())
                if image not in found:
                    raise DataError(f"{table.name} has no good line for it")
                if image in places:
                    raise DataError(f"the same image as on line {places[image]}")
                places[image] = f"{number} of {path.name}"
                found[image] = dataclasses.replace(found[image], part=part)
            except DataError as error:
                complaints.append(Complaint(where, str(error)))
    return [found[image] for image in places]


def _assemble(
    name: str, source: Path, found: Sequence[_Found], complaints: Sequence[Complaint], reading: Reading
) -> Dataset:
    names = reading.names
    if names is not None:
        # Before images are decoded, which needs more time.
        label_positions(source, sort_classes(each.label for each in found), names)
    good = _usable(name, found, complaints, reading)
    classes = sort_classes(each.label for each in good)
    if names is None and len(classes) < 2:
        raise DataError(f"{source}: expected images of at least two classes, got {[*classes] or 'none'}")
    if not good:
        raise DataError(f"{source}: expected images, got none")
    indices = label_positions(source, classes, classes if names is None else names)
    labels = np.array([indices[each.label] for each in good], np.int32)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(good))  # so that the first examples are of all classes
    if good[0].part is None:
        single = [classes[label] for label in np.flatnonzero(np.bincount(labels) == 1)] if names is None else []
        if single:
            raise DataError(f"{source}: one image of {listed(single)}, expected at least two, one of them for testing")
        in_test = _test_share(labels[order])
    else:
        in_test = np.array([good[i].part != "train" for i in order])
    if not in_test.any():
        raise DataError(f"{source}: no test images")
    if names is None:
        _check_classes(source, classes, labels[order][~in_test], labels[order][in_test])
    train, test = (
        ImageFiles(tuple(good[i].path for i in part), labels[part]) for part in (order[~in_test], order[in_test])
    )
    classes = classes if names is None else tuple(names)
    return Dataset(name, "classification", train, test, {"num_classes": len(classes)}, classes=classes)


def _usable(name: str, found: Sequence[_Found], complaints: Sequence[Complaint], reading: Reading) -> list[_Found]:
    """Decode all images, report the ones that cannot be used, and return the others."""
    checks = check_images([each.path for each in found])
    checked = [*zip(found, checks, strict=True)]
    bad = [Complaint(each.where, check.problem) for each, check in checked if check.problem]
    report(name, [*complaints, *bad], reading.bad_files, reading.warn)
    warn_of_conversions([(each.where, check) for each, check in checked], reading.warn)
    return [each for each, check in checked if not check.problem]


def _test_share(labels: np.ndarray) -> np.ndarray:
    """Return which images are for testing: the first fifth of each class, at least one."""
    in_test = np.zeros(len(labels), bool)
    for members in (np.flatnonzero(labels == label) for label in np.unique(labels)):
        in_test[members[: max(len(members) // 5, 1)]] = True
    return in_test


def _check_classes(source: Path, classes: Sequence[str], train: np.ndarray, test: np.ndarray) -> None:
    absent = {
        part: [name for label, name in enumerate(classes) if label not in labels]
        for part, labels in (("training", train), ("test", test))
    }
    lacks = [f"no {part} images of {', '.join(map(repr, names))}" for part, names in absent.items() if names]
    if lacks:
        raise DataError(f"{source}: {' and '.join(lacks)}; expected both parts to have every class")
