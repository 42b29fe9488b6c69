"""Losses of predictions of one class among several."""

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
    """The target class's log-probability, times -1 and the class's weight.

    Buffers: ``weight (C,)``, if given.

    Args:
        weight: of each class.
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        ignore_index: the target that contributes nothing.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"`` for each target's loss, ``"sum"``, or ``"mean"``, which divides the sum by that of the
            targets' weights: NaN if that is zero.

    Raises:
        ValueError: when called, if the batch sizes differ, or there is no such reduction.
        RuntimeError: when called, if other sizes differ.
        IndexError: when called, if a target is known to be no class; one that is not known becomes NaN.

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
        """Take log-probabilities ``(C)``, ``(N, C)`` or ``(N, C, *)``, and targets ``()``, ``(N)`` or ``(N, *)``."""
        return F.nll_loss(input, target, self._weight(), ignore_index=self.ignore_index, reduction=self.reduction)


class NLLLoss2d(NLLLoss):
    """Deprecated, as in torch, whose FutureWarning the constructor gives: :class:`NLLLoss` takes images as well.

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
    """The cross entropy of the target, class indices or probabilities, relative to the softmax of the input.

    Buffers: ``weight (C,)``, if given.

    Args:
        weight: of each class.
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        ignore_index: the class index that contributes nothing.
        reduce: deprecated. False means ``"none"``.
        reduction: as of :class:`NLLLoss`; for probabilities the mean divides by the number of targets.
        label_smoothing: how much of the target is replaced by the uniform distribution (arXiv:1512.00567).

    Raises:
        ValueError, IndexError: as :class:`NLLLoss`.
        RuntimeError: as :class:`NLLLoss`, and for a smoothing above 1 or an ``ignore_index`` that is a class with a
            target of probabilities.

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
        """Take logits ``(C)``, ``(N, C)`` or ``(N, C, *)``, and targets without the axis ``C``, or of that shape."""
        return F.cross_entropy(
            input,
            target,
            self._weight(),
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class LinearCrossEntropyLoss(WeightedLoss):
    """A linear layer and the cross entropy of its outputs.

    Parameters: those of the :class:`Linear` layer ``linear``, with ``num_classes * prod(out_features)`` outputs.
    Buffers: ``weight (num_classes,)``, if given.

    Args:
        in_features: size of the input's last axis.
        num_classes: the number of classes ``C``.
        out_features: further axes ``*d`` of the logits ``(N, C, *d)``.
        bias: whether the linear layer has a bias.
        dtype: parameter dtype. Default: float32.
        reduction: as of :class:`CrossEntropyLoss`.
        weight: of each class.
        ignore_index: the class index that contributes nothing; None is -100.
        label_smoothing: as of :class:`CrossEntropyLoss`.
        options: how to go through the batch in chunks, so that the logits never exist as a whole.
        rngs: random number generators for the initial weights.

    Raises:
        RuntimeError: if the weight has another size, or the smoothing is not between 0 and 1; when called as
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
        """Return the arguments."""
        sizes = f"in_features={self.linear.in_features}, num_classes={self.num_classes}"
        outputs = f"out_features={self.out_features}, bias={self.linear.bias is not None}"
        rest = ("reduction", "ignore_index", "label_smoothing", "options")
        return ", ".join([sizes, outputs, *(f"{name}={getattr(self, name)}" for name in rest)])

    def __call__(self, input: Float[Array, "*n in"], target: Num[Array, "..."]) -> Float[Array, "..."]:
        """Take inputs ``(in)`` or ``(N, in)``, and targets as :class:`CrossEntropyLoss` for logits ``(N, C, *d)``."""
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
