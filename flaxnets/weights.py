"""Weight files under torch's names."""

import hashlib
import os
from pathlib import Path

import numpy as np
from flax import nnx
from safetensors import safe_open
from safetensors.numpy import save_file

from flaxnets import state


def _aliases(module: nnx.Module) -> dict[str, str]:
    """For each further name of a shared array, its first one."""
    first: dict[int, str] = {}
    named = [(name, first.setdefault(id(variable), name)) for name, variable in state.named_variables(module)]
    return {name: kept for name, kept in named if name != kept}


def save_weights(module: nnx.Module, path: str | os.PathLike) -> None:
    """Writes the state dict of ``module`` as a safetensors file, which torch can load as it is.

    The file appears as a whole or not at all. Counters are written as int64, torch's integers. An array of several
    names is stored once; the metadata says for each further name which one was kept, in the form that
    ``safetensors.torch.save_model`` writes and ``load_model`` reads.

    >>> import tempfile, flaxnets
    >>> from safetensors.numpy import load_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(flaxnets.create_model("mlp"), f"{folder}/model.safetensors")
    ...     sorted(load_file(f"{folder}/model.safetensors"))
    ['1.bias', '1.weight', '3.bias', '3.weight']
    """
    stored = state.state_dict(module)
    aliases = {name: kept for name, kept in _aliases(module).items() if name in stored}
    arrays = {name: np.asarray(array) for name, array in stored.items() if name not in aliases}
    arrays = {name: a.astype(np.int64) if a.dtype == np.int32 else a for name, a in arrays.items()}
    partial = Path(f"{path}.partial")
    try:
        save_file(arrays, partial, metadata={"format": "pt", **aliases})
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_weights(module: nnx.Module, path: str | os.PathLike, strict: bool = True) -> state.IncompatibleKeys:
    """Loads a safetensors file into ``module``; arguments and errors are those of ``load_state_dict``.

    >>> import tempfile, flaxnets
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(flaxnets.create_model("mlp"), f"{folder}/model.safetensors")
    ...     load_weights(flaxnets.create_model("mlp"), f"{folder}/model.safetensors")
    IncompatibleKeys(missing_keys=[], unexpected_keys=[])
    """
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        metadata = file.metadata() or {}
    arrays |= {name: arrays[kept] for name, kept in metadata.items() if kept in arrays and name not in arrays}
    return state.load_state_dict(module, arrays, strict)


def digest(array: np.ndarray) -> str:
    """Returns the SHA-256 of an array's dtype, shape and elements, in hexadecimal digits.

    >>> digest(np.zeros(3, np.float32)) == digest(np.zeros(3, np.float32)), digest(np.zeros(3)) == digest(np.zeros(4))
    (True, False)
    """
    found = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
    found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.hexdigest()
