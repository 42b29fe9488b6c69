"""Conversion of torch tensors to arrays, without importing torch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_REMEDIES = {
    "is_meta": "a tensor on torch's meta device, which has no values; torch.load(..., map_location='cpu') reads them",
    "is_quantized": "a quantized tensor; convert it with .dequantize()",
    "is_nested": "a nested tensor, whose rows differ in length; convert it with torch.nested.to_padded_tensor",
}


def check_convertible(value: Any) -> None:
    """Raise TypeError, with a description of the value, unless :func:`to_array` can convert it.

    Views, tensors that require gradients, and bfloat16, float8 and complex32 tensors can be converted.
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
        raise TypeError(f"a tensor with the layout {layout}; convert it with .to_dense()")
    if hasattr(value, "full_tensor"):
        raise TypeError(f"a {type(value).__name__}, which is sharded over devices; convert it with .full_tensor()")
    try:
        dtype_of(value)
    except TypeError:
        raise TypeError(f"a tensor of dtype {value.dtype}, which neither numpy nor JAX has") from None


def is_uninitialized(value: Any) -> bool:
    """Return whether this is an UninitializedParameter or UninitializedBuffer of torch."""
    return hasattr(value, "detach") and hasattr(value, "materialize")


def dtype_of(value: Any) -> np.dtype:
    """Return the dtype of the array that :func:`to_array` returns for a value."""
    name = str(value.dtype).removeprefix("torch.")
    # Neither NumPy nor JAX has complex32, and complex64 represents all of its values.
    return np.dtype(jnp.dtype("complex64" if name == "complex32" else name))


def to_array(value: Any) -> Any:
    """Convert a torch tensor to a NumPy array with the same values; return NumPy and JAX arrays unchanged."""
    if not hasattr(value, "detach"):
        return value
    tensor, dtype = value.detach().cpu().resolve_conj().resolve_neg(), dtype_of(value)
    if str(tensor.dtype) == "torch.complex32":
        return tensor.real.float().numpy() + 1j * tensor.imag.float().numpy()
    if dtype == jnp.bfloat16 or dtype.name.startswith("float8"):
        # Torch cannot convert these dtypes to NumPy, and float32 represents all of their values exactly.
        return tensor.float().numpy().astype(dtype)
    return tensor.numpy()
