"""Weight files under torch's names: safetensors with digests, and state dicts that ``torch.save`` wrote.

A file that is damaged or hostile is a :class:`WeightsError`, raised before anything of the module changes. Sizes that
a file claims are held against the file before memory is taken for them, and nothing in a file is ever executed.
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
    """For each further name of a shared array, its first one."""
    first: dict[int, str] = {}
    named = [(name, first.setdefault(id(variable), name)) for name, variable in state.named_variables(module)]
    return {name: kept for name, kept in named if name != kept}


def save_weights(module: nnx.Module, path: str | os.PathLike) -> None:
    """Writes the state dict of ``module`` as a safetensors file, which torch can load as it is.

    The file appears as a whole or not at all. Counters are written as int64, torch's integers. An array of several
    names is stored once; the metadata says for each further name which one was kept, in the form that
    ``safetensors.torch.save_model`` writes and ``load_model`` reads. The SHA-256 of each array and of everything else
    is in the metadata too, for :func:`load_weights`.

    Raises:
        OSError: if the file cannot be written, e.g. on a full disk; one that was there before is as it was.
        RuntimeError: for lazy layers that have not been called.

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
        raise RuntimeError(f"cannot save {', '.join(map(repr, shapeless))}: uninitialized; call the module once before")
    aliases = {name: kept for name, kept in _aliases(module).items() if name in stored}
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


# More than this is never made of a few bytes by repeating them, whatever shape a file claims.
_EXPANDED_LIMIT = 16 * 2**20


def _check_expanded(name: str, tensor: Any) -> None:
    if not hasattr(tensor, "untyped_storage") or tensor.is_meta:
        return
    if tensor.nbytes > max(tensor.untyped_storage().nbytes(), _EXPANDED_LIMIT):
        raise ValueError(f"{name!r} has more elements than are stored: {tuple(tensor.shape)}")


def _state_dict(checkpoint: Mapping[Any, Any], entry: str | None) -> Mapping[str, Any]:
    """The state dict of a checkpoint: an entry of this dotted path, the only one there is, or the checkpoint itself."""
    inner = {".".join(path): value for path, value in entries(checkpoint)}
    if entry is not None:
        if entry not in inner:
            expected = f"one of {', '.join(map(repr, inner))}" if inner else "no entry, as the file is no checkpoint"
            raise ValueError(f"it has no state dict under {entry!r}. Expected {expected}")
        return inner[entry]
    if len(inner) > 1:
        names = ", ".join(f"{name!r} ({len(value)} keys)" for name, value in inner.items())
        example = f"load_weights(module, path, entry={next(iter(inner))!r})"
        raise ValueError(f"it has {len(inner)} state dicts: {names}. Expected one. Fix: say which: {example}")
    return next(iter(inner.values()), checkpoint)


def read_weights(path: str | os.PathLike, entry: str | None = None) -> dict[str, Any]:
    """Read the state dict of a weight file, for names to be changed before a module loads it.

    :func:`load_weights` says which files can be read.

    Args:
        path: the file.
        entry: in a checkpoint of torch, where its state dict is, e.g. ``"state_dict"`` or ``"ema.module"``; needed
            only if there are several.

    Returns:
        Arrays of numpy, or tensors of torch, by name.

    Raises:
        WeightsError: for a file that is damaged or of another kind, or that has several state dicts.

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
    """Loads a weight file into ``module``: safetensors, or a state dict that ``torch.save`` wrote.

    The content of the file decides which of the two it is, not its name. A safetensors file of :func:`save_weights` is
    held against its digests, one of torch against its checksums; a safetensors file without digests, as other programs
    write them, is loaded with a warning in the log ``flaxnets.weights``. Files of torch need torch and go through its
    weights-only loader and no other. They may be checkpoints with the state dict under any name, such as
    ``"state_dict"`` or ``"model"``; where a checkpoint has several, e.g. also one of averaged weights, ``entry`` says
    which. The slots of optimizers are not taken for one.

    Args:
        module: the module to fill, changed in place; not at all where something is wrong.
        path: the file.
        strict: whether missing and unexpected keys are errors.
        cast: whether numbers of another dtype are cast to the module's; otherwise they are an error. An integer that
            fits is always taken: torch's counters are int64, those of JAX int32.
        entry: in a checkpoint of torch, where its state dict is, as of :func:`read_weights`.

    Returns:
        The missing and the unexpected keys; both empty where ``strict``.

    Raises:
        WeightsError: for a file that is damaged or of another kind, or that has several state dicts.
        RuntimeError: for a file that does not fit ``module``: all keys, shapes and dtypes in one message, and what to
            write where the names have another prefix.

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
