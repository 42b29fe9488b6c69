"""Tests that training on a mesh of devices gives the same result as one device."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jax
import numpy as np
import pytest
from flax import nnx

from flaxnets import nn, optim
from flaxnets.training import Engine, Rule, Sharding, make_mesh
from flaxnets.training.sharding import parse_mesh

ROOT = Path(__file__).parents[2]
GATES = {"float32": 1e-5, "float64": 1e-10}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run mesh_runs.py with 8 devices. Return parameters by dtype, network and mesh, and facts about compiled steps."""
    path = tmp_path_factory.mktemp("mesh") / "runs.npz"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("mesh_runs.py")), str(path)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    with np.load(path) as file:
        facts = json.loads(str(file["facts"]))
        for key in file.files:
            if key != "facts":
                dtype, network, mesh, name = key.split("/")
                found.setdefault(f"{dtype}/{network}", {}).setdefault(mesh, {})[name] = file[key]
    return found, facts


def test_ten_steps_on_a_mesh_give_the_parameters_of_one_device(runs):
    errors = {}
    for run, meshes in runs[0].items():
        expected = meshes.pop("")
        assert meshes, run
        for mesh, arrays in meshes.items():
            assert arrays.keys() == expected.keys()
            worst = max(
                np.abs(arrays[name] - array).max() / max(np.abs(array).max(), 1e-3)
                for name, array in expected.items()
                if array.size
            )
            if worst > GATES[run.partition("/")[0]]:
                errors[run, mesh] = worst
    assert errors == {}


def test_no_device_has_a_sharded_array_whole_and_each_step_compiles_once(runs):
    for run, facts in runs[1].items():
        assert (facts["whole"], facts["compiled"]) == ([], 1), run


def test_data_parallel_steps_reduce_gradients_and_statistics_and_move_nothing_else(runs):
    for run, facts in runs[1].items():
        if "model" not in run:
            assert facts["collectives"].keys() == {"all-reduce"}, run


def test_steps_on_sharded_parameters_gather_each_of_them_once_and_move_no_batch(runs):
    sharded = {run: facts for run, facts in runs[1].items() if "model" in run}
    assert len(sharded) >= 2
    for run, facts in sharded.items():
        assert facts["collectives"].keys() == {"all-reduce", "all-gather"}, run
        assert sorted(facts["collectives"]["all-gather"]) == facts["sharded"], run


def on_devices(data: int, model: int, rules: tuple[Rule, ...] = ()) -> Sharding:
    """Return the sharding for a mesh with more devices than this process has."""
    sharding = Sharding.__new__(Sharding)
    sharding.mesh, sharding.rules = cast(Any, SimpleNamespace(shape={"data": data, "model": model})), rules
    return sharding


MISREAD = {"data": "'data'", "data=0": "'data=0'", "rows=2": "'rows=2'", "data=2,data=2": "'data=2'"}


@pytest.mark.parametrize(("text", "part"), MISREAD.items())
def test_a_mesh_that_cannot_be_read_is_refused(text, part):
    with pytest.raises(ValueError, match=f"mesh '{text}': {part}. Expected sizes of the axes data and model"):
        parse_mesh(text)


@pytest.mark.parametrize(
    "mesh",
    ["data=1", {"data": 1}, make_mesh("data=1", jax.devices()[:1]), Sharding(make_mesh("data=1", jax.devices()[:1]))],
    ids=["text", "sizes", "mesh", "sharding"],
)
def test_an_engine_takes_a_mesh_as_text_sizes_mesh_or_sharding(mesh):
    engine = Engine(nn.Linear(2, 1, rngs=nnx.Rngs(0)), optim.SGD(0.1), nn.MSELoss(), mesh=mesh)
    assert engine.sharding is not None
    assert dict(engine.sharding.mesh.shape) == {"data": 1, "model": 1}
    assert engine.init().params["weight"].sharding.mesh == engine.sharding.mesh


def test_a_mesh_with_other_axes_is_refused():
    with pytest.raises(ValueError, match=r"axes \('rows',\). Expected \('data', 'model'\). Fix: make_mesh"):
        Sharding(jax.make_mesh((1,), ("rows",), devices=jax.devices()[:1]))


def test_a_mesh_of_other_devices_and_a_batch_that_it_does_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"mesh data=4096: 4096 devices. Expected \d+, the number of devices here"):
        make_mesh("data=4096")
    with pytest.raises(ValueError, match=r"a batch of 8 examples on a mesh with data=3\. Expected a multiple of 3"):
        on_devices(3, 1).check(8)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("fc.weight", (10, 64), (None, "model")),
        ("fc.weight", (64, 64), ("model",)),
        ("fc.bias", (64,), ()),
        ("embedding.weight", (8, 64), ("model",)),
        ("odd.weight", (65, 63), ()),
        ("frozen.weight", (64, 64), ()),
    ],
)
def test_rules_choose_the_axis_of_a_parameter(name, shape, expected):
    rules = (Rule("embedding.*", axis=0), Rule("frozen.*", least=10**9), Rule("*", least=128))
    assert tuple(on_devices(1, 2, rules).spec(name, shape)) == expected
