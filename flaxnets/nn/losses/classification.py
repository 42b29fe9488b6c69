"""Losses for multi-class classification."""

import math
import warnings

import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Integer, Num

from flaxnets.nn import functional as F
from flaxnets.nn.functional.losses.linear import LinearCrossEntropyOptions
from flaxnets.nn.linear import Linear
from flaxnets.nn.losses._base import WeightedLoss


class NLLLoss(WeightedLoss):
    """Negative log-likelihood: the target class's log-probability, times -1 and the class's weight.

    Buffers: ``weight (C,)``, if passed.

    Args:
        weight: weight of each class.
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        ignore_index: target value that contributes nothing.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"`` (one loss per target), ``"sum"``, or ``"mean"``, which divides the sum by the sum of the
            targets' weights; NaN if that is zero.

    Raises:
        ValueError: when called, if the batch sizes differ, or for an unknown reduction.
        RuntimeError: when called, if other sizes differ.
        IndexError: when called, if a known target is out of range. Unknown targets out of range (under jit) give NaN.

    See `torch.nn.NLLLoss <https://docs.pytorch.org/docs/stable/generated/torch.nn.NLLLoss.html>`_.

    >>> float(NLLLoss()(jnp.array([[-1.0, -2.0]]), jnp.array([1])))
    2.0
    """

    def __init__(
        self,
        weight: ArrayLike | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
    ):
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index = ignore_index

    def __call__(self, input: Float[Array, "..."], target: Integer[Array, "..."]) -> Float[Array, "..."]:
        """Return the loss of log-probabilities ``(C)``, ``(N, C)`` or ``(N, C, *)``; targets lack the axis ``C``."""
        return F.nll_loss(input, target, self._weight(), ignore_index=self.ignore_index, reduction=self.reduction)


class NLLLoss2d(NLLLoss):
    """Deprecated alias of :class:`NLLLoss`; the constructor warns with FutureWarning, as in torch.

    >>> import warnings
    >>> with warnings.catch_warnings(action="ignore"):
    ...     loss = NLLLoss2d()
    >>> float(loss(jnp.full((1, 2, 1, 1), -1.0), jnp.zeros((1, 1, 1), int)))
    1.0
    """

    def __init__(
        self,
        weight: ArrayLike | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
    ):
        warnings.warn("NLLLoss2d is deprecated, please use NLLLoss instead.", FutureWarning, stacklevel=2)
        super().__init__(weight, size_average, ignore_index, reduce, reduction)


class CrossEntropyLoss(WeightedLoss):
    """Cross entropy of the softmax of the input with class indices or class probabilities as targets.

    Buffers: ``weight (C,)``, if passed.

    Args:
        weight: weight of each class.
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        ignore_index: class index that contributes nothing.
        reduce: deprecated. False means ``"none"``.
        reduction: as in :class:`NLLLoss`. For probabilities, the mean divides by the number of targets.
        label_smoothing: share of the target that the uniform distribution replaces (arXiv:1512.00567).

    Raises:
        ValueError, IndexError: as :class:`NLLLoss`.
        RuntimeError: as :class:`NLLLoss`, and for a smoothing above 1, or, with target probabilities, an
            ``ignore_index`` that is a class.

    See `torch.nn.CrossEntropyLoss <https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html>`_.

    >>> round(float(CrossEntropyLoss()(jnp.zeros((1, 2)), jnp.array([1]))), 4)
    0.6931
    """

    def __init__(
        self,
        weight: ArrayLike | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ):
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def __call__(self, input: Float[Array, "..."], target: Num[Array, "..."]) -> Float[Array, "..."]:
        """Return the loss of logits ``(C)``, ``(N, C)`` or ``(N, C, *)``; targets lack ``C`` or have the same shape."""
        return F.cross_entropy(
            input,
            target,
            self._weight(),
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class LinearCrossEntropyLoss(WeightedLoss):
    """Linear layer followed by the cross entropy of its outputs.

    Parameters: those of the :class:`Linear` layer ``linear``, with ``num_classes * prod(out_features)`` outputs.
    Buffers: ``weight (num_classes,)``, if passed.

    Args:
        in_features: size of the input's last axis.
        num_classes: the number of classes ``C``.
        out_features: further axes ``*d`` of the logits ``(N, C, *d)``.
        bias: whether the linear layer has a bias.
        dtype: parameter dtype. Default: float32.
        reduction: as in :class:`CrossEntropyLoss`.
        weight: weight of each class.
        ignore_index: class index that contributes nothing. None means -100.
        label_smoothing: as in :class:`CrossEntropyLoss`.
        options: how to split the batch into chunks, so that the whole logits never exist in memory.
        rngs: random number generators for the initial weights.

    Raises:
        RuntimeError: if the weight has the wrong size, or the smoothing is not between 0 and 1; when called, as
            :class:`CrossEntropyLoss`.

    See `torch.nn.LinearCrossEntropyLoss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.LinearCrossEntropyLoss.html>`_.

    >>> loss = LinearCrossEntropyLoss(5, 10, rngs=nnx.Rngs(0))
    >>> loss(jnp.ones((2, 5)), jnp.array([3, 4])).shape
    ()
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        dtype: DTypeLike = jnp.float32,
        reduction: str = "mean",
        weight: ArrayLike | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        options: LinearCrossEntropyOptions | None = None,
        rngs: nnx.Rngs,
    ):
        if weight is not None and jnp.shape(weight) != (num_classes,):
            raise RuntimeError(
                f"LinearCrossEntropyLoss: weight must have the shape ({num_classes},), got {jnp.shape(weight)}"
            )
        if not 0 <= label_smoothing <= 1:
            raise RuntimeError(
                f"LinearCrossEntropyLoss: label_smoothing must be between 0 and 1, got {label_smoothing}"
            )
        super().__init__(weight, reduction=reduction)
        self.num_classes = num_classes
        self.out_features = tuple(out_features)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self.linear = Linear(in_features, math.prod(out_features, start=num_classes), bias, dtype, rngs=rngs)
        self.options = options

    def extra_repr(self) -> str:
        """Return the arguments for ``repr``."""
        sizes = f"in_features={self.linear.in_features}, num_classes={self.num_classes}"
        outputs = f"out_features={self.out_features}, bias={self.linear.bias is not None}"
        rest = ("reduction", "ignore_index", "label_smoothing", "options")
        return ", ".join([sizes, outputs, *(f"{name}={getattr(self, name)}" for name in rest)])

    def __call__(self, input: Float[Array, "*n in"], target: Num[Array, "..."]) -> Float[Array, "..."]:
        """Return the loss of inputs ``(in)`` or ``(N, in)``; the targets are those of logits ``(N, C, *d)``."""
        shape = (self.num_classes, *self.out_features)
        return F.linear_cross_entropy(
            input,
            self.linear.weight.reshape(*shape, self.linear.in_features),
            target,
            linear_bias=None if self.linear.bias is None else self.linear.bias.reshape(shape),
            weight=self._weight(),
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            options=self.options,
        )
