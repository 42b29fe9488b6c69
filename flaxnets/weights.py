"""Weight files under torch's names."""

import os
from pathlib import Path

import numpy as np
from flax import nnx
from safetensors.numpy import load_file, save_file

from flaxnets import state


def save_weights(module: nnx.Module, path: str | os.PathLike) -> None:
    """Writes the state dict of ``module`` as a safetensors file, which torch can load as it is.

    The file appears as a whole or not at all. Counters are written as int64, torch's integers.

    >>> import tempfile, flaxnets
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(flaxnets.create_model("mlp"), f"{folder}/model.safetensors")
    ...     sorted(load_file(f"{folder}/model.safetensors"))
    ['1.bias', '1.weight', '3.bias', '3.weight']
    """
    arrays = {name: np.asarray(array) for name, array in state.state_dict(module).items()}
    arrays = {name: a.astype(np.int64) if a.dtype == np.int32 else a for name, a in arrays.items()}
    partial = Path(f"{path}.partial")
    try:
        save_file(arrays, partial, metadata={"format": "pt"})
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
    return state.load_state_dict(module, load_file(path), strict)
