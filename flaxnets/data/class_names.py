"""Class names: their order, and conversion of labels between datasets."""

import dataclasses
import decimal
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from flaxnets._suggestions import suggest
from flaxnets.data.complaints import listed
from flaxnets.data.examples import Dataset, Part
from flaxnets.data.files import DataError

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def composed(name: str) -> str:
    """Return a name in Unicode normalization form C, because file systems differ in the form they store.

    >>> composed("Ku\\u0308he") == "K\\u00fche"
    True
    """
    return unicodedata.normalize("NFC", name)


def sort_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Sort class names by label: numerically if all names are numbers, otherwise alphabetically.

    >>> sort_classes(["10", "9", "1"]), sort_classes(["10", "9", "cat"])
    (('1', '9', '10'), ('10', '9', 'cat'))
    """
    names = sorted({*names})
    if all(map(_NUMBER.fullmatch, names)):
        names.sort(key=decimal.Decimal)
    return tuple(names)


def label_positions(source: object, names: Iterable[str], known: Sequence[str]) -> Mapping[str, int]:
    """Return the index of each class name in the network's list of classes.

    Args:
        source: name of the dataset, for the error.
        names: classes of the dataset.
        known: classes of the network, in the order of its outputs.

    Raises:
        DataError: for classes that the network does not have; the message lists all of them.

    >>> label_positions("pets", ["owl", "cat"], ["cat", "dog", "owl"])
    {'owl': 2, 'cat': 0}
    """
    indices = {composed(name): index for index, name in enumerate(known)}
    unknown = [name for name in names if composed(name) not in indices]
    if unknown:
        hint = f"; {suggest(unknown[0], [*known])}" if len(unknown) == 1 and len(known) <= 10 else ""
        raise DataError(
            f"{source}: the network does not know the class{'es' * (len(unknown) > 1)} {', '.join(map(repr, unknown))}"
            f"{hint or f'; it knows {listed(known)}'}"
        )
    return {name: indices[composed(name)] for name in names}


def relabel(data: Dataset, names: Sequence[str]) -> Dataset:
    """Return a dataset whose labels are indices into ``names``, matched by class name.

    Args:
        data: a classification dataset with class names.
        names: classes of the network, in the order of its outputs.

    Raises:
        DataError: for classes that the network does not have.

    >>> from flaxnets.data import load
    >>> digits = load("digits")
    >>> bool((relabel(digits, "9876543210").test.targets == 9 - digits.test.targets).all())
    True
    """
    classes, held_out = data.classes or (), data.held_out
    if tuple(names) == classes:
        return data
    positions = np.array([*label_positions(data.name, classes, names).values()], np.int32)

    def change(part: Part) -> Part:
        return dataclasses.replace(part, targets=positions[part.targets])

    return dataclasses.replace(
        data,
        train=change(data.train),
        test=change(data.test),
        held_out=held_out and (lambda: change(held_out())),
        model_options={**data.model_options, "num_classes": len(names)},
        classes=tuple(names),
    )
