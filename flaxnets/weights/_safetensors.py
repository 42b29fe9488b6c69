"""Safetensors files: a JSON header followed by arrays. Files are written with digests and validated when read.

See https://huggingface.co/docs/safetensors for the format. The library does not read the files: this module validates
the whole header before it allocates memory, and it uses exactly the bytes that it has checked.
"""

import hashlib
import json
import logging
import math
import os
import pickle
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from safetensors.numpy import save

from flaxnets.weights._errors import WeightsError

_LOG = logging.getLogger("flaxnets.weights")

# Enough for 20,000 arrays with digests. A parsed malicious header needs up to thirty times its length.
_HEADER_LIMIT = 4 * 2**20

_DTYPES = {"BOOL": "bool", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "C64": "complex64"}
_DTYPES |= {"F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz"}
_DTYPES |= {f"F{bits}": f"float{bits}" for bits in (16, 32, 64)}
_DTYPES |= {f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)}
_DTYPES |= {f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)}

# Key of a digest in the metadata: with ".name" for one array, alone for all digests, names and other metadata.
_SHA256 = "flaxnets.sha256"


def digest(array: np.ndarray) -> str:
    """Return the SHA-256, as hexadecimal digits, of an array's dtype, shape and values in C order.

    >>> digest(np.zeros(2, np.float32))[:12], digest(np.zeros((2, 1), np.float32))[:12]
    ('24e76ceeb262', 'ae1f5b047ff7')
    """
    sha = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
    sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def _digests(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> dict[str, str]:
    each = {f"{_SHA256}.{name}": digest(array) for name, array in arrays.items()}
    whole = json.dumps([each, dict(metadata)], sort_keys=True)
    return each | {_SHA256: hashlib.sha256(whole.encode()).hexdigest()}


def to_bytes(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Return the content of a safetensors file with digests; all arrays are in C order."""
    content = save(dict(arrays), {**metadata, **_digests(arrays, metadata)})
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    # The library writes metadata in random order, but equal weights should make equal files.
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, memoryview(content)[start:]])


class _Entry(NamedTuple):
    """Position of an array, in bytes after the header."""

    begin: int
    end: int
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise ValueError("a name occurs twice in the header")
    return unique


def _check_dtypes(header: dict[str, Any]) -> None:
    """Raise ValueError with the names of all arrays whose dtype neither NumPy nor JAX has."""
    for name, value in header.items():
        if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"{name!r} should have a dtype, a shape and data_offsets, and has {value!r:.80}")
    dtypes = {name: value["dtype"] for name, value in header.items()}
    unknown = [
        f"{name!r} has the dtype {dtype!r:.80}"
        for name, dtype in dtypes.items()
        if not isinstance(dtype, str) or dtype not in _DTYPES
    ]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}; expected one of {', '.join(sorted(_DTYPES))}")


def _entry(name: str, value: dict[str, Any]) -> _Entry:
    """Return the validated header entry of an array."""
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    for what, numbers in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
            raise ValueError(f"{name!r} has the {what} {numbers!r:.80}; expected natural numbers")
    if len(shape) > 32 or len(offsets) != 2:
        raise ValueError(f"{name!r} has {len(shape)} dimensions and {len(offsets)} offsets; expected up to 32, and 2")
    entry = _Entry(offsets[0], offsets[1], name, np.dtype(_DTYPES[dtype]), tuple(shape))
    if entry.end - entry.begin != math.prod(shape) * entry.dtype.itemsize:
        raise ValueError(f"{name!r} is {entry.dtype}{shape}, and has {entry.end - entry.begin} bytes")
    return entry


def _read_header(file: BinaryIO, size: int) -> tuple[list[_Entry], dict[str, str]]:
    """Return the arrays in file order, and the metadata; the arrays cover every byte after the header."""
    if size < 8:
        raise ValueError(f"it has {size} bytes, too few for a header")
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, _HEADER_LIMIT):
        if length & 0xFF == pickle.PROTO[0]:
            raise ValueError(
                "it is a pickle, as torch.save wrote before 1.6; torch.save(torch.load(...), ...) renews it"
            )
        raise ValueError(f"its header should have {length} bytes; the file has {size}, the limit is {_HEADER_LIMIT}")
    header = json.loads(file.read(length).decode(), object_pairs_hook=_unique)
    if not isinstance(header, dict):
        raise ValueError(f"its header is a {type(header).__name__}; expected an object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("its __metadata__ are not texts under names")
    _check_dtypes(header)
    entries = sorted(_entry(name, value) for name, value in header.items())
    end = 0
    for entry in entries:
        if entry.begin != end:
            raise ValueError(f"{entry.name!r} begins at byte {entry.begin} where the one before it ends at {end}")
        end = entry.end
    if 8 + length + end != size:
        raise ValueError(f"its arrays end at byte {8 + length + end}, the file has {size}")
    return entries, metadata


def _verify(path: str | os.PathLike, arrays: Mapping[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Check ``arrays`` against the digests in ``metadata``, and remove the digests from it."""
    stored = {name: metadata.pop(name) for name in list(metadata) if name.startswith(_SHA256)}
    if not stored:
        _LOG.warning("%s has no digests: damage to its numbers would not be noticed", path)
        return
    expected = _digests(arrays, metadata)
    wrong = sorted(name for name in stored | expected if stored.get(name) != expected.get(name))
    if wrong:
        names = ", ".join(repr(name.removeprefix(_SHA256 + ".")) for name in wrong if name != _SHA256)
        raise ValueError(f"the digests of {names or 'its metadata'} differ: it has changed since it was saved")


def read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Return the arrays of a safetensors file by name, shared ones under each name; raise WeightsError."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            entries, metadata = _read_header(file, size)
            content = file.read()
        arrays = {entry.name: np.ndarray(entry.shape, entry.dtype, content, entry.begin) for entry in entries}
        _verify(path, arrays, metadata)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not an intact safetensors file: {error}") from error
    shared = {name: first for name, first in metadata.items() if first in arrays and name not in arrays}
    return arrays | {name: arrays[first] for name, first in shared.items()}
