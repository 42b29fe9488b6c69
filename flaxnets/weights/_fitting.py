"""Weights for a module that differs in some layers, such as a head with other classes."""

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from flaxnets import state
from flaxnets.weights._errors import WeightsError

_LISTED = 10  # maximum number of names in a line


class Fitted(NamedTuple):
    """Result of :func:`load_fitting_weights`.

    Attributes:
        loaded: names of the loaded arrays.
        misfits: by the name of each skipped array, its shape in the file and in the module.
        missing_keys: names that the file lacks.
        unexpected_keys: names that the module lacks.
        cast: by the name of each cast array, its dtype in the file.
        prefix: prefix that was removed from the names in the file.
    """

    loaded: list[str]
    misfits: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    missing_keys: list[str]
    unexpected_keys: list[str]
    cast: dict[str, str]
    prefix: str = ""

    def lines(self) -> list[str]:
        """Return the result as lines of text.

        >>> print(*Fitted(["a"], {"b": ((3,), (2,))}, ["c"], [], {}).lines(), sep="\\n")
        1 of 3 arrays loaded
        skipped because of the shape: b (3,) in the file and (2,) in the module
        missing in the file: c
        """
        total = len(self.loaded) + len(self.misfits) + len(self.missing_keys)
        shapes = [
            f"{name} {file} in the file and {module} in the module" for name, (file, module) in self.misfits.items()
        ]
        dtypes = ", ".join(sorted({*self.cast.values()}))
        return [
            f"{len(self.loaded)} of {total} arrays loaded"
            + (f", without the prefix {self.prefix!r}" * bool(self.prefix)),
            *_line("skipped because of the shape", shapes, "; "),
            *_line("missing in the file", self.missing_keys),
            *_line("not in the module", self.unexpected_keys),
            *([f"cast from {dtypes}: {len(self.cast)}"] if self.cast else []),
        ]


def _line(what: str, names: Sequence[str], separator: str = ", ") -> list[str]:
    more = [f"and {len(names) - _LISTED} more"] if len(names) > _LISTED else []
    return [f"{what}: {separator.join([*names[:_LISTED], *more])}"] if names else []


def load_fitting_weights(module: nnx.Module, path: str | os.PathLike) -> Fitted:
    """Load the arrays of a weight file whose name and shape fit; other parameters and buffers do not change.

    Arrays of another dtype are cast to the module's. If no name is in the module and all names have a common prefix,
    such as ``module.``, the prefix is removed.

    Args:
        module: the module, changed in place.
        path: the file: safetensors, or a state dict saved by ``torch.save``.

    Raises:
        WeightsError: for a file that is damaged, has another format, or has no parameter that fits.
        OSError: for a file that cannot be read.

    >>> import tempfile, flaxnets
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     flaxnets.weights.save_weights(flaxnets.create_model("mlp"), f"{folder}/model.safetensors")
    ...     fitted = load_fitting_weights(flaxnets.create_model("mlp", num_classes=2), f"{folder}/model.safetensors")
    >>> fitted.loaded, [*fitted.misfits]
    (['1.weight', '1.bias'], ['3.weight', '3.bias'])
    """
    from flaxnets.weights import read_weights

    arrays = state.state_dict(module)
    weights, prefix = _without_prefix(read_weights(path), arrays)
    common = [name for name in arrays if name in weights and hasattr(weights[name], "shape")]
    shapes = {name: (tuple(weights[name].shape), tuple(arrays[name].shape)) for name in common}
    misfits = {name: pair for name, pair in shapes.items() if pair[0] != pair[1] and pair != ((1,), ())}
    loaded = [name for name in common if name not in misfits]
    parameters = {name for name, _ in state.named_parameters(module, remove_duplicate=False)}
    if not parameters & {*loaded}:
        raise WeightsError(f"{path}: no parameter fits. The file has {_few(weights)}; the module has {_few(arrays)}")
    for name in misfits:
        del weights[name]
    missing, unexpected = state.load_state_dict(module, weights, strict=False)
    dtypes = {name: str(weights[name].dtype).removeprefix("torch.") for name in loaded}
    cast = {
        name: dtype
        for name, dtype in dtypes.items()
        if dtype != str(arrays[name].dtype) and not np.issubdtype(arrays[name].dtype, np.integer)
    }
    return Fitted(loaded, misfits, [name for name in missing if name not in misfits], unexpected, cast, prefix)


def _few(arrays: Mapping[str, Any]) -> str:
    shown = [f"{name} {tuple(array.shape)}" for name, array in arrays.items() if hasattr(array, "shape")]
    return ", ".join([*shown[:3], *(["..."] if len(shown) > 3 else [])]) or "no arrays"


def _without_prefix(weights: Mapping[str, Any], expected: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Remove the common prefix of all names, unless a name is expected with it; return the arrays and the prefix."""
    prefix = ""
    while not any(name.removeprefix(prefix) in expected for name in weights):
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
