"""Tests of the benchmarks: every network has a size and the same parameters in each variant, and the worker runs."""

import math
import sys

import jax
import pytest
from flax import nnx

import flaxnets
from benchmarks import plain_nnx, report, rounds
from benchmarks.sizes import JUDGED, SIZES, SMALL, get_size
from flaxnets.registry import get_entry

TRAINABLE = [name for name in flaxnets.list_models() if get_entry(name).task != "layer"]

# Parameters that only torch's cells have: a second bias per gate. Flax has one bias where torch adds two.
SECOND_BIAS = {"rnn_lm": 256, "gru_lm": 3 * 256, "lstm_lm": 4 * 256}


def test_every_network_that_trains_has_a_size_and_a_plain_form_or_a_reason():
    assert set(SIZES) == {*TRAINABLE, *SMALL}
    assert sorted([*plain_nnx.NETWORKS, *plain_nnx.WITHOUT]) == TRAINABLE
    assert set(JUDGED) <= set(SIZES)


def test_sizes_are_of_the_networks_own_tasks():
    assert {name: SIZES[name].task for name in TRAINABLE} == {name: get_entry(name).task for name in TRAINABLE}


def test_a_network_without_a_size_is_refused():
    with pytest.raises(ValueError, match=r"no size of 'resnet19' in .*resnet18"):
        get_size("resnet19")


def _parameters(build):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(nnx.eval_shape(build), nnx.Param)))


@pytest.mark.parametrize("name", plain_nnx.NETWORKS)
def test_plain_networks_have_the_parameters_of_the_registered_ones(name):
    options = SIZES[name].options
    ours = _parameters(lambda: flaxnets.create_model(name, rngs=nnx.Rngs(0), **options))
    plain = _parameters(lambda: plain_nnx.NETWORKS[name](rngs=nnx.Rngs(0), **options))
    assert plain == ours - SECOND_BIAS.get(name, 0)


def test_worker_prints_its_samples_as_json(tmp_path):
    command = [
        sys.executable,
        "-m",
        "benchmarks.worker",
        "flaxnets",
        "mlp",
        "--batch",
        "2",
        "--repeats",
        "2",
        "--seconds",
        "0",
    ]
    result = rounds.fresh(command, rounds.environment("keep", str(tmp_path)))
    assert (result["network"], result["batch"], result["steps_a_sample"], result["finite"]) == ("mlp", 2, 1, True)
    assert len(result["seconds"]) == 2
    assert min(result["seconds"], default=0) > 0


def _results(*seconds):
    return [{"seconds": [each]} for each in seconds]


def test_ratios_are_against_the_torch_form_of_the_least_median():
    forms = {
        "torch": _results(4.0, 6.0, 5.0),
        "torch_channels_last": _results(1.0, 9.0, 9.0),
        "torch_compile": [{"unavailable": "no compiler"}],
        "flaxnets": _results(2.0, 2.0, 2.0),
    }
    record = {"forms": {form: rounds.summarise(results) for form, results in forms.items()}}
    assert report.ratios(record) == {"torch": rounds.spread([2.0, 3.0, 2.5])}
