"""Tests that ``inplace`` is accepted in the same positions as in torch, and has no effect."""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from flaxnets import nn
from flaxnets.nn import functional as F


def names_with_inplace(module) -> list[str]:
    """Return the names of the public classes and functions of a torch module that have a parameter ``inplace``."""
    names = []
    for name, value in vars(module).items():
        if not callable(value) or name.startswith("_"):
            continue
        try:
            parameters = inspect.signature(value).parameters
        except (ValueError, TypeError):  # functions written in C, or objects of typing
            continue
        if "inplace" in parameters:
            names.append(name)
    return sorted(names)


CLASSES, FUNCTIONS = names_with_inplace(torch.nn), names_with_inplace(torch.nn.functional)
REQUIRED = {"threshold": 0.25, "value": 2.0}  # arguments without a default
RANDOM = {"training": False}  # in training mode torch draws random masks and slopes


def arguments_before_inplace(function) -> list:
    """Return values for the parameters before ``inplace``, in order."""
    values = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "inplace":
            return values
        if parameter.name != "input":
            values.append({**REQUIRED, **RANDOM}.get(parameter.name, parameter.default))
    raise AssertionError(f"{function} has no inplace")


def arrays(name: str) -> tuple[np.ndarray, torch.Tensor, jnp.ndarray]:
    axes = {"dropout2d": 4, "dropout3d": 5}.get(name.lower(), 3)
    array = np.linspace(-7, 7, 24, dtype=np.float32).reshape(2, 3, 4, *[1] * (axes - 3))
    return array, torch.from_numpy(array.copy()), jnp.asarray(array)


def test_torch_has_inplace_in_many_places():
    assert {"ReLU", "Dropout", "Hardtanh", "Threshold"} <= set(CLASSES)
    assert {"relu", "dropout", "rrelu", "threshold"} <= set(FUNCTIONS)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("inplace", [False, True])
def test_layers_accept_inplace_in_torchs_position(name: str, inplace: bool):
    kind = getattr(torch.nn, name)
    before = arguments_before_inplace(kind)
    random = {"rngs": nnx.Rngs(0)} if name == "RReLU" or "Dropout" in name else {}
    theirs, ours = kind(*before, inplace).eval(), getattr(nn, name)(*before, inplace, **random).eval()
    array, tensor, input = arrays(name)
    np.testing.assert_allclose(ours(input), theirs(tensor).numpy(), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(input, array)
    assert ours.inplace is theirs.inplace is inplace
    named = dict(zip(inspect.signature(kind).parameters, [*before, inplace], strict=False))
    assert getattr(nn, name)(**named, **random).inplace is inplace


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("inplace", [False, True])
def test_functions_accept_inplace_in_torchs_position(name: str, inplace: bool):
    theirs, ours = getattr(torch.nn.functional, name), getattr(F, name)
    before = arguments_before_inplace(theirs)
    array, tensor, input = arrays(name)
    expected = theirs(tensor, *before, inplace).numpy()
    np.testing.assert_allclose(ours(input, *before, inplace), expected, rtol=1e-6, atol=1e-6)
    named = dict(zip(list(inspect.signature(theirs).parameters)[1:], [*before, inplace], strict=False))
    np.testing.assert_allclose(ours(input, **named), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(input, array)


def test_dropout_in_training_draws_the_same_mask_with_and_without_inplace():
    results = [nn.Dropout(0.5, inplace, rngs=nnx.Rngs(0))(jnp.ones(100)) for inplace in (False, True)]
    np.testing.assert_array_equal(*results)
    assert set(np.unique(results[0])) == {0.0, 2.0}


IN_PLACE = sorted(name for name in vars(torch.nn.functional) if name.endswith("_") and not name.startswith("_"))


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_functions_are_refused_with_the_line_to_write(name: str):
    with pytest.raises(AttributeError, match=rf"{name}: JAX arrays are immutable.*x = F\.{name[:-1]}\(x, \.\.\.\)"):
        getattr(F, name)
    assert not hasattr(F, name)


def test_unknown_function_is_an_ordinary_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'reluu_'"):
        F.reluu_  # noqa: B018
