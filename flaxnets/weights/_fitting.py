"""Weights for a module that differs in a part, such as the head for other classes."""

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from flaxnets import state
from flaxnets.weights._errors import WeightsError

_LISTED = 10  # names in a line


class Fitted(NamedTuple):
    """What :func:`load_fitting_weights` did with the arrays of a file.

    Attributes:
        loaded: the names of the arrays that the module took.
        misfits: for the names of arrays of another shape, the shape in the file and the module's.
        missing_keys: the names that the file lacks.
        unexpected_keys: the names that the module lacks.
        cast: for the names of arrays of another dtype, the dtype in the file.
        prefix: what the names in the file begin with, and the module's do not.
    """

    loaded: list[str]
    misfits: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    missing_keys: list[str]
    unexpected_keys: list[str]
    cast: dict[str, str]
    prefix: str = ""

    def lines(self) -> list[str]:
        """Returns what there is to say, in lines for a person.

        >>> print(*Fitted(["a"], {"b": ((3,), (2,))}, ["c"], [], {}).lines(), sep="\\n")
        1 of 3 arrays loaded
        left out, of another shape: b (3,) there and (2,) here
        missing there: c
        """
        total = len(self.loaded) + len(self.misfits) + len(self.missing_keys)
        shapes = [f"{name} {there} there and {here} here" for name, (there, here) in self.misfits.items()]
        dtypes = ", ".join(sorted({*self.cast.values()}))
        return [
            f"{len(self.loaded)} of {total} arrays loaded"
            + (f", without the prefix {self.prefix!r}" * bool(self.prefix)),
            *_line("left out, of another shape", shapes, "; "),
            *_line("missing there", self.missing_keys),
            *_line("unknown here", self.unexpected_keys),
            *([f"cast from {dtypes}: {len(self.cast)}"] if self.cast else []),
        ]


def _line(what: str, names: Sequence[str], separator: str = ", ") -> list[str]:
    more = [f"and {len(names) - _LISTED} more"] if len(names) > _LISTED else []
    return [f"{what}: {separator.join([*names[:_LISTED], *more])}"] if names else []


def load_fitting_weights(module: nnx.Module, path: str | os.PathLike) -> Fitted:
    """Load what fits of a weight file, by name and shape, and leave the other parameters and buffers as they are.

    Numbers of another dtype are cast to the module's. Where no name is the module's and all begin with the same
    words, such as ``module.``, the names count without these.

    Args:
        module: the module to fill, changed in place.
        path: the file: safetensors, or a state dict that ``torch.save`` wrote.

    Raises:
        WeightsError: for a file that is damaged or of another kind, or of which no parameter fits.
        OSError: for a file that cannot be read.

    >>> import tempfile, flaxnets
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     flaxnets.weights.save_weights(flaxnets.create_model("mlp"), f"{folder}/model.safetensors")
    ...     fitted = load_fitting_weights(flaxnets.create_model("mlp", num_classes=2), f"{folder}/model.safetensors")
    >>> fitted.loaded, [*fitted.misfits]
    (['1.weight', '1.bias'], ['3.weight', '3.bias'])
    """
    from flaxnets.weights import read_weights

    own = state.state_dict(module)
    weights, prefix = _without_prefix(read_weights(path), own)
    common = [name for name in own if name in weights and hasattr(weights[name], "shape")]
    shapes = {name: (tuple(weights[name].shape), tuple(own[name].shape)) for name in common}
    misfits = {name: pair for name, pair in shapes.items() if pair[0] != pair[1] and pair != ((1,), ())}
    loaded = [name for name in common if name not in misfits]
    parameters = {name for name, _ in state.named_parameters(module, remove_duplicate=False)}
    if not parameters & {*loaded}:
        raise WeightsError(f"{path}: no parameter fits. The file has {_few(weights)}; the module has {_few(own)}")
    for name in misfits:
        del weights[name]
    missing, unexpected = state.load_state_dict(module, weights, strict=False)
    dtypes = {name: str(weights[name].dtype).removeprefix("torch.") for name in loaded}
    cast = {
        name: dtype
        for name, dtype in dtypes.items()
        if dtype != str(own[name].dtype) and not np.issubdtype(own[name].dtype, np.integer)
    }
    return Fitted(loaded, misfits, [name for name in missing if name not in misfits], unexpected, cast, prefix)


def _few(arrays: Mapping[str, Any]) -> str:
    shown = [f"{name} {tuple(array.shape)}" for name, array in arrays.items() if hasattr(array, "shape")]
    return ", ".join([*shown[:3], *(["..."] if len(shown) > 3 else [])]) or "no arrays"


def _without_prefix(weights: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The arrays without the words that begin all of their names, if only so some are the module's; and these words."""
    prefix = ""
    while not any(name.removeprefix(prefix) in own for name in weights):
        words = {name.removeprefix(prefix).partition(".")[::2] for name in weights}
        if len({first for first, _ in words}) != 1 or not all(rest for _, rest in words):
            prefix = ""
            break
        prefix += f"{words.pop()[0]}."
    stripped: Any = OrderedDict((name.removeprefix(prefix), array) for name, array in weights.items())
    metadata = getattr(weights, "_metadata", None)
    if metadata is not None:
        stripped._metadata = {path.removeprefix(prefix): value for path, value in metadata.items()}
    return stripped, prefix
