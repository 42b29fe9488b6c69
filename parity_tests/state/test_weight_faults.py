"""Tests of damaged, hostile and unwritable weight files: an error names the file, and nothing changes or runs."""

import json
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from benchmarks.reliability import FAULTS
from benchmarks.weight_faults import flip_bits, payloads, small_model
from flaxnets import nn
from flaxnets.weights import WeightsError, load_weights, save_weights

pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")


@pytest.mark.parametrize("name", [name for name in FAULTS if "weights" in name])
def test_no_fault_is_silent(name, tmp_path):
    fault = FAULTS[name]
    outcomes = fault.plant(fault.short, tmp_path)
    assert outcomes.total() == fault.short
    assert outcomes.keys() <= {"noticed", "harmless"}
    assert outcomes["noticed"] > fault.short / 4


@pytest.mark.parametrize(
    ("name", "guard"),
    [("model.safetensors", "flaxnets.weights._safetensors._verify"), ("model.pt", "zipfile.ZipFile.testzip")],
)
def test_without_digests_flipped_bits_are_silent(name, guard, tmp_path, monkeypatch):
    monkeypatch.setattr(guard, lambda *args: None)
    assert flip_bits(name, 100, tmp_path)["silent"] > 10


def test_the_payloads_would_run(tmp_path):
    content = payloads(tmp_path / "executed")["model.safetensors"]
    pickle.loads(content)
    assert (tmp_path / "executed").exists()


def _renamed(arrays, metadata):
    arrays["9.weight"] = arrays.pop("0.weight")


def _swapped(arrays, metadata):
    arrays["1.weight"], arrays["1.bias"] = arrays["1.bias"], arrays["1.weight"]


# Valid safetensors files that differ from the file that save_weights wrote.
EDITS = {
    "a number": (lambda a, m: a["0.bias"].__setitem__(0, 7), "digests of '0.bias' differ"),
    "a name": (_renamed, "digests of '0.weight', '9.weight' differ"),
    "two arrays of one shape": (_swapped, "digests of '1.bias', '1.weight' differ"),
    "a shape": (lambda a, m: a.update({"0.bias": a["0.bias"][None]}), "digests of '0.bias' differ"),
    "a dtype": (lambda a, m: a.update({"0.bias": a["0.bias"].view(np.int32)}), "digests of '0.bias' differ"),
    "an array lost": (lambda a, m: a.pop("0.bias"), "digests of '0.bias' differ"),
    "an array more": (lambda a, m: a.update(x=np.ones(1)), "digests of 'x' differ"),
    "an alias": (lambda a, m: m.update({"2.bias": "1.bias"}), "digests of its metadata differ"),
    "other metadata": (lambda a, m: m.update(format="np"), "digests of its metadata differ"),
    "a digest lost": (lambda a, m: m.pop("flaxnets.sha256.0.bias"), "digests of '0.bias' differ"),
    "the last digest lost": (lambda a, m: m.pop("flaxnets.sha256"), "digests of its metadata differ"),
}


@pytest.mark.parametrize(("edit", "words"), EDITS.values(), ids=EDITS)
def test_an_edited_file_is_noticed_and_what_changed_is_named(edit, words, tmp_path):
    path = tmp_path / "model.safetensors"
    save_weights(small_model(1), path)
    arrays = load_file(path)
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    edit(arrays, metadata)
    save_file(arrays, path, metadata)
    with pytest.raises(WeightsError, match=f"model.safetensors: .*{words}"):
        load_weights(small_model(2), path)


def _header(text, data=b""):
    return struct.pack("<Q", len(text)) + text.encode() + data


def _array(dtype="F32", shape="[1]", offsets="[0,4]", name="a"):
    return f'"{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}'


FOUR = bytes(4)
MALFORMED = {
    "empty": (b"", "it has 0 bytes, too few for a header"),
    "a header longer than the file": (
        struct.pack("<Q", 2**40),
        "header should have 1099511627776 bytes; the file has 8",
    ),
    "a header over the limit": (
        struct.pack("<Q", 5_000_000) + bytes(5_000_000),
        "should have 5000000 .* limit is 4194304",
    ),
    "no JSON": (_header("{"), "Expecting property name"),
    "no text": (struct.pack("<Q", 1) + b"\xff", "can't decode byte 0xff"),
    "another JSON": (_header("[]"), "its header is a list; expected an object"),
    "nested without end": (_header("[" * 100_000), "recursion"),
    "a name twice": (_header(f"{{{_array()},{_array()}}}", FOUR), "a name occurs twice"),
    "metadata that are no texts": (_header('{"__metadata__":{"a":1}}'), "__metadata__ are not texts"),
    "nothing of an array": (_header('{"a":NaN}'), "'a' should have a dtype, a shape and data_offsets, and has nan"),
    "an unknown dtype": (
        _header(f"{{{_array('F4')}}}", FOUR),
        "'a' has the dtype 'F4'; expected one of BF16, BOOL, C64",
    ),
    "a negative size": (_header(f"{{{_array(shape='[-1]')}}}", FOUR), r"'a' has the shape \[-1\]; expected natural"),
    "a shape of text": (
        _header(f"{{{_array(shape='[true]')}}}", FOUR),
        r"'a' has the shape \[True\]; expected natural",
    ),
    "a huge shape": (_header(f"{{{_array(shape=str([2**40]))}}}", FOUR), r"float32\[1099511627776\], and has 4 bytes"),
    "a shape that overflows": (_header(f"{{{_array(shape=str([2**62] * 8))}}}", FOUR), "and has 4 bytes"),
    "an impossible empty shape": (_header(f"{{{_array(shape=f'[0,{2**62}]', offsets='[0,0]')}}}"), "too big"),
    "too many dimensions": (_header(f"{{{_array(shape=str([1] * 40))}}}", FOUR), "has 40 dimensions"),
    "offsets past the file": (_header(f"{{{_array(offsets='[4,8]')}}}", FOUR), "begins at byte 4 .* ends at 0"),
    "an overlap": (_header(f"{{{_array()},{_array(name='b')}}}", FOUR), "'b' begins at byte 0 .* ends at 4"),
    "a gap": (_header(f"{{{_array()},{_array(name='b', offsets='[8,12]')}}}", bytes(12)), "'b' begins at byte 8"),
    "bytes left over": (_header(f"{{{_array()}}}", bytes(5)), "end at byte 66, the file has 67"),
    "cut off": (_header(f"{{{_array()}}}", bytes(3)), "end at byte 66, the file has 65"),
    "a torch archive cut off": (b"PK\3\4" + bytes(50), "file of torch.save: File is not a zip file"),
}


@pytest.mark.parametrize(("content", "words"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_file_says_what_is_wrong(content, words, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"model.safetensors: not an intact .*{words}"):
        load_weights(nn.Sequential(), path)


def test_the_largest_header_takes_little_memory(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(_header("[" + "{}," * 1_390_000 + "{}]"))
    tracemalloc.start()
    with pytest.raises(WeightsError, match="its header is a list"):
        load_weights(nn.Sequential(), path)
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert memory < 2 * path.stat().st_size + 200 * 2**20


def _bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10_000_000))


def _large_pickle(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"}" * 5_000_000 + b".")


def _another_archive(path):
    with path.open("wb") as file:
        np.savez(file, a=np.ones(1))


def _offset_before_the_file(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", "")
    content = bytearray(path.read_bytes())
    content[-6] += 4  # the offset of the directory, in the record at the end
    path.write_bytes(content)


class _Reserved:
    """An object whose pickle calls bytearray, which torch's loader allows, with a huge length."""

    def __reduce__(self):
        return bytearray, (2**40,)


TORCH_FILES = {
    "compressed": (_bomb, "'archive/data.pkl' is compressed or encrypted"),
    "an offset before the file": (_offset_before_the_file, "not an intact file of torch.save: "),
    "a pickle over the limit": (_large_pickle, r"one data.pkl of up to 4194304 bytes, found ones of \[5000003\]"),
    "another archive": (
        _another_archive,
        r"expected one data.pkl .* found ones of \[\]",
    ),
    "memory by the loader's own means": (lambda path: torch.save({"a": _Reserved()}, path), "names .*bytearray"),
    "a module": (lambda path: torch.save(torch.nn.Linear(1, 1), path), "it names .*torch.nn.modules.linear.Linear"),
    "a list": (lambda path: torch.save([torch.ones(1)], path), "expected a state dict, got a list"),
    "more elements than bytes": (
        lambda path: torch.save({"a": torch.zeros(1, dtype=torch.bfloat16).expand(2**40)}, path),
        "'a' has more elements than are stored",
    ),
}


@pytest.mark.parametrize(("write", "words"), TORCH_FILES.values(), ids=TORCH_FILES)
def test_a_torch_file_of_another_kind_says_what_is_wrong(write, words, tmp_path):
    write(tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=f"model.pt: .*{words}"):
        load_weights(nn.Sequential(), tmp_path / "model.pt")


def test_the_old_format_of_torch_says_how_to_go_on(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "model.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match=r"model.pt: .* a pickle, as torch.save wrote before 1\.6"):
        load_weights(nn.Sequential(), tmp_path / "model.pt")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors"):
        load_weights(nn.Sequential(), tmp_path / "gone.safetensors")
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        load_weights(nn.Sequential(), tmp_path)


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "model.safetensors"
    save_weights(small_model(1), path)
    before = path.read_bytes()
    (tmp_path / "model.safetensors.partial").symlink_to("/dev/full")
    with pytest.raises(
        OSError, match=r"weights not saved .No space left on device.* as it was: '.*/model.safetensors'"
    ):
        save_weights(small_model(2), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError, match=r"No such file or directory.*elsewhere/model.safetensors"):
        save_weights(small_model(2), tmp_path / "elsewhere" / "model.safetensors")


def test_torch_reads_what_has_digests(tmp_path):
    save_weights(small_model(1), tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert len(json.dumps(file.metadata())) > 64 * len(list(file.keys()))
        assert set(file.keys()) == small_model(1).state_dict().keys() - {"2.weight", "2.bias"}
