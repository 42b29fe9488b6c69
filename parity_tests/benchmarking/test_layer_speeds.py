"""Tests of the layer benchmark: every layer has a row, and the report contains the measured times."""

import argparse
import collections
import random

import pytest
from cases import LAYERS

from benchmarks import layer_cells, layers, layers_report
from benchmarks.layer_rows import ROWS, WITHOUT_ROW, Array, Row
from flaxnets.nn import functional as F

# Functions that are measured by the row of a class or function with another name.
REACHED_BY = {
    "adaptive_max_pool1d_with_indices": "AdaptiveMaxPool1d",
    "adaptive_max_pool2d_with_indices": "AdaptiveMaxPool2d",
    "adaptive_max_pool3d_with_indices": "AdaptiveMaxPool3d",
    "batch_norm": "BatchNorm2d",
    "binary_cross_entropy": "BCELoss",
    "binary_cross_entropy_with_logits": "BCEWithLogitsLoss",
    "fractional_max_pool2d_with_indices": "FractionalMaxPool2d",
    "fractional_max_pool3d_with_indices": "FractionalMaxPool3d",
    "instance_norm": "InstanceNorm2d",
    "local_response_norm": "LocalResponseNorm",
    "max_pool1d_with_indices": "MaxPool1d",
    "max_pool2d_with_indices": "MaxPool2d",
    "max_pool3d_with_indices": "MaxPool3d",
    "multi_head_attention_forward": "MultiheadAttention",
    "native_channel_shuffle": "ChannelShuffle",
    "pad": "ConstantPad2d",
    "upsample_bilinear": "UpsamplingBilinear2d",
    "upsample_nearest": "UpsamplingNearest2d",
}


def test_every_class_that_computes_has_two_rows_or_a_reason():
    counts = collections.Counter(row.name for row in ROWS.values())
    classes = {name for name in counts if not name.islower()}
    assert {case.name for case in LAYERS} == classes | WITHOUT_ROW.keys()
    assert classes & WITHOUT_ROW.keys() == set()
    assert [name for name, count in counts.items() if count < 2] == []


def test_every_function_is_reached_by_a_row():
    names = {row.name.lower() for row in ROWS.values()}
    functions = {name for name, value in vars(F).items() if name[0].isalpha() and callable(value)}
    unreached = {
        name
        for name in functions
        if name not in names and not {name.replace("_", ""), name.replace("_", "") + "loss"} & names
    }
    assert unreached - REACHED_BY.keys() == set()
    assert {name.lower() for name in REACHED_BY.values()} <= names


def test_modes_of_interpolation_all_have_rows():
    modes = {row.kwargs["mode"] for row in ROWS.values() if row.name == "interpolate"}
    assert modes == {"nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear", "area"}


def test_rows_are_found_by_name_and_one_that_matches_nothing_is_refused():
    assert {ROWS[name].name for name in layers.matching(["LayerNorm", "ReLU*"])} == {"LayerNorm", "ReLU", "ReLU6"}
    assert layers.matching([next(iter(ROWS))]) == [next(iter(ROWS))]
    with pytest.raises(ValueError, match=r"no row matches 'Conv4d'\. Expected names of torch\.nn"):
        layers.matching(["Conv4d"])


SMALL_ROWS = {
    "norm": Row("BatchNorm2d", (3,), {}, ((2, 3, 4, 4),)),
    "product": Row("Linear", (3, 2), {}, ((4, 3),)),
    "classes": Row("one_hot", (), {"num_classes": 3}, (Array((4,), "integers", 3),)),
    "wrong": Row("Linear", (3, 2), {}, ((4, 4),)),
}
# For each variant: "both" if both directions exist, "forward" if only forward exists, "" if none exists.
EXPECTED = {
    "norm": {"torch": "both", "torch_channels_last": "both", "plain": "both", "engine": "both"},
    "product": {"torch": "both", "torch_channels_last": "", "plain": "both", "engine": "both"},
    "classes": {"torch": "forward", "torch_channels_last": "", "plain": "forward", "engine": "forward"},
}


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("form", layer_cells.FORMS)
def test_cells_exist_where_there_is_something_to_measure(name, form, monkeypatch):
    monkeypatch.setattr(layer_cells, "ROWS", SMALL_ROWS)
    calls = {}
    for direction in layer_cells.DIRECTIONS:
        answer = layer_cells.answer(calls, "prepare", name, form, direction)
        exists = EXPECTED[name][form] in ("both", direction)
        assert list(answer) == ["prepare_seconds" if exists else "absent"]
        if exists:
            assert layer_cells.answer(calls, "time", name, form, direction, 0.0, "minimum")["seconds"] > 0


@pytest.mark.parametrize("form", ["torch", "plain"])
def test_a_cell_that_fails_says_why(form, monkeypatch):
    monkeypatch.setattr(layer_cells, "ROWS", SMALL_ROWS)
    assert "4" in layer_cells.answer({}, "prepare", "wrong", form, "forward")["failed"]


class FakeProcess:
    """A process that answers immediately, and ends when it should time the cell ``fatal``."""

    def __init__(self, seconds, fatal):
        self.seconds, self.fatal, self.prepared = seconds, fatal, set()

    def ask(self, command, row, form, direction, *rest):
        if command == "prepare":
            self.prepared.add((form, direction))
            return {"prepare_seconds": 1.0}
        if (form, direction) == self.fatal:
            self.prepared.clear()
            raise layers.Lost("exit status -11")
        assert (form, direction) in self.prepared
        return {"seconds": self.seconds[form]}


def test_a_cell_that_ends_its_process_fails_alone():
    seconds = {"torch": 2.0, "torch_channels_last": 1.0, "plain": 4.0, "engine": 0.5}
    process = FakeProcess(seconds, fatal=("engine", "both"))
    options = argparse.Namespace(turns=3, seconds=0.0, statistic="median")
    row = layers.measure_row("row", {"torch": process, "jax": process}, options, random.Random(0))
    assert row["failed"] == {"engine both": "exit status -11"}
    assert layers_report.ratios(row) == {"plain forward": 0.25, "engine forward": 2.0, "plain both": 0.25}
    assert layers.merged(row, row)["seconds"]["plain both"] == [4.0] * 6


def _row(torch, ours):
    return {"seconds": {"torch both": torch, "plain both": ours}, "prepare_seconds": {"plain both": 2.0}, "failed": {}}


def test_ratios_are_formed_within_turns_and_the_lowest_comes_first():
    rows = {"fast": _row([1.0, 2.0, 9.0], [1.0, 1.0, 1.0]), "slow": _row([1.0, 2.0, 9.0], [2.0, 4.0, 1.0])}
    assert layers_report.ratios(rows["slow"]) == {"plain both": 0.5}
    lines = layers_report.table(rows).splitlines()
    assert lines[2:] == [
        "| `slow` | - | - | - | 2e+03 | 0.50 | - | 2.0 |",
        "| `fast` | - | - | - | 2e+03 | 2.00 | - | 2.0 |",
    ]


def test_a_new_measurement_replaces_its_rows_for_its_processor_and_version_alone(tmp_path, monkeypatch):
    path = tmp_path / "speeds.json"
    first, second = _row([1.0], [2.0]), _row([1.0], [4.00001])
    monkeypatch.setattr(layers_report, "key", lambda: "Intel, JAX 1")
    layers.save(path, "quiet", {"a": first, "b": first})
    monkeypatch.setattr(layers_report, "key", lambda: "AMD, JAX 1")
    layers.save(path, "quiet", {"a": first, "b": first})
    layers.save(path, "quiet", {"b": second})
    stored = layers_report.load(path)
    first["conditions"] = "quiet"
    assert stored["Intel, JAX 1"] == {"a": first, "b": first}
    assert stored["AMD, JAX 1"] == {"a": first, "b": {**_row([1.0], [4.0]), "conditions": "quiet"}}
