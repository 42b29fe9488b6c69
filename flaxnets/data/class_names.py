"""Names of classes: their order, and how the labels of one dataset become those of another."""

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
    """Returns a name with composed letters: file systems of macOS and others write the same letter in two ways.

    >>> composed("Ku\\u0308he") == "K\\u00fche"
    True
    """
    return unicodedata.normalize("NFC", name)


def sort_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Returns names in the order of their labels: as numbers if all of them are numbers, else as text.

    >>> sort_classes(["10", "9", "1"]), sort_classes(["10", "9", "cat"])
    (('1', '9', '10'), ('10', '9', 'cat'))
    """
    names = sorted({*names})
    if all(map(_NUMBER.fullmatch, names)):
        names.sort(key=decimal.Decimal)
    return tuple(names)


def label_positions(source: object, names: Iterable[str], known: Sequence[str]) -> Mapping[str, int]:
    """Returns the position of each name among the names that a network knows.

    Args:
        source: the dataset, for the error.
        names: those of the dataset.
        known: those of the network, in the order of its outputs.

    Raises:
        DataError: for names that the network does not know; all of them are in the message.

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
    """Returns a dataset whose labels are positions among ``names``, matched by the names of its classes.

    Args:
        data: a dataset for classification, with names.
        names: those that a network knows, in the order of its outputs.

    Raises:
        DataError: for classes that are not among them.

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
