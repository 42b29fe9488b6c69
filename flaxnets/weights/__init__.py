"""Weight files under torch's names: safetensors with digests, and state dicts that ``torch.save`` wrote.

A file that is damaged or hostile is a :class:`WeightsError`, raised before anything of the module changes. Sizes that
a file claims are held against the file before memory is taken for them, and nothing in a file is ever executed.
"""

import os
from pathlib import Path

import numpy as np
from flax import nnx

from flaxnets import state
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
    shapeless = [name for name, array in stored.items() if isinstance(array, state.Uninitialized)]
    if shapeless:
        raise RuntimeError(f"cannot save {', '.join(map(repr, shapeless))}: uninitialized; call the module once before")
    aliases = {name: kept for name, kept in _aliases(module).items() if name in stored}
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


def load_weights(
    module: nnx.Module, path: str | os.PathLike, strict: bool = True, *, cast: bool = False
) -> state.IncompatibleKeys:
    """Loads a weight file into ``module``: safetensors, or a state dict that ``torch.save`` wrote.

    The content of the file decides which of the two it is, not its name. A safetensors file of :func:`save_weights` is
    held against its digests, one of torch against its checksums; a safetensors file without digests, as other programs
    write them, is loaded with a warning in the log ``flaxnets.weights``. Files of torch need torch, go through its
    weights-only loader and no other, and may have the state dict under ``"state_dict"`` or ``"model"``.

    Args:
        module: the module to fill, changed in place; not at all where something is wrong.
        path: the file.
        strict: whether missing and unexpected keys are errors.
        cast: whether numbers of another dtype are cast to the module's; otherwise they are an error. An integer that
            fits is always taken: torch's counters are int64, those of JAX int32.

    Returns:
        The missing and the unexpected keys; both empty where ``strict``.

    Raises:
        WeightsError: for a file that is damaged or of another kind.
        RuntimeError: for a file that does not fit ``module``: all keys, shapes and dtypes in one message.

    >>> import tempfile, flaxnets
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(flaxnets.create_model("mlp"), f"{folder}/model.safetensors")
    ...     load_weights(flaxnets.create_model("mlp"), f"{folder}/model.safetensors")
    IncompatibleKeys(missing_keys=[], unexpected_keys=[])
    """
    with open(path, "rb") as file:
        is_archive = file.read(4) == b"PK\3\4"
    arrays = read_torch(path) if is_archive else read_safetensors(path)
    try:
        return state.load_state_dict(module, arrays, strict, cast=cast)
    except RuntimeError as error:
        raise RuntimeError(f"{path}: {error}") from error
