"""Files of ``torch.save``: a zip archive of storages and a pickle that describes the tensors.

Only torch's weights-only loader reads the pickle. Before that, this module checks the checksums of the archive, which
torch ignores, and its sizes. It also checks that the pickle names only the parts of a state dict, because the loader
accepts further names, and some of them can allocate any amount of memory.
"""

import io
import os
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

from flaxnets.weights._errors import WeightsError

_PICKLE_LIMIT = 4 * 2**20

_KINDS = "Double Float Half BFloat16 Long Int Short Char Byte Bool ComplexFloat ComplexDouble"
_DTYPES = "float64 float32 float16 bfloat16 complex32 uint16 uint32 uint64"
_FLOAT8 = "e4m3fn e4m3fnuz e5m2 e5m2fnuz e8m0fnu"
_NAMES = {f"torch {kind}Storage" for kind in _KINDS.split()} | {"torch.storage UntypedStorage"}
_NAMES |= {f"torch {dtype}" for dtype in _DTYPES.split()} | {f"torch float8_{kind}" for kind in _FLOAT8.split()}
_NAMES |= {"collections OrderedDict", "torch Tensor", "torch._tensor _rebuild_from_type_v2"}
_PARTS = "tensor_v2 tensor_v3 parameter parameter_with_state meta_tensor_no_storage"
_NAMES |= {f"torch._utils _rebuild_{part}" for part in _PARTS.split()}

# Errors of torch's loader for a pickle with correct checksums that is malicious or from another program.
_REFUSALS = (
    pickle.UnpicklingError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError, AssertionError,
    OverflowError, struct.error,
)  # fmt: skip


def _check_archive(path: str | os.PathLike) -> None:
    """Raise ValueError for an archive that is damaged or would need more memory than the file has bytes."""
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
    named = {str(argument) for opcode, argument, _ in pickletools.genops(content) if opcode.name == "GLOBAL"}
    if named - _NAMES:
        raise ValueError(_describe_foreign(content, named - _NAMES))


class _Inert:
    """Replacement for every object of a pickle whose structure is inspected: stores names and does nothing."""

    name = ""
    names: set[str]

    def __new__(cls, *arguments: Any) -> "_Inert":
        self = super().__new__(cls)
        self.names = {cls.name}.union(*map(_names, arguments)) - _NAMES
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Do nothing."""


def _names(argument: Any) -> set[str]:
    if isinstance(argument, tuple):
        return set().union(*map(_names, argument))
    if isinstance(argument, type):
        return {argument.name} if issubclass(argument, _Inert) else set()
    return argument.names if isinstance(argument, _Inert) else set()


class _Structure(pickle.Unpickler):
    """Unpickler that reads the structure of a pickle without importing or running anything that it names."""

    def find_class(self, module: str, name: str) -> Any:
        is_dict = (module, name) == ("collections", "OrderedDict")
        return OrderedDict if is_dict else type("_Inert", (_Inert,), {"name": f"{module} {name}"})

    def persistent_load(self, pid: Any) -> None:
        return None


def _foreign(path: str, value: Any) -> Iterator[tuple[str, set[str]]]:
    """Yield the path of each object that a state dict cannot contain, and the names of its constructors."""
    if isinstance(value, _Inert) and value.names:
        yield path, value.names
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _foreign(f"{path}[{key!r}]", entry)


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(name.replace(" ", ".") for name in names))


def _describe_foreign(content: bytes, names: set[str]) -> str:
    try:
        objects = list(_foreign("", _Structure(io.BytesIO(content)).load()))
    except Exception:  # if the pickle cannot be read, the message has its names only
        objects = []
    places = "; ".join(f"{path} is made by {_listed(foreign)}" for path, foreign in objects)
    return (
        f"it names {_listed(names)}, and no state dict does{f' ({places})' if places else ''}. Fix: in torch, save the "
        "state dict alone, with strided tensors: torch.save(module.state_dict(), ...)"
    )


def read_torch(path: str | os.PathLike) -> Mapping[Any, Any]:
    """Return the mapping in a file of ``torch.save``; raise WeightsError."""
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
    return loaded
