"""Conversion of all parameters to one vector, and back."""

import math
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Num


def parameters_to_vector(parameters: Iterable[nnx.Variable | jax.Array]) -> Num[Array, " size"]:
    """Return the elements of all parameters, concatenated.

    Raises:
        RuntimeError: without parameters.

    See `torch.nn.utils.parameters_to_vector
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parameters_to_vector.html>`_.

    >>> from flaxnets import nn
    >>> parameters_to_vector(nn.Linear(3, 2, rngs=nnx.Rngs(0)).parameters()).shape
    (8,)
    """
    vectors = [parameter[...].reshape(-1) for parameter in parameters]
    if not vectors:
        raise RuntimeError("parameters_to_vector: expected at least one parameter, got none")
    return jnp.concatenate(vectors)


def vector_to_parameters(vec: Num[Array, " size"], parameters: Iterable[nnx.Variable]) -> None:
    """Set the parameters, in place, to the elements of a vector; surplus elements are ignored.

    As in torch, the parameters get the vector's dtype.

    Raises:
        TypeError: if ``vec`` is not an array.
        RuntimeError: if the vector has too few elements.

    See `torch.nn.utils.vector_to_parameters
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.vector_to_parameters.html>`_.

    >>> from flaxnets import nn
    >>> layer = nn.Linear(1, 2, rngs=nnx.Rngs(0))
    >>> vector_to_parameters(jnp.arange(4.0), layer.parameters())
    >>> layer.bias[...].tolist()
    [2.0, 3.0]
    """
    if not isinstance(vec, (jax.Array, np.ndarray)):
        raise TypeError(f"vector_to_parameters: expected an array, got {type(vec).__name__}")
    start = 0
    for parameter in parameters:
        end = start + math.prod(parameter.shape)
        if end > len(vec):
            raise RuntimeError(f"vector_to_parameters: expected at least {end} elements, got {len(vec)}")
        parameter.set_value(jnp.asarray(vec[start:end]).reshape(parameter.shape))
        start = end
