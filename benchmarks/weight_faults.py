"""Faults of weight files: damaged, truncated, malformed and hostile files, and full disks.

Each function plants one fault ``attempts`` times, in files of ``folder``, and counts the outcomes. See
:mod:`benchmarks.reliability`.
"""

import io
import itertools
import json
import math
import os
import pickle
import resource
import struct
import tarfile
import tracemalloc
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flax import nnx
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from flaxnets import nn
from flaxnets.weights import WeightsError, load_weights, save_weights


def small_model(number: int) -> nn.Sequential:
    """Create a module of two kilobytes with buffers, an integer and shared arrays."""
    shared = nn.Linear(16, 16, rngs=nnx.Rngs(number))
    return nn.Sequential(shared, nn.BatchNorm1d(16), shared)


def attempt(path: Path, target: nnx.Module, saved: dict[str, np.ndarray]) -> str:
    """Load ``path`` into ``target``, and return the outcome."""
    before = target.state_dict()
    try:
        load_weights(target, path)
    except (WeightsError, RuntimeError) as error:
        if not (isinstance(error, WeightsError) or "nothing was assigned" in str(error)) or str(path) not in str(error):
            raise
        if any(array is not before[name] for name, array in target.state_dict().items()):
            raise AssertionError("the module has changed in spite of an error") from error
        return "noticed"
    loaded = target.state_dict()
    target.load_state_dict(before)
    same = all(np.asarray(array).tobytes() == saved[name].tobytes() for name, array in loaded.items())
    return "harmless" if same else "silent"


def written(path: Path) -> dict[str, np.ndarray]:
    """Save a small model in the format of ``path``'s suffix, and return its arrays."""
    model = small_model(1)
    save_weights(model, path)
    if path.suffix == ".pt":
        torch.save({name: torch.tensor(np.asarray(array)) for name, array in model.state_dict().items()}, path)
    return {name: np.asarray(array) for name, array in model.state_dict().items()}


def flip_bits(name: str, attempts: int, folder: Path) -> Counter[str]:
    """Flip one bit per attempt, anywhere in a weight file."""
    path, target = folder / name, small_model(2)
    saved = written(path)
    content, outcomes = path.read_bytes(), Counter[str]()
    bits = np.random.default_rng(0).permutation(8 * len(content))
    for bit in itertools.islice(itertools.cycle(bits.tolist()), attempts):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        outcomes[attempt(path, target, saved)] += 1
    return outcomes


def truncate(name: str, attempts: int, folder: Path) -> Counter[str]:
    """Truncate a file to lengths between 0 bytes and its full length minus one."""
    path, target = folder / name, small_model(2)
    saved = written(path)
    content, outcomes = path.read_bytes(), Counter[str]()
    for length in np.linspace(0, len(content) - 1, attempts).astype(int).tolist():
        path.write_bytes(content[:length])
        outcomes[attempt(path, target, saved)] += 1
    return outcomes


_SIZES = {"BOOL": 1, "U8": 1, "F16": 2, "BF16": 2, "I32": 4, "F32": 4, "F64": 8, "I64": 8}
_NUMBERS = st.one_of(st.integers(-2, 12), st.sampled_from([2**31, 2**40, 2**62, 2**63, 2**64, 10**30, 1.5, True, None]))
_WRONG = {
    "dtype": st.sampled_from(["F4", "f32", "", 3, None, ["F32"], *_SIZES]),
    "shape": st.lists(_NUMBERS, max_size=4) | st.just([1] * 70) | st.none(),
    "data_offsets": st.lists(_NUMBERS, max_size=3),
    "extra": st.none(),
}
_CHANGES = st.one_of(*(st.tuples(st.integers(0, 3), st.just(field), value) for field, value in _WRONG.items()))
_ARRAYS = st.tuples(st.sampled_from(sorted(_SIZES)), st.lists(st.integers(0, 3), max_size=3))
_NAMES = st.sampled_from(["weight", "bias", "\u00e9\U0001f600", ""]) | st.text(max_size=3)
_METADATA = st.dictionaries(_NAMES, st.one_of(_NAMES, st.integers(), st.none()), max_size=2)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
_HOSTILE = [
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"[" + b"{}," * 10_000 + b"{}]",
    b'{"a":' + b"9" * 5_000 + b"}",
    b'{"__metadata__":{"a":"1","a":"2"}}',
    b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}',
    b'{"a":{"dtype":"F32","shape":[4611686018427387904,0,4611686018427387904],"data_offsets":[0,0]}}',
    b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}',
    b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    b"\xff\xfe{\x00}\x00",
]


def _framed(parts: tuple[bytes, int], lacking: int, surplus: int) -> bytes:
    header, size = parts
    return struct.pack("<Q", (len(header) + surplus) % 2**64) + header + bytes(max(0, size - lacking))


def _form(arrays: dict[str, tuple[str, list[int]]], changes: list[tuple[int, str, Any]], metadata: Any) -> tuple:
    """Return a safetensors header of contiguous arrays with the changes applied, and the size of the data."""
    header, end = {}, 0
    for name, (dtype, shape) in arrays.items():
        size = math.prod(shape) * _SIZES[dtype]
        header[name], end = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}, end + size
    for which, field, value in changes if header else []:
        list(header.values())[which % len(header)][field] = value
    return json.dumps(header | ({} if metadata is None else {"__metadata__": metadata})).encode(), end


_FORMS = st.builds(
    _form, st.dictionaries(_NAMES, _ARRAYS, max_size=4), st.lists(_CHANGES, max_size=2), st.none() | _METADATA
)
_JUNK = st.tuples(st.one_of(_VALUES.map(lambda v: json.dumps(v).encode()), st.sampled_from(_HOSTILE)), st.just(4))
_LACKING = st.sampled_from([0] * 12 + [-8, -1, 1, 4])
_SURPLUS = st.sampled_from([0] * 12 + [-1, 1, 8, 2**22, 2**31, 2**62, 2**63])


def _mutations(content: bytes) -> st.SearchStrategy[bytes]:
    """Mutate a valid file: pieces are removed, or overwritten by other pieces of the same file."""
    places = st.integers(0, len(content))

    def patch(cuts: list[tuple[int, int, int, int]]) -> bytes:
        changed = content
        for start, length, source, copied in cuts:
            changed = changed[:start] + content[source : source + copied] + changed[start + length :]
        return changed

    small = st.integers(0, 8)
    return st.lists(st.tuples(places, small, places, small), min_size=1, max_size=3).map(patch)


def malformed(attempts: int, folder: Path) -> Counter[str]:
    """Load files that hypothesis generates: malformed, or valid without fitting the model. Limits the memory use."""
    path, target, outcomes = folder / "model.safetensors", nn.Linear(1, 2, rngs=nnx.Rngs(0)), Counter[str]()
    save_weights(target, path)
    saved, sound = {name: np.asarray(array) for name, array in target.state_dict().items()}, path.read_bytes()

    files = st.builds(_framed, _FORMS | _JUNK, _LACKING, _SURPLUS) | st.binary(max_size=64) | _mutations(sound)

    def load(content: bytes) -> None:
        path.write_bytes(content)
        tracemalloc.start()
        outcomes[attempt(path, target, saved)] += 1
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert memory < 2 * len(content) + 200 * 2**20

    for start in range(0, attempts, 10_000):  # hypothesis keeps all examples of a run in memory
        number = min(10_000, attempts - start)
        options = settings(max_examples=number, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        options(seed(start)(given(files)(load)))()
    return outcomes


class _Call:
    """An object whose pickle calls a function when it is loaded."""

    def __init__(self, function: Callable, *arguments: Any):
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def _zipped(**members: bytes) -> bytes:
    """Return a zip archive in the layout of ``torch.save``, with checksums."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"archive/{name}.pkl", content)
        archive.writestr("archive/byteorder", "little")
    return buffer.getvalue()


def payloads(marker: Path) -> dict[str, bytes]:
    """Return the contents of files by name. The pickle in each creates the folder ``marker`` when it is executed."""
    call = _Call(os.mkdir, str(marker))
    plain = pickle.dumps(call, 2)
    bare = torch.zeros(2).__reduce_ex__(2)
    hooked = _Call(bare[0], *bare[1][:-1], call)
    typed = _Call(torch._tensor._rebuild_from_type_v2, os.mkdir, str, (str(marker),), {})
    array, legacy, tar = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(array, weight=np.array([call], object))
    torch.save({"weight": call}, legacy, _use_new_zipfile_serialization=False)
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            member = tarfile.TarInfo(name)
            member.size = len(plain)
            archive.addfile(member, io.BytesIO(plain))
    zipped = {
        "call.pt": call, "nested.pt": {"state_dict": OrderedDict(weight=[(call,)])}, "hooks.pt": {"weight": hooked},
        "type.pt": {"weight": typed},
    }  # fmt: skip
    files = {}
    for name, value in zipped.items():
        buffer = io.BytesIO()
        torch.save(value, buffer)
        files[name] = buffer.getvalue()
    return files | {
        "protocol_4.pt": _zipped(data=pickle.dumps(call, 4)),
        "protocol_0.pt": _zipped(data=f"(V{marker}\nios\nmkdir\n.".encode()),
        "script.pt": _zipped(data=plain, constants=plain),
        "no_archive.pt": plain,
        "legacy.bin": legacy.getvalue(),
        "tar.pth": tar.getvalue(),
        "arrays.npz": array.getvalue(),
        "model.safetensors": plain,
        "config.json": plain,
    }


def execute(attempts: int, folder: Path) -> Counter[str]:
    """Load pickles that would run a command, in every file format that may contain weights."""
    marker, target, outcomes = folder / "executed", small_model(2), Counter[str]()
    for name, content in payloads(marker).items():
        path = folder / name
        path.write_bytes(content)
        outcomes[attempt(path, target, {})] += 1
        assert not marker.exists(), f"{name} was executed"
    return outcomes


def limit_file_size(attempts: int, folder: Path) -> Counter[str]:
    """Save over an earlier file where the system limits files to fewer bytes than the weights need."""
    path, target, outcomes = folder / "model.safetensors", small_model(2), Counter[str]()
    saved = written(path)
    size, (soft, hard) = path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in np.linspace(0, size - 1, attempts).astype(int).tolist():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            save_weights(target, path)
        except OSError as error:
            outcomes["noticed" if error.filename == str(path) else "another file's error"] += 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert list(folder.iterdir()) == [path], "a part of a file was left"
        assert attempt(path, target, saved) == "harmless", "the earlier file has changed"
    return outcomes
