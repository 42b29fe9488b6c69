"""Convolutions and matrix products of the oneDNN library in jaxlib's CPU backend.

The custom calls are neither documented nor stable, and an invalid call ends the process. Therefore, only tested
versions of jaxlib are supported, and the arguments of every call are checked.
"""

import functools
import json
import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from flaxnets._warnings import add_ignore_filter
from flaxnets.xla import JAXLIB

# The dtypes of the calls. Sums are accumulated in float32 for both.
DTYPES = (jnp.float32, jnp.bfloat16)
# The versions of jaxlib with which these calls were tested.
VERSIONS = ("0.10.2", "0.11.2", "0.12.0.1")
CPUINFO = Path("/proc/cpuinfo")

Pads = Sequence[tuple[int, int]]


def is_supported() -> bool:
    """Return whether this version of jaxlib is supported. :mod:`flaxnets.kernels.probe` tests whether calls work."""
    return JAXLIB in VERSIONS and platform.machine() == "x86_64"


def processor() -> dict[str, str]:
    """Return Linux's fields of the first processor, such as ``model name`` and ``flags``; empty on other systems."""
    try:
        text = CPUINFO.read_text().split("\n\n")[0]
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


@functools.cache
def has_bfloat16() -> bool:
    """Return whether the processor has bfloat16 instructions. Without them, oneDNN is faster with float32.

    >>> has_bfloat16() in (True, False)
    True
    """
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(processor().get("flags", "").split())


def _call(
    target: str,
    key: str,
    config: Mapping[str, Any],
    shape: tuple[int, ...],
    *operands: jax.Array,
    dtype: DTypeLike | None = None,
) -> jax.Array:
    if not is_supported():
        raise ValueError(f"{target}: jaxlib must be one of the versions {VERSIONS}, got {JAXLIB}")
    dtypes = {array.dtype for array in operands}
    if len(dtypes) > 1 or not dtypes <= {*map(jnp.dtype, DTYPES)}:
        names = ", ".join(array.dtype.name for array in operands)
        raise ValueError(f"{target}: operands must all be of float32 or all of bfloat16, got {names}")
    for sizes in (shape, *(array.shape for array in operands)):
        if min(sizes) < 1 or math.prod(sizes) >= 2**31:
            raise ValueError(f"{target}: arrays must have elements, and fewer than 2**31, got the shape {sizes}")
    options = json.dumps({key: config})
    # jaxlib cannot serialize a program with these calls, so the persistent compilation cache cannot store it.
    add_ignore_filter(r"Error writing persistent compilation cache entry for .*std::bad_alloc")
    result = jax.ShapeDtypeStruct(shape, operands[0].dtype if dtype is None else dtype)
    return jax.ffi.ffi_call(target, result, custom_call_api_version=2, legacy_backend_config=options)(*operands)


def _layout(axes: Sequence[int]) -> dict[str, Any]:
    return {
        "dims": len(axes),
        "data": {"batch_dim": axes[0], "feature_dim": axes[1], "spatial_dims": list(axes[2:])},
    }


def convolution(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: Sequence[int],
    pads: Pads,
    dilation: Sequence[int],
    data_axes: Sequence[int],
    kernel_axes: Sequence[int],
    groups: int = 1,
) -> jax.Array:
    """Cross-correlate.

    Args:
        x: Input. All arrays are float32 or bfloat16.
        kernel: Kernel, with the same number of axes.
        stride: Stride along each spatial axis.
        pads: Padding before and after each spatial axis, not negative.
        dilation: Dilation along each spatial axis.
        data_axes: Axes of batch, channels and space in ``x`` and in the result.
        kernel_axes: Axes of the input channels of one group, the output channels of all groups, and space.
        groups: Number of groups.

    Raises:
        ValueError: For arguments that would end the process.

    >>> convolution(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)), stride=(1, 1), pads=((0, 0), (0, 0)),
    ...     dilation=(1, 1), data_axes=(0, 3, 1, 2), kernel_axes=(2, 3, 0, 1)).ravel().tolist()
    [9.0, 9.0, 9.0, 9.0]
    """
    shape = [0] * x.ndim
    shape[data_axes[0]], shape[data_axes[1]] = x.shape[data_axes[0]], kernel.shape[kernel_axes[1]]
    sizes = [kernel.shape[axis] for axis in kernel_axes[2:]]
    for axis, size, step, pad, dil in zip(data_axes[2:], sizes, stride, pads, dilation, strict=True):
        if min(pad) < 0 or min(step, dil) < 1:
            raise ValueError(f"convolution: no negative padding or step, got {pads=}, {stride=}, {dilation=}")
        shape[axis] = (x.shape[axis] + sum(pad) - dil * (size - 1) - 1) // step + 1
    inputs, outputs = (kernel.shape[axis] for axis in kernel_axes[:2])
    if x.ndim != kernel.ndim or x.shape[data_axes[1]] != groups * inputs or outputs % groups:
        raise ValueError(f"convolution: shapes {x.shape} and {kernel.shape} do not fit with {groups=}")
    filter = {
        "input_feature_dim": kernel_axes[0],
        "output_feature_dim": kernel_axes[1],
        "spatial_dims": list(kernel_axes[2:]),
    }
    window = {
        "size": sizes,
        "pad_left": [before for before, _ in pads],
        "pad_right": [after for _, after in pads],
        "strides": list(stride),
        "window_dilations": list(dilation),
    }
    config = {
        "dims": x.ndim,
        "input": _layout(data_axes),
        "kernel": {"dims": kernel.ndim, "filter": filter},
        "output": _layout(data_axes),
        "window": window,
        "feature_groups": groups,
    }
    return _call("__onednn$convolution", "onednn_conv_config", config, tuple(shape), x, kernel)


def matmul(
    a: jax.Array,
    b: jax.Array,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    dtype: DTypeLike | None = None,
) -> jax.Array:
    """Compute ``a @ b`` for matrices of float32 or bfloat16, with optional transposes.

    Stacks of matrices must have the same leading axes. ``dtype`` is the dtype of the result, by default that of the
    operands. Operands of bfloat16 may have a result of float32.

    Raises:
        ValueError: For arguments that would end the process.

    >>> matmul(jnp.ones((3, 2)), jnp.ones((3, 2)), transpose_a=True).tolist()
    [[3.0, 3.0], [3.0, 3.0]]
    """
    inner, rows = a.shape[-2:] if transpose_a else a.shape[:-3:-1]
    columns, depth = b.shape[-2:] if transpose_b else b.shape[:-3:-1]
    if inner != depth or a.shape[:-2] != b.shape[:-2]:
        raise ValueError(f"matmul: shapes {a.shape} and {b.shape} do not fit with {transpose_a=}, {transpose_b=}")
    if dtype not in (None, a.dtype, jnp.float32):
        raise ValueError(f"matmul: the result of {a.dtype} must be of float32 or the same, got {jnp.dtype(dtype)}")
    config = {"transpose_a": transpose_a, "transpose_b": transpose_b}
    shape = (*a.shape[:-2], rows, columns)
    return _call("__onednn$matmul", "onednn_matmul_config", config, shape, a, b, dtype=dtype)
