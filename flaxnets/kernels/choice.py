"""Choose the backend, and the implementation of each layer for the backend, device, dtype and shape."""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.typing import DTypeLike

from flaxnets.kernels import cudnn, onednn, probe
from flaxnets.kernels._primitives import Library
from flaxnets.kernels.activation import sigmoid
from flaxnets.kernels.convolution import convolution
from flaxnets.kernels.convolution_nd import Window, convolution_nd, native_convolution
from flaxnets.kernels.grouped import grouped_convolution, is_small
from flaxnets.kernels.linear import linear
from flaxnets.kernels.normalization import batch_norm
from flaxnets.kernels.pooling import SHORT, max_pool, sum_pool
from flaxnets.kernels.products import product
from flaxnets.kernels.recurrence import LSTM, Cell, recurrence
from flaxnets.kernels.reductions import log_softmax, softmax, sum_by_rows
from flaxnets.kernels.windows import COMBINED, Taps, Windows

Backend = Literal["plain", "xla", "onednn", "cudnn"]
Implementation = Callable[..., Any]

_backend: contextvars.ContextVar[Backend] = contextvars.ContextVar("backend", default="plain")
_has_small_programs: contextvars.ContextVar[bool] = contextvars.ContextVar("small programs", default=False)


def _check(backend: str) -> None:
    if backend not in get_args(Backend):
        raise ValueError(
            f"backend must be auto, {', '.join(get_args(Backend)[:-1])} or {get_args(Backend)[-1]}, got {backend!r}"
        )


@contextlib.contextmanager
def use(backend: Backend) -> Iterator[None]:
    """Use the implementations of a backend in layers. The results are the same except for rounding.

    The context applies while a function is traced. Enter it inside the function that is passed to ``jax.jit``, or
    before the first call.

    Args:
        backend: ``"plain"``: the default, for every device. ``"xla"``: implementations that XLA compiles to faster
            programs on CPUs. ``"onednn"``: as ``"xla"``, with convolutions and large products of the oneDNN library in
            jaxlib. Use ``"onednn"`` only if :func:`choose` returns it, because its calls may end the process
            otherwise. ``"cudnn"``: the LSTM of cuDNN on a GPU. With all backends but ``"plain"``, recurrent layers
            have no forward-mode derivatives.

    Raises:
        ValueError: For an unknown backend.

    >>> from flaxnets.nn import functional as F
    >>> with use("xla"):
    ...     print(F.conv2d(jnp.ones((1, 1, 4, 4)), jnp.ones((1, 1, 3, 3))).shape)
    (1, 1, 2, 2)
    """
    _check(backend)
    token = _backend.set(backend)
    try:
        yield
    finally:
        _backend.reset(token)


@contextlib.contextmanager
def small_programs() -> Iterator[None]:
    """Trace grouped convolutions to small programs, for calls that run once and compile longer than they run.

    >>> from flaxnets.nn import functional as F
    >>> with small_programs():
    ...     print(F.conv1d(jnp.ones((1, 4, 4)), jnp.ones((2, 2, 3)), groups=2).tolist())
    [[[6.0, 6.0], [6.0, 6.0]]]
    """
    token = _has_small_programs.set(True)
    try:
        yield
    finally:
        _has_small_programs.reset(token)


def choose(backend: Literal["auto"] | Backend = "auto") -> Backend:
    """Return a checked backend. ``"auto"`` chooses oneDNN on one CPU device if oneDNN works, and plain on GPU and TPU.

    The first call for a version of jaxlib and a processor needs some seconds; see :mod:`flaxnets.kernels.probe`.

    Raises:
        ValueError: For an unknown backend.
        RuntimeError: If ``backend`` is oneDNN or cuDNN, and does not work on this machine.

    >>> choose() in ("plain", "xla", "onednn"), choose("plain")
    (True, 'plain')
    """
    if backend == "onednn" and not probe.passes():
        raise RuntimeError(
            f"backend='onednn' does not work with jaxlib {onednn.JAXLIB} on this processor. "
            "Fix: use backend='auto' or 'xla'"
        )
    if backend == "cudnn" and not cudnn.is_present():
        raise RuntimeError(
            f"backend='cudnn' needs one GPU and JAX's CUDA plugin, got {jax.device_count()} device of the platform "
            f"{jax.default_backend()!r}. Fix: use backend='auto'"
        )
    if backend != "auto":
        _check(backend)
        return backend
    if jax.default_backend() != "cpu":
        return "plain"
    return "onednn" if jax.device_count() == 1 and probe.passes() else "xla"


def _is_fast(*arrays: jax.Array | None) -> bool:
    """Return whether the backend's CPU implementations support these arrays.

    They support non-empty arrays of float32 and float64, and with oneDNN of bfloat16 if the processor has bfloat16
    instructions.
    """
    if _backend.get() not in ("xla", "onednn"):
        return False
    dtypes = [jnp.float32, jnp.float64]
    if _backend.get() == "onednn" and onednn.has_bfloat16():
        dtypes.append(jnp.bfloat16)
    return all(x.dtype in dtypes and x.size for x in arrays if x is not None)


def _library(x: jax.Array) -> Library:
    return "onednn" if _backend.get() == "onednn" and x.dtype in onednn.DTYPES else "xla"


def convolution_implementation(
    x: jax.Array, weight: jax.Array, window: Window, result: Literal["output", "input"] = "output"
) -> Implementation:
    """Return the convolution, a function of input, weight and bias; ``result="input"`` is the transposed convolution.

    The plain backend uses ``lax.conv_general_dilated`` on GPU and TPU, and mostly :func:`convolution_nd` on CPUs. CPUs
    use ``lax.conv_general_dilated`` for other dtypes, for explicitly sharded arrays, and for images with one group, no
    dilation and windows that are not patches, because XLA is fast with these outside of loops. Other backends use
    :func:`convolution` for images with one group.
    """
    if _has_small_programs.get() and result == "output" and is_small(x, window):
        return functools.partial(grouped_convolution, window=window)
    is_image = x.ndim == 4 and window.groups == 1 and result == "output"
    is_patches = window.is_blocks and max(window.kernel) > 1
    if _is_fast(x, weight):
        if is_image and not is_patches:
            sizes = {"stride": window.stride, "pads": window.pads, "dilation": window.dilation}
            return functools.partial(convolution, **sizes, library=_library(x))
        return functools.partial(
            convolution_nd, result=result, window=window._replace(channels_last=True, library=_library(x))
        )
    is_fast = is_image and not is_patches and max(window.dilation) == 1
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    implementation = convolution_nd if _is_plain_float(x, weight) else native_convolution
    return functools.partial(
        implementation, result=result, window=window._replace(precision=precision, is_fast=is_fast)
    )


def _is_plain_float(*arrays: jax.Array) -> bool:
    """Return whether CPU implementations support the dtypes, and sharding is left to the compiler."""
    supported = (jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64)
    meshes = [jax.typeof(x).sharding.mesh for x in arrays]
    is_auto = all(axis_type == AxisType.Auto for mesh in meshes for axis_type in mesh.axis_types)
    return is_auto and all(x.dtype in supported and x.size for x in arrays)


def linear_implementation(x: jax.Array, weight: jax.Array) -> Implementation | None:
    """Return oneDNN's product for weight matrices of float32 or bfloat16, or None."""
    if _backend.get() != "onednn" or weight.ndim != 2 or not _is_fast(x, weight):
        return None
    return linear if x.dtype == weight.dtype and x.dtype in onednn.DTYPES else None


def product_implementation(a: jax.Array, b: jax.Array, dtype: DTypeLike) -> Implementation | None:
    """Return oneDNN's product of stacks of matrices, with operands rounded to ``dtype``, or None."""
    if _backend.get() != "onednn" or dtype not in onednn.DTYPES or not (a.size and b.size):
        return None
    return functools.partial(product, dtype=dtype) if dtype == jnp.float32 or onednn.has_bfloat16() else None


def max_pool_implementation(x: jax.Array, windows: Windows) -> Implementation | None:
    """Return the backend's CPU implementation, a function of input and ``return_indices``, or None."""
    axes = _short_axes(x, windows) if _is_fast(x) else None
    return None if axes is None else functools.partial(max_pool, axes=axes, channels_last=True)


def default_max_pool_implementation(x: jax.Array, windows: Windows, is_differentiated: bool) -> Implementation | None:
    """Return the plain backend's implementation on CPUs, or None if ``lax.reduce_window`` is as fast.

    Without gradients, ``lax.reduce_window`` is slower only for short windows at every pixel of images.
    """
    is_image = len(windows.kernel) == 2
    if is_differentiated:
        is_slow = is_image or (len(windows.kernel) == 3 and windows.overlap)
    else:
        is_slow = is_image and windows.overlap and max(windows.stride) == 1 and max(windows.kernel) <= COMBINED
    axes = _short_axes(x, windows) if is_slow else None
    return None if axes is None else functools.partial(max_pool, axes=axes, channels_last=False)


def sum_pool_implementation(x: jax.Array, windows: Windows) -> Implementation | None:
    """Return the implementation on CPUs, or None."""
    axes = _short_axes(x, windows)
    return None if axes is None else functools.partial(sum_pool, axes=axes, channels_last=has_channels_last(x))


def sum_implementation(x: jax.Array) -> Implementation | None:
    """Return the backend's CPU implementation of the sum of all elements, or None.

    Half precision is excluded, because XLA accumulates its sums in float32.
    """
    return sum_by_rows if x.ndim and x.dtype.itemsize >= 4 and _is_fast(x) else None


def softmax_implementation(x: jax.Array, axis: int, log: bool) -> Implementation | None:
    """Return the backend's CPU implementation of the softmax or log-softmax of rows, or None."""
    if axis % x.ndim != x.ndim - 1 or not _is_fast(x):
        return None
    return log_softmax if log else softmax


def has_channels_last(x: jax.Array) -> bool:
    """Return whether the neighboring layers store an array channels-last."""
    return _is_fast(x)


def samples_channels_last(x: jax.Array, neighbours: int) -> bool:
    """Return whether to sample pixels as vectors of channels: on CPUs, if a sample is a weighted sum along an axis."""
    return neighbours > 1 and x.shape[1] >= 8 and jax.default_backend() == "cpu"


def _short_axes(x: jax.Array, windows: Windows) -> list[Taps] | None:
    """Return the windows of each axis for CPU implementations, or None if a window is long or contains only padding."""
    is_cpu = _is_fast(x) or (jax.default_backend() == "cpu" and _is_plain_float(x))
    if not is_cpu or max(windows.kernel) > SHORT:
        return None
    axes = [taps for axis in windows.axes if (taps := windows.taps(axis)) is not None]
    return axes if len(axes) == len(windows.axes) else None


def sigmoid_implementation(x: jax.Array) -> Implementation | None:
    """Return the CPU implementation for images with few channels, less than two SIMD vectors, or None."""
    return sigmoid if x.ndim == 4 and x.shape[1] < 32 and _is_fast(x) else None


def batch_norm_implementation(
    x: jax.Array, weight: jax.Array | None, bias: jax.Array | None, axis_name: str | None
) -> Implementation | None:
    """Return the CPU implementation of batch normalization in training, or None.

    The plain backend has an implementation for vectors, other backends have one for images, too. Both need weight and
    bias, and use the statistics of the batch on this device.
    """
    if weight is None or bias is None or axis_name is not None:
        return None
    if x.ndim == 2 and jax.default_backend() == "cpu":
        return batch_norm if _is_plain_float(x, weight, bias) else None
    return batch_norm if x.ndim == 4 and _is_fast(x, weight, bias) else None


def recurrence_implementation(
    cell: Cell, projected: jax.Array, weight: jax.Array, is_projected: bool
) -> Implementation | None:
    """Return the recurrence with explicit gradients for layers without ``proj_size``, or None."""
    if is_projected or not _is_fast(projected, weight):
        return None
    return functools.partial(recurrence, cell, _library(projected))


def lstm_implementation(cell: Cell, input: jax.Array, weight: jax.Array, is_projected: bool) -> Implementation | None:
    """Return cuDNN's LSTM for float32 and layers without ``proj_size``, or None."""
    if _backend.get() != "cudnn" or cell is not LSTM or is_projected or not input.size:
        return None
    return cudnn.lstm if input.dtype == weight.dtype == jnp.float32 else None
