"""Conversion of torch's names of devices and dtypes to JAX's."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

_PLATFORMS = {"cuda": "gpu", "hip": "gpu"}


def as_dtype(dtype: Any) -> Any:
    """Return a numpy dtype from a numpy, jax or torch dtype or its name; torch need not be installed.

    >>> as_dtype("bfloat16"), as_dtype(jnp.float32)
    (dtype(bfloat16), dtype('float32'))
    """
    return jnp.dtype(str(dtype).removeprefix("torch.") if _is_torchs(dtype, "dtype") else dtype)


def as_device(device: Any) -> Any:
    """Return a JAX device or sharding from itself, or from torch's name of a device: ``"cuda:1"``, ``"cpu"``, ``1``.

    Raises:
        RuntimeError: for an unknown device.

    >>> as_device("cpu").platform
    'cpu'
    """
    if isinstance(device, (jax.Device, jax.sharding.Sharding)):
        return device
    name = f"cuda:{device}" if isinstance(device, int) and not isinstance(device, bool) else str(device)
    platform, _, number = name.partition(":")
    try:
        return jax.local_devices(backend=_PLATFORMS.get(platform, platform))[int(number or 0)]
    except (RuntimeError, IndexError, ValueError):
        devices = ", ".join(str(each) for each in jax.local_devices())
        advice = (
            "construct the module under nnx.eval_shape for shapes without values"
            if platform == "meta"
            else "install JAX for that device, or pass one of jax.devices()"
        )
        raise RuntimeError(
            f"there is no device {name!r}. Expected one of this process's JAX devices: {devices}. Fix: {advice}."
        ) from None


def parse_to(args: tuple[Any, ...], device: Any, dtype: Any) -> tuple[Any, Any]:
    """Return the device and the dtype (None if missing) of the arguments of ``Module.to``.

    Raises:
        TypeError: for other arguments, and for a dtype that is neither floating-point nor complex.
        RuntimeError: for an unknown device.
    """
    if args and _is_tensor(args[0]):
        device, dtype = _device_of(args[0]), args[0].dtype
    elif args:
        first, *rest = args
        if _is_dtype(first):
            dtype = first
        else:
            device = first
            dtype = rest[0] if rest else dtype
    dtype = None if dtype is None else as_dtype(dtype)
    if dtype is not None and not jnp.issubdtype(dtype, jnp.inexact):
        raise TypeError(f"Module.to: expected a floating-point or complex dtype, got {dtype}")
    return None if device is None else as_device(device), dtype


def _is_torchs(value: Any, name: str) -> bool:
    return type(value).__module__.partition(".")[0] == "torch" and type(value).__name__ == name


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape") and not isinstance(value, (type, jnp.dtype))


def _device_of(tensor: Any) -> Any:
    return tensor.sharding if isinstance(tensor, jax.Array) else getattr(tensor, "device", None)


def _is_dtype(value: Any) -> bool:
    if value is None or isinstance(value, (int, jax.Device, jax.sharding.Sharding)) or _is_torchs(value, "device"):
        return False
    try:
        as_dtype(value)
    except TypeError:
        if isinstance(value, str):
            return False
        raise TypeError(
            f"Module.to: expected a device (for example 'cpu' or jax.devices()[0]), a dtype or an array, got {value!r}"
        ) from None
    return True


def moved(array: Any, device: Any) -> Any:
    """Return the array on this device or with this sharding; the same object if already there."""
    if not isinstance(array, jax.Array):
        return array
    there = isinstance(device, jax.Device) and not isinstance(array, Tracer) and array.devices() == {device}
    return array if there else jax.device_put(array, device)
