"""Tests in a fresh interpreter: flaxnets works without torch, and annotated shapes are correct."""

import os
import subprocess
import sys

import conftest

WITHOUT_TORCH = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch" or name.startswith("torch."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, NoTorch())
import numpy as np
import flaxnets, flaxnets.training, flaxnets.data, flaxnets.weights
model = flaxnets.create_model("lenet")
model.load_state_dict({name: np.zeros(array.shape) for name, array in model.state_dict().items()})
assert model(np.zeros((1, 1, 28, 28), np.float32)).shape == (1, 10)
assert "torch" not in sys.modules
try:
    import flaxnets.parity
except ImportError as error:
    print(error)
"""

UNDER_BEARTYPE = """
import warnings
warnings.simplefilter("ignore")
import sys
sys.path.insert(0, "parity_tests")
from jaxtyping import install_import_hook
hook = install_import_hook(["flaxnets.nn", "flaxnets.models"], "typechecker.check")
import jax, numpy as np
from flax import nnx
from cases import LAYERS, NETWORKS
from flaxnets.parity import Constant
def narrow(leaf):
    leaf = leaf.array if isinstance(leaf, Constant) else leaf
    if not isinstance(leaf, np.ndarray):
        return leaf
    return jax.numpy.asarray(leaf, np.float32 if leaf.dtype.kind == "f" else None)
count = 0
for case in [*NETWORKS, *LAYERS]:
    _, module = case.pair()
    inputs = jax.tree.map(narrow, case.inputs(np.random.default_rng(0)))
    kwargs = jax.tree.map(narrow, dict(getattr(case, "call", {})))
    try:
        jax.eval_shape(lambda: nnx.clone(module)(*inputs, **kwargs))
    except Exception as error:
        raise RuntimeError(str(case)) from error
    count += 1
print(count, "cases hold what their annotations say")
try:
    import flaxnets.nn.functional as F
    F.linear(np.zeros((2, 3), np.float32), jax.numpy.zeros(3))
except Exception as error:
    print(type(error).__name__)
"""


def _run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | conftest.CACHE_VARIABLES,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_flaxnets_works_without_torch_and_says_what_the_harness_needs():
    assert "pip install 'flaxnets[parity]'" in _run(WITHOUT_TORCH)


def test_annotated_shapes_are_true_for_every_case():
    output = _run(UNDER_BEARTYPE)
    assert "cases hold what their annotations say" in output
    assert "TypeCheckError" in output
