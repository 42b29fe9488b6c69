"""A row of the table of models."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch


@dataclasses.dataclass(frozen=True)
class Model:
    """A model and the arguments of a call.

    Attributes:
        name: of the row.
        build: makes the model.
        inputs: makes the positional arguments.
        kwargs: makes the keyword arguments.
    """

    name: str
    build: Callable[[], torch.nn.Module]
    inputs: Callable[[], tuple[Any, ...]]
    kwargs: Callable[[], dict[str, Any]] = dict

    def __str__(self) -> str:
        return self.name


def images(n: int = 2, c: int = 3, size: int = 16) -> Callable[[], tuple[Any, ...]]:
    return lambda: (torch.randn(n, c, size, size),)


def tokens(n: int = 2, length: int = 7, vocabulary: int = 11) -> Callable[[], tuple[Any, ...]]:
    return lambda: (torch.randint(0, vocabulary, (n, length)),)
