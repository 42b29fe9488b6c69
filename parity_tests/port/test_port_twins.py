"""Tests that a port compiles to about the same program as the network of flaxnets that was written by hand."""

import jax
import numpy as np
import pytest
import torch
from cases import NETWORKS
from flax import nnx

from flaxnets.port import from_torch


def _equations(jaxpr):
    """Return the number of equations, including those of inner jaxprs."""
    inner = [value for equation in jaxpr.eqns for value in jax.tree.leaves(list(equation.params.values()))]
    inner = [getattr(value, "jaxpr", value) for value in inner]
    return len(jaxpr.eqns) + sum(_equations(each) for each in inner if hasattr(each, "eqns"))


def _training_equations(model, inputs):
    """Return the number of equations of a loss and its gradients in training mode."""
    model.train()
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params, rest, *inputs):
        outputs = jax.tree.leaves(nnx.merge(graphdef, params, rest, copy=True)(*inputs))
        return sum(o.mean() for o in outputs if jax.numpy.issubdtype(o.dtype, jax.numpy.floating))

    with jax.numpy_rank_promotion("allow"):
        return _equations(jax.make_jaxpr(jax.grad(loss))(params, rest, *inputs).jaxpr)


# The loop of this network depends on values, which a port refuses.
REFUSED = {"fancy_mlp"}


@pytest.mark.parametrize("case", [case for case in NETWORKS if case.name not in REFUSED], ids=lambda case: case.name)
def test_a_port_has_as_many_operations_as_its_twin(case, rng):
    reference, twin = case.pair()
    inputs = [np.asarray(x) for x in case.inputs(rng)]
    inputs = [x.astype(np.float32) if x.dtype.kind == "f" else x for x in inputs]
    port = from_torch(reference.float(), tuple(torch.from_numpy(x) for x in inputs), check=False)
    expected, actual = _training_equations(twin, inputs), _training_equations(port, inputs)
    assert abs(actual - expected) <= 0.02 * expected
