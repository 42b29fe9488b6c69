"""Embedding layers: tables of vectors that are looked up by index."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Integer, Num

from flaxnets.nn import functional as F
from flaxnets.nn import init
from flaxnets.nn._arguments import changed, check_sizes
from flaxnets.nn.functional.embedding import check_padding_idx, renormalize
from flaxnets.nn.module import Module
from flaxnets.nn.parameter import Parameter, redraw, reserved

E = TypeVar("E", bound="Embedding")
B = TypeVar("B", bound="EmbeddingBag")


class _Table(Module):
    """Base class of embedding tables."""

    max_norm: float | None
    norm_type: float

    def _make_weight(
        self,
        shape: tuple[int, int],
        padding_idx: int | None,
        weight: ArrayLike | None,
        freeze: bool,
        dtype: DTypeLike,
        rngs: nnx.Rngs | None,
    ) -> None:
        name = type(self).__name__
        check_sizes(name, num_embeddings=shape[0], embedding_dim=shape[1])
        self.num_embeddings, self.embedding_dim = shape
        self.padding_idx = check_padding_idx(padding_idx, shape[0], name)
        if weight is None:
            if rngs is None:
                raise TypeError(f"{name}: rngs must not be None without a weight, got None. Fix: pass rngs")
            self.weight = reserved(*shape, dtype=dtype)
            self.reset_parameters(rngs=rngs)
            self.weight.requires_grad = not freeze
        elif jnp.shape(weight) != shape:
            raise AssertionError(f"{name}: expected a weight of shape {shape}, got {jnp.shape(weight)}")
        else:
            self.weight = Parameter(jnp.asarray(weight), requires_grad=not freeze)

    def reset_parameters(self, *, rngs: nnx.Rngs) -> None:
        """Reinitialise the rows; the row ``padding_idx`` becomes zero."""

        def draw(shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
            weight = init.normal(rngs.params(), shape, dtype)
            return weight if self.padding_idx is None else weight.at[self.padding_idx].set(0)

        redraw(self, "weight", draw)

    def _lookup_table(self, input: jax.Array) -> jax.Array:
        """Return the table, after scaling the rows in ``input`` down to ``max_norm`` in the parameter itself."""
        if self.max_norm is not None:
            self.weight[...] = renormalize(self.weight[...], input, self.max_norm, self.norm_type)
        return self.weight[...]


def _shape(embeddings: ArrayLike, name: str) -> tuple[int, int]:
    if jnp.ndim(embeddings) != 2:
        raise AssertionError(f"{name}: expected embeddings of 2 axes, got the shape {jnp.shape(embeddings)}")
    rows, size = jnp.shape(embeddings)
    return rows, size


class Embedding(_Table):
    """Look up vectors of a table by index.

    Parameter: ``weight (num_embeddings, embedding_dim)``, drawn from the standard normal distribution. The row
    ``padding_idx`` is zero initially.

    With ``max_norm``, a call changes the parameter, as in torch. Before the lookup, and outside of the gradient, it
    scales the rows in ``input`` whose norm is larger down to ``max_norm``. This works in eager calls and under
    ``nnx.jit``. If parameters are passed to a pure function, as in :mod:`flaxnets.training`, the scaled rows are used
    in that call only.

    Args:
        num_embeddings: number of rows.
        embedding_dim: size of each row.
        padding_idx: a row without gradient. Negative numbers count from the end.
        max_norm: the largest norm of a row. None means no limit.
        norm_type: exponent ``p`` of the norm.
        scale_grad_by_freq: whether to divide each row's gradient by the number of lookups of the row in the call.
        sparse: no effect; gradients are dense.
        dtype: parameter dtype. Default: float32.
        rngs: random number generators for the initial weights; required unless a weight is passed.

    Raises:
        AssertionError: for a ``padding_idx`` that is out of range.
        RuntimeError: for a negative size; when called, for indices that are not integers.
        IndexError: when called, for an index that is out of range. Under ``jax.jit``, where values are unknown, such
            an index gives NaN.

    See `torch.nn.Embedding <https://docs.pytorch.org/docs/stable/generated/torch.nn.Embedding.html>`_.

    >>> Embedding(10, 3, rngs=nnx.Rngs(0))(jnp.array([[1, 2, 4, 5], [4, 3, 2, 9]])).shape
    (2, 4, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: ArrayLike | None = None,
        _freeze: bool = False,
        dtype: DTypeLike = jnp.float32,
        *,
        rngs: nnx.Rngs | None = None,
    ):
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.sparse = sparse
        self._make_weight((num_embeddings, embedding_dim), padding_idx, _weight, _freeze, dtype, rngs)

    @classmethod
    def from_pretrained(
        cls: type[E],
        embeddings: ArrayLike,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> E:
        """Return a layer with these pretrained rows.

        Args:
            embeddings: the table ``(num_embeddings, embedding_dim)``.
            freeze: whether gradients treat the rows as constants (see :class:`flaxnets.nn.Parameter`).
            padding_idx: as in the constructor.
            max_norm: as in the constructor.
            norm_type: as in the constructor.
            scale_grad_by_freq: as in the constructor.
            sparse: as in the constructor.

        Raises:
            AssertionError: if the table has not exactly two axes.

        >>> Embedding.from_pretrained(jnp.array([[1.0, 2.0], [3.0, 4.0]]))(jnp.array([1])).tolist()
        [[3.0, 4.0]]
        """
        options = (padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
        return cls(*_shape(embeddings, cls.__name__), *options, _weight=embeddings, _freeze=freeze)

    def extra_repr(self) -> str:
        """Return the sizes and the non-default options for ``repr``."""
        options = changed(self, padding_idx=None, max_norm=None, norm_type=2, scale_grad_by_freq=False, sparse=False)
        return f"{self.num_embeddings}, {self.embedding_dim}{options}"

    def __call__(self, input: Integer[Array, "*shape"]) -> Num[Array, "*shape dim"]:
        """Return the row of each index."""
        weight = self._lookup_table(input)
        return F.embedding(input, weight, self.padding_idx, scale_grad_by_freq=self.scale_grad_by_freq)


class EmbeddingBag(_Table):
    """Look up vectors of a table by index and reduce them over each bag.

    Parameter: ``weight (num_embeddings, embedding_dim)``, drawn from the standard normal distribution. The row
    ``padding_idx`` is zero initially. With ``max_norm`` a call changes the parameter, as in :class:`Embedding`.

    Args:
        num_embeddings: number of rows.
        embedding_dim: size of each row.
        max_norm: the largest norm of a row. None means no limit.
        norm_type: exponent ``p`` of the norm.
        scale_grad_by_freq: whether to divide each row's gradient by the number of lookups of the row in the call.
        mode: ``"sum"``, ``"mean"`` or ``"max"``.
        sparse: no effect; gradients are dense.
        include_last_offset: whether the last offset is the end of the last bag.
        padding_idx: an index that every bag ignores. Negative numbers count from the end.
        dtype: parameter dtype. Default: float32.
        rngs: random number generators for the initial weights; required unless a weight is passed.

    Raises:
        AssertionError: for a ``padding_idx`` that is out of range.
        RuntimeError: for a negative size.

    When called, raises the errors of :func:`flaxnets.nn.functional.embedding_bag`.

    See `torch.nn.EmbeddingBag <https://docs.pytorch.org/docs/stable/generated/torch.nn.EmbeddingBag.html>`_.

    >>> bags = EmbeddingBag(10, 3, mode="sum", rngs=nnx.Rngs(0))
    >>> bags(jnp.array([1, 2, 4, 5, 4, 3, 2, 9]), jnp.array([0, 4])).shape
    (2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: ArrayLike | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        dtype: DTypeLike = jnp.float32,
        *,
        rngs: nnx.Rngs | None = None,
    ):
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.mode = mode
        self.sparse = sparse
        self.include_last_offset = include_last_offset
        self._make_weight((num_embeddings, embedding_dim), padding_idx, _weight, False, dtype, rngs)

    @classmethod
    def from_pretrained(
        cls: type[B],
        embeddings: ArrayLike,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> B:
        """Return a layer with these pretrained rows; arguments and errors as in :meth:`Embedding.from_pretrained`.

        >>> EmbeddingBag.from_pretrained(jnp.array([[1.0, 2.0], [3.0, 4.0]]))(jnp.array([[1, 0]])).tolist()
        [[2.0, 3.0]]
        """
        options = (max_norm, norm_type, scale_grad_by_freq, mode, sparse, embeddings, include_last_offset, padding_idx)
        bags = cls(*_shape(embeddings, cls.__name__), *options)
        if freeze:
            bags.weight.requires_grad = False
        return bags

    def extra_repr(self) -> str:
        """Return the sizes, the mode and the non-default options for ``repr``."""
        options = changed(self, max_norm=None, norm_type=2, scale_grad_by_freq=False)
        sizes = f"{self.num_embeddings}, {self.embedding_dim}"
        return f"{sizes}{options}, mode={self.mode!r}{changed(self, padding_idx=None)}"

    def __call__(
        self,
        input: Integer[Array, "..."],
        offsets: Integer[Array, " offsets"] | None = None,
        per_sample_weights: Float[Array, "..."] | None = None,
    ) -> Float[Array, "bags dim"]:
        """Return one vector for each bag."""
        return F.embedding_bag(
            input,
            self._lookup_table(input),
            offsets,
            scale_grad_by_freq=self.scale_grad_by_freq,
            mode=self.mode,
            sparse=self.sparse,
            per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset,
            padding_idx=self.padding_idx,
        )
