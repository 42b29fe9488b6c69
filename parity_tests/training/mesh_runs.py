"""Train small networks on meshes of 1 to 8 devices, in a process with 8 devices, and save the parameters.

Run this file as ``python mesh_runs.py FILE [--long]``. The tests of ``test_mesh.py`` compare the saved runs. ``--long``
trains all networks on all meshes, also in float32.
"""

import json
import sys
import tempfile
from typing import Any

import jax
import numpy as np
from flax import nnx

import flaxnets
from benchmarks.scaling_model import collectives
from flaxnets import optim
from flaxnets.data import Split
from flaxnets.training import (
    TASKS,
    Batches,
    Checkpointing,
    Checkpoints,
    Engine,
    Rule,
    Sharding,
    StepOptions,
    fit,
    make_mesh,
)

RULES = (Rule("*", least=64),)
MESHES = ({"data": 1}, {"data": 2}, {"data": 4}, {"data": 8}, {"data": 2, "model": 2}, {"data": 2, "model": 4})
BATCH, STEPS = 8, 10

# For each network: its options, the shape of an example, options of the step, and the meshes without --long.
RUNS = {
    "lenet_batchnorm": ({}, (1, 28, 28), {"ema_decay": 0.9}, MESHES[2:5:2]),
    "mlp_dropout": ({"num_hiddens": 16}, (1, 28, 28), {"accumulate": 2, "nonfinite": "skip"}, MESHES[1:5]),
    "gru_lm": ({"vocab_size": 8, "num_hiddens": 8, "num_layers": 2, "dropout": 0.5}, (6,), {}, MESHES[3:5]),
    "densenet": (
        {"num_channels": 8, "growth_rate": 4, "num_convs_in_dense_blocks": (2, 2), "num_classes": 10}, (1, 32, 32),
        {"remat": True}, MESHES[4:5],
    ),
}  # fmt: skip


def run(
    name: str, mesh: dict[str, int] | None, dtype: str, sharding: Sharding | None = None, **options: Any
) -> tuple[dict[str, np.ndarray], Engine]:
    """Train for ten steps, and return the parameters and the engine."""
    sizes, shape, step_options, _ = RUNS[name]
    rng, task = np.random.default_rng(0), TASKS[flaxnets.registry.get_entry(name).task]
    if len(shape) == 1:
        split = Split(*rng.integers(0, 8, (2, BATCH * STEPS, *shape)).astype(np.int32))
    else:
        split = Split(rng.normal(size=(BATCH * STEPS, *shape)), rng.integers(0, 10, BATCH * STEPS))
    model = flaxnets.create_model(name, **sizes, rngs=nnx.Rngs(0))
    if dtype == "float64":
        model.double()
    elif len(shape) > 1:
        split = Split(split.inputs.astype(np.float32), split.targets)
    transform = (lambda ids: ids.swapaxes(0, 1)) if len(shape) == 1 else (lambda images: images)
    if mesh:
        sharding = Sharding(make_mesh(mesh, jax.devices()[: int(np.prod([*mesh.values()]))]), RULES)
    step_options = StepOptions(backend="xla", **step_options)
    engine = Engine(model, optim.SGD(0.05, momentum=0.9), task.objective, step_options, sharding)
    batches = Batches(split, BATCH, transform)
    fit(engine, batches, Batches(split, 12, transform), **{"epochs": 1, **options})
    return {name: np.asarray(array) for name, array in model.state_dict().items()}, engine


def bytes_of_parameters(engine: Engine) -> list[int]:
    """Return the sizes in bytes of the parameters that the mesh shards, sorted."""
    params = engine.init().params
    specs = jax.tree.leaves(
        jax.tree.map(lambda sharding: any(sharding.spec), engine.sharding.state(engine.init()).params)
    )
    return sorted(leaf.nbytes for leaf, sharded in zip(jax.tree.leaves(params), specs, strict=True) if sharded)


def whole_arrays(engine: Engine) -> list[str]:
    """Return the names of sharded parameters, slots and averages of which a device has a full copy."""
    state = engine.init()
    shardings = engine.sharding.state(state)
    leaves = zip(jax.tree_util.tree_flatten_with_path(state)[0], jax.tree.leaves(shardings), strict=True)
    return [
        jax.tree_util.keystr(path, simple=True, separator=".")
        for (path, leaf), sharding in leaves
        if any(sharding.spec) and any(shard.data.size == leaf.size for shard in leaf.addressable_shards)
    ]


class TwoParts(Sharding):
    """A sharding on one device that computes batch statistics as two devices do."""

    def parts(self, size: int) -> int:
        """Return the number of parts of a batch."""
        return 2


def statistics_of_devices() -> dict[str, dict[str, np.ndarray]]:
    """Train with batch statistics per device: on one device that computes two parts, and on two devices."""
    ours = Sharding(make_mesh("data=2", jax.devices()[:2]), RULES, batch_statistics="device")
    placements = {"": TwoParts(make_mesh("data=1", jax.devices()[:1])), "data=2": ours}
    return {mesh: run("lenet_batchnorm", None, "float64", sharding=each)[0] for mesh, each in placements.items()}


def resumed(folder: str) -> dict[str, np.ndarray]:
    """Train one epoch on 8 devices, and a second one on 2 devices from the checkpoint."""
    for epochs, mesh in ((1, {"data": 8}), (2, {"data": 2})):
        with Checkpoints(folder) as checkpoints:
            callbacks = [Checkpointing(checkpoints, resume=True)]
            arrays, _ = run("mlp_dropout", mesh, "float64", epochs=epochs, callbacks=callbacks)
    return arrays


def main(path: str, long: bool) -> None:
    """Save the parameters of all runs, and facts about their compiled steps."""
    found, facts = {}, {}

    def add(name: str, arrays: dict[str, np.ndarray]) -> None:
        found.update({f"{name}/{key}": array for key, array in arrays.items()})

    for dtype in ("float32", "float64") if long else ("float64",):
        with jax.enable_x64(dtype == "float64"):
            for name, (*_, meshes) in RUNS.items():
                for mesh in (None, *(MESHES if long else meshes)):
                    arrays, engine = run(name, mesh, dtype)
                    words = f"{dtype}/{name}/{','.join(f'{axis}={size}' for axis, size in (mesh or {}).items())}"
                    add(words, arrays)
                    if mesh:
                        facts[words] = {
                            "collectives": collectives(next(iter(engine._steps.values())).step.as_text()),
                            "sharded": bytes_of_parameters(engine),
                            "whole": whole_arrays(engine),
                            "compiled": len(engine._steps),
                        }
    with jax.enable_x64(True), tempfile.TemporaryDirectory() as folder:
        for mesh, arrays in statistics_of_devices().items():
            add(f"float64/lenet_batchnorm per device/{mesh}", arrays)
        add("float64/mlp_dropout twice/", run("mlp_dropout", None, "float64", epochs=2)[0])
        add("float64/mlp_dropout twice/resumed", resumed(folder))
        add("float64/mlp_dropout several/", run("mlp_dropout", None, "float64", steps_per_execution=5)[0])
        add("float64/mlp_dropout several/data=4", run("mlp_dropout", {"data": 4}, "float64", steps_per_execution=5)[0])
    np.savez(path, facts=json.dumps(facts), **found)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    main(sys.argv[1], long="--long" in sys.argv)
