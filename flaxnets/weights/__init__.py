"""Weight files with torch's names: safetensors with digests, and state dicts saved by ``torch.save``.

A damaged or malicious file raises :class:`WeightsError` before the module changes. Sizes in a file are checked against
the length of the file before memory is allocated, and no code in a file is executed.
"""

import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from flaxnets import state
from flaxnets._checkpoints import entries
from flaxnets._uninitialized import Uninitialized
from flaxnets.weights._errors import WeightsError as WeightsError
from flaxnets.weights._fitting import Fitted as Fitted
from flaxnets.weights._fitting import load_fitting_weights as load_fitting_weights
from flaxnets.weights._safetensors import digest as digest
from flaxnets.weights._safetensors import read_safetensors, to_bytes
from flaxnets.weights._torch import read_torch


def _aliases(module: nnx.Module) -> dict[str, str]:
    """Return the first name of a shared array for each of its other names."""
    first: dict[int, str] = {}
    named = [(name, first.setdefault(id(variable), name)) for name, variable in state.named_variables(module)]
    return {name: original for name, original in named if name != original}


def save_weights(module: nnx.Module, path: str | os.PathLike) -> None:
    """Save the state dict of ``module`` as a safetensors file that torch can load.

    The file is written completely or not at all. Counters are saved as int64, like torch's. A shared array is stored
    once; the metadata maps its other names to the first, in the format of ``safetensors.torch.save_model`` and
    ``load_model``. The metadata also contains the SHA-256 of each array and of the remaining content, which
    :func:`load_weights` checks.

    Raises:
        OSError: if the file cannot be written, e.g. because the disk is full. An existing file does not change.
        RuntimeError: for lazy layers that have not been called, and for values that are not arrays.

    >>> import tempfile, flaxnets
    >>> from safetensors.numpy import load_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(flaxnets.create_model("mlp"), f"{folder}/model.safetensors")
    ...     sorted(load_file(f"{folder}/model.safetensors"))
    ['1.bias', '1.weight', '3.bias', '3.weight']
    """
    stored = state.state_dict(module)
    shapeless = [name for name, array in stored.items() if isinstance(array, Uninitialized)]
    if shapeless:
        raise RuntimeError(f"cannot save {', '.join(map(repr, shapeless))}: uninitialized. Fix: call the module first")
    aliases = {name: original for name, original in _aliases(module).items() if name in stored}
    for name, value in stored.items():
        if not isinstance(value, (jax.Array, np.ndarray)):
            raise RuntimeError(f"cannot save {name!r}: expected an array, got an object of type {type(value).__name__}")
    arrays = {name: np.asarray(array, order="C") for name, array in stored.items() if name not in aliases}
    arrays = {name: a.astype(np.int64) if a.dtype == np.int32 else a for name, a in arrays.items()}
    content = to_bytes(arrays, {"format": "pt", **aliases})
    partial = Path(f"{path}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        message = f"weights not saved ({error.strerror}); a file that was there before is as it was"
        raise OSError(error.errno, message, str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


# Upper limit, in bytes, of a tensor that a file stores as fewer elements and expands.
_EXPANDED_LIMIT = 16 * 2**20


def _check_expanded(name: str, tensor: Any) -> None:
    if not hasattr(tensor, "untyped_storage") or tensor.is_meta:
        return
    if tensor.nbytes > max(tensor.untyped_storage().nbytes(), _EXPANDED_LIMIT):
        raise ValueError(f"{name!r} has more elements than are stored: {tuple(tensor.shape)}")


def _state_dict(checkpoint: Mapping[Any, Any], entry: str | None) -> Mapping[str, Any]:
    """Return the state dict at a dotted path of a checkpoint, or the only one, or the checkpoint itself."""
    state_dicts = {".".join(path): value for path, value in entries(checkpoint)}
    if entry is not None:
        if entry not in state_dicts:
            expected = (
                f"one of {', '.join(map(repr, state_dicts))}"
                if state_dicts
                else "no entry: it contains no other state dict"
            )
            raise ValueError(f"it has no state dict under {entry!r}. Expected {expected}")
        return state_dicts[entry]
    if len(state_dicts) > 1:
        names = ", ".join(f"{name!r} ({len(value)} keys)" for name, value in state_dicts.items())
        example = f"load_weights(module, path, entry={next(iter(state_dicts))!r})"
        raise ValueError(f"it has {len(state_dicts)} state dicts: {names}. Expected one. Fix: choose one: {example}")
    return next(iter(state_dicts.values()), checkpoint)


def read_weights(path: str | os.PathLike, entry: str | None = None) -> dict[str, Any]:
    """Read the state dict of a weight file, for example to rename keys before a module loads it.

    Supports the files of :func:`load_weights`.

    Args:
        path: the file.
        entry: path of the state dict in a torch checkpoint, e.g. ``"state_dict"`` or ``"ema.module"``; required only
            if the checkpoint has several.

    Returns:
        NumPy arrays or torch tensors by name.

    Raises:
        WeightsError: for a file that is damaged, has another format, or has several state dicts.

    >>> import tempfile, flaxnets
    >>> from flaxnets.nn.utils import consume_prefix_in_state_dict_if_present
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(flaxnets.nn.DataParallel(flaxnets.create_model("mlp")), f"{folder}/model.safetensors")
    ...     weights = read_weights(f"{folder}/model.safetensors")
    >>> consume_prefix_in_state_dict_if_present(weights, "module.")
    >>> flaxnets.create_model("mlp").load_state_dict(weights)
    IncompatibleKeys(missing_keys=[], unexpected_keys=[])
    """
    with open(path, "rb") as file:
        is_archive = file.read(4) == b"PK\3\4"
    checkpoint = read_torch(path) if is_archive else read_safetensors(path)
    try:
        state_dict = _state_dict(checkpoint, entry)
        for name, tensor in state_dict.items():
            _check_expanded(name, tensor)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
    weights: Any = OrderedDict(state_dict)
    metadata = getattr(state_dict, "_metadata", None)
    if metadata is not None:
        weights._metadata = metadata
    return weights


def load_weights(
    module: nnx.Module,
    path: str | os.PathLike,
    strict: bool = True,
    *,
    cast: bool = False,
    entry: str | None = None,
) -> state.IncompatibleKeys:
    """Load a weight file into ``module``: safetensors, or a state dict saved by ``torch.save``.

    The format is detected from the content, not from the name. A safetensors file of :func:`save_weights` is checked
    against its digests, and a torch file against its checksums. Safetensors files of other programs have no digests:
    loading one logs a warning to ``flaxnets.weights``. Torch files require torch and are read by its weights-only
    loader. They may be checkpoints that contain the state dict under any name, such as ``"state_dict"`` or
    ``"model"``. If a checkpoint has several state dicts, e.g. also averaged weights, ``entry`` chooses one. Optimizer
    states are ignored.

    Args:
        module: the module, changed in place; it does not change if an error is raised.
        path: the file.
        strict: whether missing and unexpected keys are errors.
        cast: whether to cast arrays of another dtype to the module's; otherwise they are an error. Integers that fit
            are always cast, because torch's counters are int64 and JAX's int32.
        entry: path of the state dict in a torch checkpoint; see :func:`read_weights`.

    Returns:
        The missing and the unexpected keys; both are empty if ``strict``.

    Raises:
        WeightsError: for a file that is damaged, has another format, or has several state dicts.
        RuntimeError: for a file that does not fit ``module``. One message lists all keys, shapes and dtypes, and the
            code to load a file whose names have another prefix.

    >>> import tempfile, flaxnets
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(flaxnets.create_model("mlp"), f"{folder}/model.safetensors")
    ...     load_weights(flaxnets.create_model("mlp"), f"{folder}/model.safetensors")
    IncompatibleKeys(missing_keys=[], unexpected_keys=[])
    """
    weights = read_weights(path, entry)
    try:
        return state.load_state_dict(module, weights, strict, cast=cast)
    except RuntimeError as error:
        read = f"\n  state_dict = flaxnets.weights.read_weights({str(path)!r}) reads the names and arrays of the file"
        raise RuntimeError(f"{path}: {error}{read if 'Fix:' in str(error) else ''}") from error
