"""Which form each layer's computation takes: the one place that decides."""

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

Kind = Literal["plain", "xla", "onednn", "cudnn"]
Form = Callable[..., Any]

_kind: contextvars.ContextVar[Kind] = contextvars.ContextVar("kernels", default="plain")
_has_small_programs: contextvars.ContextVar[bool] = contextvars.ContextVar("small programs", default=False)


def _check(kind: str) -> None:
    if kind not in get_args(Kind):
        raise ValueError(
            f"kernels must be auto, {', '.join(get_args(Kind)[:-1])} or {get_args(Kind)[-1]}, got {kind!r}"
        )


@contextlib.contextmanager
def use(kind: Kind) -> Iterator[None]:
    """Within it layers compute in forms that are faster, to the same numbers.

    It counts while a function is traced: enter it inside what is given to ``jax.jit``, or before the first call.

    Args:
        kind: ``"plain"``: as everywhere else. ``"xla"``: forms that XLA compiles to faster programs on CPUs.
            ``"onednn"``: these, and convolutions and large products of the oneDNN library inside jaxlib, where
            :func:`choose` says so; elsewhere a call of them may end the process. ``"cudnn"``: cuDNN's LSTM on a GPU.
            Recurrent layers have no forward-mode derivatives within any but the first.

    Raises:
        ValueError: for another kind.

    >>> from flaxnets.nn import functional as F
    >>> with use("xla"):
    ...     print(F.conv2d(jnp.ones((1, 1, 4, 4)), jnp.ones((1, 1, 3, 3))).shape)
    (1, 1, 2, 2)
    """
    _check(kind)
    token = _kind.set(kind)
    try:
        yield
    finally:
        _kind.reset(token)


@contextlib.contextmanager
def small_programs() -> Iterator[None]:
    """Within it convolutions with groups are traced to small programs, for what runs once: compilation takes longer.

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


def choose(kernels: Literal["auto"] | Kind = "auto") -> Kind:
    """What is given, or the fastest that is right here: oneDNN on one CPU device if it works, plain on GPU and TPU.

    The first call for a version of jaxlib and a processor takes some seconds, see :mod:`flaxnets.kernels.probe`.

    Raises:
        ValueError: for another kind.
        RuntimeError: if oneDNN or cuDNN is asked for, and does not work.

    >>> choose() in ("plain", "xla", "onednn"), choose("plain")
    (True, 'plain')
    """
    if kernels == "onednn" and not probe.passes():
        raise RuntimeError(
            f"kernels='onednn' does not work with jaxlib {onednn.JAXLIB} on this processor; take 'auto' or 'xla'"
        )
    if kernels == "cudnn" and not cudnn.is_present():
        raise RuntimeError(
            f"kernels='cudnn' takes one GPU and JAX's CUDA plugin, got {jax.device_count()} device of the backend "
            f"{jax.default_backend()!r}; take 'auto'"
        )
    if kernels != "auto":
        _check(kernels)
        return kernels
    if jax.default_backend() != "cpu":
        return "plain"
    return "onednn" if jax.device_count() == 1 and probe.passes() else "xla"


def _is_fast(*arrays: jax.Array | None) -> bool:
    """Whether the CPU implementations are used: they support non-empty arrays of float32, float64 and, with oneDNN,
    of bfloat16 where the processor has instructions for it.
    """
    if _kind.get() not in ("xla", "onednn"):
        return False
    dtypes = [jnp.float32, jnp.float64]
    if _kind.get() == "onednn" and onednn.has_bfloat16():
        dtypes.append(jnp.bfloat16)
    return all(x.dtype in dtypes and x.size for x in arrays if x is not None)


def _library(x: jax.Array) -> Library:
    return "onednn" if _kind.get() == "onednn" and x.dtype in onednn.DTYPES else "xla"


def convolution_form(
    x: jax.Array, weight: jax.Array, window: Window, result: Literal["output", "input"] = "output"
) -> Form:
    """A function of input, weight and bias; ``result="input"`` is the transposed convolution.

    By default ``lax.conv_general_dilated`` on GPU and TPU, and another implementation on CPUs. CPUs keep XLA's for
    other dtypes, for arrays that the user divides among devices, and for images in one group without dilation whose
    windows are no patches: XLA is fast with these outside of loops. Within :func:`use` XLA's or oneDNN's
    implementation for images in one group, of float32 and float64.
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
    """Whether CPU implementations know the dtypes, and the compiler alone divides the arrays among devices."""
    known = (jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64)
    meshes = [jax.typeof(x).sharding.mesh for x in arrays]
    is_auto = all(kind == AxisType.Auto for mesh in meshes for kind in mesh.axis_types)
    return is_auto and all(x.dtype in known and x.size for x in arrays)


def linear_form(x: jax.Array, weight: jax.Array) -> Form | None:
    """oneDNN's, for weights that are matrices of float32 or bfloat16."""
    if _kind.get() != "onednn" or weight.ndim != 2 or not _is_fast(x, weight):
        return None
    return linear if x.dtype == weight.dtype and x.dtype in onednn.DTYPES else None


def product_form(a: jax.Array, b: jax.Array, dtype: DTypeLike) -> Form | None:
    """Return oneDNN's product of stacks of matrices that are rounded to ``dtype``, or None."""
    if _kind.get() != "onednn" or dtype not in onednn.DTYPES or not (a.size and b.size):
        return None
    return functools.partial(product, dtype=dtype) if dtype == jnp.float32 or onednn.has_bfloat16() else None


def max_pool_form(x: jax.Array, windows: Windows) -> Form | None:
    """Return the CPU implementation within :func:`use`, a function of input and ``return_indices``, or None."""
    axes = _short_axes(x, windows) if _is_fast(x) else None
    return None if axes is None else functools.partial(max_pool, axes=axes, channels_last=True)


def default_max_pool_form(x: jax.Array, windows: Windows, is_differentiated: bool) -> Form | None:
    """Return the default implementation on CPUs, or None where XLA's own is as fast.

    Without gradients XLA's is, apart from short windows at each pixel of images.
    """
    is_image = len(windows.kernel) == 2
    if is_differentiated:
        is_slow = is_image or (len(windows.kernel) == 3 and windows.overlap)
    else:
        is_slow = is_image and windows.overlap and max(windows.stride) == 1 and max(windows.kernel) <= COMBINED
    axes = _short_axes(x, windows) if is_slow else None
    return None if axes is None else functools.partial(max_pool, axes=axes, channels_last=False)


def sum_pool_form(x: jax.Array, windows: Windows) -> Form | None:
    """Return the implementation on CPUs, or None."""
    axes = _short_axes(x, windows)
    return None if axes is None else functools.partial(sum_pool, axes=axes, channels_last=has_channels_last(x))


def sum_form(x: jax.Array) -> Form | None:
    """Return the CPU implementation of the sum of all elements within :func:`use`, or None.

    XLA adds half precision up in float32.
    """
    return sum_by_rows if x.ndim and x.dtype.itemsize >= 4 and _is_fast(x) else None


def softmax_form(x: jax.Array, axis: int, log: bool) -> Form | None:
    """Return the CPU implementation of the softmax of rows, or of its logarithm, within :func:`use`, or None."""
    if axis % x.ndim != x.ndim - 1 or not _is_fast(x):
        return None
    return log_softmax if log else softmax


def has_channels_last(x: jax.Array) -> bool:
    """Whether the layers around store the channels of an array last."""
    return _is_fast(x)


def samples_channels_last(x: jax.Array, neighbours: int) -> bool:
    """Whether CPUs sample pixels as vectors of channels: if samples are sums of several ones along an axis."""
    return neighbours > 1 and x.shape[1] >= 8 and jax.default_backend() == "cpu"


def _short_axes(x: jax.Array, windows: Windows) -> list[Taps] | None:
    """The windows of each axis, of floats on CPUs; None if a window is long or holds padding alone."""
    is_cpu = _is_fast(x) or (jax.default_backend() == "cpu" and _is_plain_float(x))
    if not is_cpu or max(windows.kernel) > SHORT:
        return None
    axes = [taps for axis in windows.axes if (taps := windows.taps(axis)) is not None]
    return axes if len(axes) == len(windows.axes) else None


def sigmoid_form(x: jax.Array) -> Form | None:
    """For images with fewer channels than two vectors hold."""
    return sigmoid if x.ndim == 4 and x.shape[1] < 32 and _is_fast(x) else None


def batch_norm_form(
    x: jax.Array, weight: jax.Array | None, bias: jax.Array | None, axis_name: str | None
) -> Form | None:
    """For vectors on CPUs, and for images within :func:`use`; with both parameters, in training, by the statistics of
    this device's batch.
    """
    if weight is None or bias is None or axis_name is not None:
        return None
    if x.ndim == 2 and jax.default_backend() == "cpu":
        return batch_norm if _is_plain_float(x, weight, bias) else None
    return batch_norm if x.ndim == 4 and _is_fast(x, weight, bias) else None


def recurrence_form(cell: Cell, projected: jax.Array, weight: jax.Array, is_projected: bool) -> Form | None:
    """For states that are not themselves projected; oneDNN's gradient of a weight of float32."""
    if is_projected or not _is_fast(projected, weight):
        return None
    return functools.partial(recurrence, cell, _library(projected))


def lstm_form(cell: Cell, input: jax.Array, weight: jax.Array, is_projected: bool) -> Form | None:
    """cuDNN's, of float32 and states that are not themselves projected."""
    if _kind.get() != "cudnn" or cell is not LSTM or is_projected or not input.size:
        return None
    return cudnn.lstm if input.dtype == weight.dtype == jnp.float32 else None
