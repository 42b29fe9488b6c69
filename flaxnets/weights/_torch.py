"""Files of ``torch.save``: a zip archive of storages and of a pickle that says which tensors they are.

Torch's weights-only loader is all that reads the pickle. Before it does, the archive is held against its checksums
(torch does not look at them) and its sizes against the file, and the pickle may name nothing but the parts of a state
dict: the loader knows more names than these, and some of them take any amount of memory.
"""

import os
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

from flaxnets.weights._errors import WeightsError

_PICKLE_LIMIT = 4 * 2**20

_KINDS = "Double Float Half BFloat16 Long Int Short Char Byte Bool ComplexFloat ComplexDouble"
_NAMES = {f"torch {kind}Storage" for kind in _KINDS.split()}
_NAMES |= {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"}

# What a pickle with intact checksums can still drive torch's loader into: it was made to, or is of another program.
_REFUSALS = (
    pickle.UnpicklingError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError, AssertionError,
    OverflowError, struct.error,
)  # fmt: skip


def _check_archive(path: str | os.PathLike) -> None:
    """Raises ValueError for an archive that is damaged or that would take more memory than the file has bytes."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise ValueError(f"{entry.filename!r} is compressed or encrypted; torch does neither")
        claimed, size = sum(entry.file_size for entry in entries), os.path.getsize(path)
        if claimed > size:
            raise ValueError(f"its entries should have {claimed} bytes, the file has {size}")
        damaged = archive.testzip()
        if damaged:
            raise ValueError(f"{damaged!r} does not have the checksum it was saved with")
        pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
        if len(pickles) != 1 or pickles[0].file_size > _PICKLE_LIMIT:
            sizes = [entry.file_size for entry in pickles]
            raise ValueError(f"expected one data.pkl of up to {_PICKLE_LIMIT} bytes, found ones of {sizes}")
        content = archive.read(pickles[0])
    named = {argument for opcode, argument, _ in pickletools.genops(content) if opcode.name == "GLOBAL"}
    if named - _NAMES:
        foreign = ", ".join(sorted(str(name).replace(" ", ".") for name in named - _NAMES))
        raise ValueError(f"it names {foreign}, and no state dict does; torch.save(module.state_dict(), ...) writes one")


def _to_numpy(name: str, tensor: Any) -> Any:
    """A view of a tensor as numpy's; values of other kinds as they are, for ``load_state_dict`` to complain about."""
    if not hasattr(tensor, "untyped_storage"):
        return tensor
    if tensor.nbytes > tensor.untyped_storage().nbytes():
        raise ValueError(f"{name!r} has more elements than are stored")
    tensor = tensor.detach()
    if str(tensor.dtype) == "torch.bfloat16":
        import torch

        return tensor.view(torch.uint16).numpy().view("bfloat16")
    return tensor.numpy()


def read_torch(path: str | os.PathLike) -> dict[str, Any]:
    """Returns what a file of ``torch.save`` has under each name of a state dict; raises WeightsError."""
    try:
        import torch
    except ImportError as error:
        advice = "pip install 'flaxnets[parity]', or save the weights as safetensors"
        raise ImportError(f"{path}: a file of torch.save needs torch; {advice}") from error
    try:
        _check_archive(path)
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, struct.error) as error:
        raise WeightsError(f"{path}: not an intact file of torch.save: {error}") from error
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except _REFUSALS as error:
        raise WeightsError(f"{path}: torch's weights-only loader refuses it ({type(error).__name__})") from error
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"{path}: expected a state dict, got a {type(loaded).__name__}")
    held = [loaded[key] for key in ("state_dict", "model") if isinstance(loaded.get(key), Mapping)]
    try:
        return {name: _to_numpy(name, tensor) for name, tensor in (held[0] if held else loaded).items()}
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
