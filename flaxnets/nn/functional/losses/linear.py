"""Cross entropy of a linear layer's outputs, computed in chunks."""

import dataclasses
import math
import warnings

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Num

from flaxnets.autocast import widen_operands
from flaxnets.nn.functional.linear import linear
from flaxnets.nn.functional.losses.classification import (
    check_classes,
    checked_weight,
    cross_entropy,
    target_losses,
    weighted_reduction,
)

_POLICIES = ("auto", "accurate", "balanced", "compact")
_DTYPES = ("float16", "bfloat16", "float32", "float64")


@dataclasses.dataclass(frozen=True, slots=True)
class LinearCrossEntropyOptions:
    """Options that split the batch of :func:`linear_cross_entropy` into chunks, to never hold all logits in memory.

    Attributes:
        allow_retain_graph: no effect; accepted for compatibility with torch.
        batch_chunk_size: number of examples per chunk.
        chunking_method: method to choose the chunk size without ``batch_chunk_size``. ``"aspect_ratio"`` makes a
            chunk's logits about as large as the input, ``"aspect_ratio:N"`` smaller by the factor ``N``, ``"auto"``
            means ``"aspect_ratio:2"``. None processes the batch as one chunk.
        acc_policy: ``"auto"``, ``"accurate"``, ``"balanced"`` or ``"compact"``. No effect; XLA chooses the
            intermediates to keep.
        acc_dtype: dtype of the logits. None means float32 for half-precision inputs, otherwise the input's dtype.

    Raises:
        ValueError: for an unknown value.

    See `torch.nn.LinearCrossEntropyOptions
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.LinearCrossEntropyOptions.html>`_.

    >>> LinearCrossEntropyOptions(batch_chunk_size=4).chunk_size(10, in_features=8, num_classes=100)
    4
    """

    allow_retain_graph: bool = False
    batch_chunk_size: int | None = None
    chunking_method: str | None = "auto"
    acc_policy: str = "auto"
    acc_dtype: DTypeLike | None = None

    def __post_init__(self):
        if self.acc_policy not in _POLICIES:
            raise ValueError(
                f"LinearCrossEntropyOptions: acc_policy must be one of {_POLICIES}, got {self.acc_policy!r}"
            )
        if self.chunking_method not in (None, "auto"):
            name, colon, factor = self.chunking_method.partition(":")
            if name != "aspect_ratio" or (colon and not (factor.isdigit() and int(factor) > 0)):
                raise ValueError(
                    "LinearCrossEntropyOptions: chunking_method must be None, 'auto', 'aspect_ratio' or "
                    f"'aspect_ratio:N', got {self.chunking_method!r}"
                )
        size = self.batch_chunk_size
        if size is not None and not (isinstance(size, int) and size > 0):
            raise ValueError(
                f"LinearCrossEntropyOptions: batch_chunk_size must be a positive int or None, got {size!r}"
            )
        if self.acc_dtype is not None and jnp.dtype(self.acc_dtype).name not in _DTYPES:
            raise ValueError(
                "LinearCrossEntropyOptions: acc_dtype must be None, float16, bfloat16, float32 or float64, "
                f"got {self.acc_dtype!r}"
            )

    def chunk_size(self, num_batches: int, in_features: int, num_classes: int) -> int:
        """Return the number of examples per chunk of a batch of ``num_batches`` examples.

        Raises:
            ValueError: if ``chunking_method`` and ``batch_chunk_size`` are both set and disagree.
        """
        size = self.batch_chunk_size
        if self.chunking_method is None or (self.chunking_method == "auto" and size is not None):
            return max(1, num_batches if size is None else min(size, num_batches))
        method = "aspect_ratio:2" if self.chunking_method == "auto" else self.chunking_method
        factor = int(method.partition(":")[2] or 1)
        target = -(-num_batches // max(1, -(-num_classes // in_features)))
        chosen = min((1 << (target - 1).bit_length()) // factor, num_batches)
        if size is not None and size != chosen:
            raise ValueError(
                f"LinearCrossEntropyOptions: batch_chunk_size {size} and the {chosen} of chunking_method {method!r} "
                "must agree. Fix: set only one of them"
            )
        return max(1, chosen)


def linear_cross_entropy(
    input: Float[Array, "*n in"],
    linear_weight: Float[Array, "c *d in"],
    target: Num[Array, "..."],
    *,
    linear_bias: Float[Array, "c *d"] | None = None,
    weight: Float[Array, " c"] | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: LinearCrossEntropyOptions | None = None,
) -> Float[Array, "..."]:
    """Cross entropy of ``input @ linear_weight.T + linear_bias``.

    Args:
        input: ``(in)`` or ``(N, in)``.
        linear_weight: ``(C, in)``, or ``(C, *d, in)`` for logits ``(N, C, *d)``.
        target: as in :func:`cross_entropy`.
        linear_bias: bias of the weight's shape without its last axis.
        weight: weight of each class.
        reduction: as in :func:`cross_entropy`.
        ignore_index: class index that contributes nothing. None means -100.
        label_smoothing: as in :func:`cross_entropy`.
        options: how to split the batch into chunks. Ignored, with a warning, unless targets are class indices, one per
            example, without smoothing.

    Raises:
        RuntimeError: as :func:`cross_entropy`, for incompatible shapes, an ``ignore_index`` with target probabilities,
            or an ``acc_dtype`` that is incompatible with the input's dtype.
        ValueError, IndexError: as :func:`cross_entropy`.

    See `torch.nn.functional.linear_cross_entropy
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.linear_cross_entropy.html>`_.

    >>> round(float(linear_cross_entropy(jnp.ones((1, 3)), jnp.zeros((2, 3)), jnp.array([1]))), 4)
    0.6931
    """
    input, target = jnp.asarray(input), jnp.asarray(target)
    _check_shapes(input, linear_weight, linear_bias)
    classes, *inner = linear_weight.shape[:-1]
    shape = (*input.shape[:-1], classes, *inner)
    if target.shape == shape and ignore_index is not None:
        raise RuntimeError(
            f"linear_cross_entropy: target probabilities do not support ignore_index, got {ignore_index}"
        )
    ignore_index = -100 if ignore_index is None else ignore_index
    if options is not None:
        indices = jnp.issubdtype(target.dtype, jnp.integer)
        if indices and not inner and label_smoothing == 0 and reduction in ("none", "mean", "sum"):
            return _chunked(input, linear_weight, target, linear_bias, weight, reduction, ignore_index, options)
        warnings.warn(
            "linear_cross_entropy: options are ignored. Chunks require class indices, no further axes, no smoothing "
            f"and a standard reduction, got a target of {target.dtype}, further axes {tuple(inner)}, label_smoothing="
            f"{label_smoothing} and reduction={reduction!r}",
            UserWarning,
            stacklevel=2,
        )
    outputs = classes * math.prod(inner)
    bias = None if linear_bias is None else linear_bias.reshape(outputs)
    logits = linear(input, linear_weight.reshape(outputs, -1), bias).reshape(shape)
    logits, target = widen_operands(logits, target)
    return cross_entropy(
        logits, target, weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing
    )


def _check_shapes(input: jax.Array, weight: jax.Array, bias: jax.Array | None) -> None:
    shapes = f"an input of shape {input.shape} and a linear_weight of shape {weight.shape}"
    if input.ndim not in (1, 2):
        raise RuntimeError(f"linear_cross_entropy: expected an input of shape (in) or (N, in), got {shapes}")
    if weight.ndim < 2:
        raise RuntimeError(f"linear_cross_entropy: expected a linear_weight of shape (C, *, in), got {shapes}")
    if input.shape[-1] != weight.shape[-1]:
        raise RuntimeError(f"linear_cross_entropy: the last axes must have the same size, got {shapes}")
    if bias is not None and bias.shape != weight.shape[:-1]:
        raise RuntimeError(
            f"linear_cross_entropy: linear_bias must have the shape {weight.shape[:-1]}, got {bias.shape}"
        )
    if weight.ndim > 2 and input.ndim == 1:
        raise RuntimeError(f"linear_cross_entropy: further axes require an input with a batch, got {shapes}")


def _chunked(
    input: jax.Array,
    linear_weight: jax.Array,
    target: jax.Array,
    linear_bias: jax.Array | None,
    weight: jax.Array | None,
    reduction: str,
    ignore_index: int,
    options: LinearCrossEntropyOptions,
) -> jax.Array:
    """Loop over chunks; the gradient recomputes the logits of each chunk."""
    rows = input[None] if input.ndim == 1 else input
    targets = target[None] if input.ndim == 1 else target
    if targets.shape != rows.shape[:1]:
        raise RuntimeError(
            f"linear_cross_entropy: expected a target of shape {input.shape[:-1]} with options, got {target.shape}"
        )
    half = input.dtype in (jnp.float16, jnp.bfloat16)
    dtype = options.acc_dtype or (jnp.float32 if half else input.dtype)
    if dtype != input.dtype and not (half and dtype == jnp.float32):
        raise RuntimeError(
            f"linear_cross_entropy: acc_dtype must be the input's dtype, or float32 for half precision, got "
            f"{jnp.dtype(dtype)} for {input.dtype}"
        )
    classes = linear_weight.shape[0]
    check_classes(targets, classes, ignore_index, "linear_cross_entropy")
    if weight is not None:
        weight = checked_weight(weight, classes, input, "linear_cross_entropy").astype(dtype)
    size = options.chunk_size(rows.shape[0], rows.shape[1], classes)
    count = -(-rows.shape[0] // size)
    missing = count * size - rows.shape[0]

    @jax.checkpoint
    def chunk(part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, labels = part
        logits = jax.lax.dot_general(x, linear_weight, (((1,), (1,)), ((), ())), preferred_element_type=dtype)
        if linear_bias is not None:
            logits = logits + linear_bias.astype(dtype)[None]
        log_probs = jax.nn.log_softmax(logits, axis=1)
        return target_losses(log_probs, labels, weight, ignore_index, "linear_cross_entropy")

    rows = jnp.pad(rows, ((0, missing), (0, 0))).reshape(count, size, -1)
    targets = jnp.pad(targets.astype(int), (0, missing), constant_values=ignore_index).reshape(count, size)
    losses, weights = (each.reshape(-1)[: count * size - missing] for each in jax.lax.map(chunk, (rows, targets)))
    result = weighted_reduction(losses, weights, reduction).astype(input.dtype)
    return result.reshape(input.shape[:-1]) if reduction == "none" else result
