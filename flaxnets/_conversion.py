"""Arrays from tensors of torch, which need not be installed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_REMEDIES = {
    "is_meta": "a tensor on torch's meta device, which has no values; torch.load(..., map_location='cpu') reads them",
    "is_quantized": "a quantised tensor; its .dequantize() is an array",
    "is_nested": "a nested tensor, whose rows differ in length; torch.nested.to_padded_tensor makes an array of it",
}


def check_convertible(value: Any) -> None:
    """Raise TypeError, with a description of the value, unless :func:`to_array` can convert it.

    Views of every kind, tensors that require gradients, and bfloat16, float8 and complex32 tensors can be converted.
    """
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "OSUMm":
        raise TypeError(f"a numpy array of dtype {value.dtype}")
    if isinstance(value, (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)):
        return
    if not hasattr(value, "detach"):
        raise TypeError(f"an object of type {type(value).__name__}")
    if is_uninitialized(value):
        raise TypeError("an uninitialized tensor of a lazy module, which has no shape before its module's first call")
    for attribute, description in _REMEDIES.items():
        if getattr(value, attribute, False):
            raise TypeError(description)
    layout = str(getattr(value, "layout", "torch.strided")).removeprefix("torch.").removeprefix("_")
    if layout != "strided":
        raise TypeError(f"a tensor with the layout {layout}; its .to_dense() is an array")
    if hasattr(value, "full_tensor"):
        raise TypeError(f"a {type(value).__name__}, which is spread over devices; its .full_tensor() is an array")
    try:
        dtype_of(value)
    except TypeError:
        raise TypeError(f"a tensor of dtype {value.dtype}, which neither numpy nor JAX has") from None


def is_uninitialized(value: Any) -> bool:
    """Return whether this is an UninitializedParameter or UninitializedBuffer of torch."""
    return hasattr(value, "detach") and hasattr(value, "materialize")


def dtype_of(value: Any) -> np.dtype:
    """Return the dtype of the array that :func:`to_array` makes of a value."""
    name = str(value.dtype).removeprefix("torch.")
    # Neither numpy nor JAX has complex32, and complex64 holds all its values.
    return np.dtype(jnp.dtype("complex64" if name == "complex32" else name))


def to_array(value: Any) -> Any:
    """Return a numpy or jax array for a numpy, jax or torch one, with the same values and dtype."""
    if not hasattr(value, "detach"):
        return value
    tensor, dtype = value.detach().cpu().resolve_conj().resolve_neg(), dtype_of(value)
    if str(tensor.dtype) == "torch.complex32":
        return tensor.real.float().numpy() + 1j * tensor.imag.float().numpy()
    if dtype == jnp.bfloat16 or dtype.name.startswith("float8"):
        # Torch gives numpy no such arrays, and float32 holds all their values exactly.
        return tensor.float().numpy().astype(dtype)
    return tensor.numpy()
