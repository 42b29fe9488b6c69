"""Tests of ``from_torch`` with features beyond plain layers and operators."""

from typing import Any

import jax
import numpy as np
import pytest
import torch
from port_models.common import Model
from port_models.features import MODELS

from flaxnets.port import from_torch
from flaxnets.port.outcomes import leaves

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*use_reentrant.*:UserWarning", "ignore:.*requires_grad=True.*:UserWarning"
)


def as_numpy(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.detach().numpy() if isinstance(leaf, torch.Tensor) else leaf, tree)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_a_feature_is_followed(model: Model) -> None:
    torch.manual_seed(0)
    module, inputs = model.build(), model.inputs()
    # from_torch compares outputs, buffers and gradients in float64, in both modes, on the example and a random input.
    port = from_torch(module, inputs, model.kwargs())
    port.eval()
    with jax.numpy_rank_promotion("allow"):
        actual = leaves(port(*jax.tree.map(jax.numpy.asarray, as_numpy(inputs))))
    with torch.no_grad():
        expected = leaves(as_numpy(module.eval()(*inputs)))
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
