"""Train small networks in one of 2 or 4 processes with 4 devices together, and save the parameters.

Run this file as ``python process_runs.py ADDRESS COUNT INDEX FILE`` in every process. Process 0 also trains on one
device, and saves all results. The tests of ``test_processes.py`` compare the saved runs. Four processes train fewer
networks than two.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import jax
import numpy as np
from flax import nnx
from mesh_runs import BATCH, RUNS, STEPS, run

import flaxnets
from flaxnets.training import Checkpointing, Checkpoints
from flaxnets.training.processes import gather_texts

CASES = {"lenet_batchnorm": {"data": 4}, "mlp_dropout": {"data": 2, "model": 2}, "densenet": {"data": 4}}


def resumed(folder: str, meshes: tuple[dict[str, int] | None, ...]) -> dict[str, np.ndarray]:
    """Train one more epoch on each mesh, from the checkpoint of the previous mesh. None means process 0 alone."""
    arrays: dict[str, np.ndarray] = {}
    for epochs, mesh in enumerate(meshes, 1):
        if mesh is None and jax.process_index() != 0:
            gather_texts("")
            continue
        with Checkpoints(folder) as checkpoints:
            callbacks = [Checkpointing(checkpoints, resume=True)]
            arrays, _ = run("mlp_dropout", mesh, "float64", epochs=epochs, callbacks=callbacks)
        if mesh is None:
            gather_texts("")
    return arrays


def save_start(folder: Path, name: str) -> None:
    """Save the initial parameters and the batches of a run, for PyTorch."""
    sizes, shape, *_ = RUNS[name]
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(BATCH * STEPS, *shape)), rng.integers(0, 10, BATCH * STEPS)
    order = np.random.default_rng((0, 1)).permutation(BATCH * STEPS).reshape(STEPS, BATCH)
    model = flaxnets.create_model(name, **sizes, rngs=nnx.Rngs(0))
    model.double()
    arrays = {key: np.asarray(array) for key, array in model.state_dict().items()}
    np.savez(folder / f"{name}.npz", inputs=inputs[order], targets=targets[order], options=json.dumps(sizes), **arrays)


def main(path: str) -> None:
    """Save the parameters of all runs."""
    # This run is compared with PyTorch: no average of the weights, which would replace them at the end.
    RUNS["lenet_batchnorm"] = ({}, (1, 28, 28), {}, ())
    found: dict[str, Any] = {}

    def add(name: str, arrays: dict[str, np.ndarray]) -> None:
        found.update({f"{name}/{key}": array for key, array in arrays.items()})

    count = jax.process_count()
    networks = {"float64": tuple(CASES), "float32": ("mlp_dropout",)}
    for dtype, names in networks.items() if count == 2 else [("float64", ("lenet_batchnorm",))]:
        with jax.enable_x64(dtype == "float64"):
            for name in names:
                add(f"{dtype} {name}/processes", run(name, CASES[name], dtype)[0])
                if jax.process_index() == 0:
                    add(f"{dtype} {name}/one", run(name, None, dtype)[0])
                    if dtype == "float64" and name != "mlp_dropout":
                        save_start(Path(path).parent, name)
    folder = gather_texts(tempfile.mkdtemp() if jax.process_index() == 0 else "")[0]
    with jax.enable_x64(True):
        twice = run("mlp_dropout", None, "float64", epochs=2)[0]
        resumes = {f"{count} to 1": ({"data": 4}, None), f"1 to {count}": (None, {"data": 2, "model": 2})}
        for title, meshes in resumes.items():
            add(f"float64 resumed {title}/processes", resumed(f"{folder}/{title}", meshes))
            add(f"float64 resumed {title}/one", twice)
    if jax.process_index() == 0:
        np.savez(path, **found)
    gather_texts("")


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 4 // int(sys.argv[2]))
    jax.distributed.initialize(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), cluster_detection_method="deactivate")
    main(sys.argv[4])
