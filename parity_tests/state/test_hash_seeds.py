"""Tests that messages and results do not depend on the hash seed, which changes the order of sets."""

import os
import subprocess
import sys

SCRIPT = """
import tempfile
import jax.numpy as jnp
from flax import nnx
from flaxnets import nn, optim
from flaxnets.nn import functional as F
from flaxnets.nn.utils.stateless import functional_call
from flaxnets.training import Checkpoints, TrainState
from flaxnets.training.freezing import freeze


def message(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except Exception as error:
        print(str(error).replace(folder, ""))
    else:
        raise AssertionError(f"{function} does not raise")


def mlp(size):
    return nn.Sequential(*(nn.Linear(size, size, rngs=nnx.Rngs(0)) for _ in range(3)))


folder = tempfile.mkdtemp()
model = mlp(4)
# More prefixes fit than are tried.
state = {f"{i}.{name}": array for i in range(100, 200) for name, array in model.state_dict().items()}
message(model.load_state_dict, state)
message(functional_call, model, {"x": jnp.ones(1)}, jnp.ones((1, 4)), strict=True)
vectors = [jnp.ones(2, dtype) for dtype in ("float16", "bfloat16", "complex64", "int32")]
message(F.batch_norm, jnp.ones((2, 2)), *vectors)
print(freeze(model, ["1", "2.weight"]))
with Checkpoints(folder, asynchronous=False) as checkpoints:
    checkpoints.save(1, TrainState.create(mlp(4), optim.SGD(0.1)))
    message(checkpoints.restore, TrainState.create(mlp(5), optim.SGD(0.1)), 1)
"""


def test_messages_do_not_depend_on_the_order_of_sets():
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for seed in ("1", "2")
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs[0]
    assert outputs[0] == outputs[1]
