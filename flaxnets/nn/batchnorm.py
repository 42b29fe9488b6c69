"""Batch normalisation layers."""

from collections.abc import Mapping, MutableMapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flaxnets.nn import functional as F
from flaxnets.nn._arguments import check_ndim, check_sizes
from flaxnets.nn.module import Module
from flaxnets.nn.parameter import BatchStat, Parameter, abstract, redraw, reserved
from flaxnets.state import named_children


class NormBase(Module):
    """Parameters and running statistics of batch and instance normalisation."""

    weight: Parameter | Any
    bias: Parameter | Any
    running_mean: nnx.Variable | None
    running_var: nnx.Variable | None
    num_batches_tracked: nnx.Variable | None

    _version = 2

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: DTypeLike = jnp.float32,
        *,
        bias: bool = True,
    ):
        if affine or track_running_stats:
            check_sizes(type(self).__name__, num_features=num_features)
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.register_parameter("weight", reserved(num_features, dtype=dtype) if affine else None)
        self.register_parameter("bias", reserved(num_features, dtype=dtype) if affine and bias else None)
        statistics = {
            "running_mean": abstract((num_features,), dtype),
            "running_var": abstract((num_features,), dtype),
            "num_batches_tracked": abstract((), jnp.result_type(int)),
        }
        for name, array in statistics.items():
            self.register_buffer(name, BatchStat(array) if track_running_stats else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Set the running mean and the count to 0, and the running variance to 1."""
        redraw(self, "running_mean", jnp.zeros)
        redraw(self, "running_var", jnp.ones)
        redraw(self, "num_batches_tracked", jnp.zeros)

    def reset_parameters(self, *, rngs: nnx.Rngs | None = None) -> None:
        """Set the weight to 1, the bias to 0 and the running statistics to their initial values; ``rngs`` is unused."""
        self.reset_running_stats()
        redraw(self, "weight", jnp.ones)
        redraw(self, "bias", jnp.zeros)

    def extra_repr(self) -> str:
        """Return the arguments for ``repr``."""
        options = f"eps={self.eps}, momentum={self.momentum}, affine={self.affine}, bias={self.bias is not None}"
        return f"{self.num_features}, {options}, track_running_stats={self.track_running_stats}"

    def _load_from_state_dict(
        self,
        state_dict: MutableMapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        # Version 2 introduced the counter. An older state dict has none, so the module keeps its current count.
        if (local_metadata.get("version") or 1) < 2 and self.num_batches_tracked is not None:
            count = self.num_batches_tracked.get_value()
            is_abstract = isinstance(count, jax.ShapeDtypeStruct)
            state_dict.setdefault(f"{prefix}num_batches_tracked", jnp.zeros((), int) if is_abstract else count)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


class _BatchNorm(NormBase):
    """Base class of batch normalisation of any number of spatial axes."""

    input_ndims: tuple[int, ...]
    axis_name: str | None = None

    def _apply(self, input: jax.Array) -> jax.Array:
        input = jnp.asarray(input)
        check_ndim(input, self.input_ndims, type(self).__name__, ValueError)
        return self._normalize(input)

    def _normalize(self, input: jax.Array) -> jax.Array:
        momentum = self.momentum
        if self.training and self.running_mean is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked[...] += 1
            if momentum is None:  # None means a cumulative average over all batches
                wide = jnp.promote_types(self.running_mean.dtype, jnp.float32)
                momentum = 1 / self.num_batches_tracked[...].astype(wide)
        return F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            None if self.weight is None else self.weight[...],
            None if self.bias is None else self.bias[...],
            self.training or self.running_mean is None,
            0.0 if momentum is None else momentum,
            self.eps,
            axis_name=self.axis_name if self.training else None,
        )


class BatchNorm1d(_BatchNorm):
    """Normalise each channel of ``(N, C)`` or ``(N, C, L)`` over the batch and the length.

    Parameters: ``weight`` (ones) and ``bias`` (zeros), both ``(num_features,)``, if ``affine``. Buffers:
    ``running_mean``, ``running_var`` (unbiased) and the count ``num_batches_tracked``, if ``track_running_stats``.

    Args:
        num_features: the number of channels ``C``.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics. None means the mean over all batches.
        affine: whether to scale and shift by learned parameters.
        track_running_stats: whether to keep running statistics. If False, evaluation also uses the batch's statistics.
        dtype: dtype of the parameters and running statistics. Default: float32.
        bias: whether ``affine`` shifts as well as scales.

    Raises:
        RuntimeError: for a negative number of channels; when called, for an input with a different number of channels
            or a dtype other than that of the parameters and statistics (float16 and bfloat16 are also accepted with
            float32 parameters).
        ValueError: when called, for an input of the wrong rank, an input with one value per channel in training mode,
            or an ``eps`` that is not positive.
        IndexError: when called, for an input with no channels.
        NotImplementedError: when called, for a non-floating-point input.

    See `torch.nn.BatchNorm1d <https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html>`_ and
    arXiv:1502.03167.

    >>> BatchNorm1d(3)(jnp.ones((4, 3))).shape
    (4, 3)
    """

    input_ndims = (2, 3)

    def __call__(self, input: Float[Array, "n c *length"]) -> Float[Array, "n c *length"]:
        """Normalise the input; in training mode, also update the running statistics."""
        return self._apply(input)


class BatchNorm2d(_BatchNorm):
    """Normalise each channel of ``(N, C, H, W)`` over the batch and the pixels.

    Parameters, buffers, arguments and errors are those of :class:`BatchNorm1d`.

    See `torch.nn.BatchNorm2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html>`_ and
    arXiv:1502.03167.

    >>> BatchNorm2d(3)(jnp.ones((4, 3, 5, 5))).shape
    (4, 3, 5, 5)
    """

    input_ndims = (4,)

    def __call__(self, input: Float[Array, "n c h w"]) -> Float[Array, "n c h w"]:
        """Normalise the input; in training mode, also update the running statistics."""
        return self._apply(input)


class BatchNorm3d(_BatchNorm):
    """Normalise each channel of ``(N, C, D, H, W)`` over the batch and the voxels.

    Parameters, buffers, arguments and errors are those of :class:`BatchNorm1d`.

    See `torch.nn.BatchNorm3d <https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm3d.html>`_ and
    arXiv:1502.03167.

    >>> BatchNorm3d(3)(jnp.ones((4, 3, 2, 5, 5))).shape
    (4, 3, 2, 5, 5)
    """

    input_ndims = (5,)

    def __call__(self, input: Float[Array, "n c d h w"]) -> Float[Array, "n c d h w"]:
        """Normalise the input; in training mode, also update the running statistics."""
        return self._apply(input)


class SyncBatchNorm(_BatchNorm):
    """Normalise each channel of ``(N, C, ...)`` over the batches of all devices and the axes after the channels.

    Under ``jax.jit`` with arrays that are sharded over devices, every batch normalisation layer already uses the
    statistics of the global batch. Use this layer in per-device programs (``jax.shard_map``, ``jax.pmap``,
    ``jax.vmap``): in training mode it uses the mean and variance over all shards along ``axis_name``. All shards must
    have the same size. Without ``axis_name`` the layer is a :class:`BatchNorm1d` for any rank. Parameters, buffers,
    other arguments and errors are those of :class:`BatchNorm1d`.

    Args:
        num_features: the number of channels ``C``.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics. None means the mean over all batches.
        affine: whether to scale and shift by learned parameters.
        track_running_stats: whether to keep running statistics.
        process_group: must be None. Use ``axis_name`` to choose the devices.
        dtype: dtype of the parameters and running statistics. Default: float32.
        bias: whether ``affine`` shifts as well as scales.
        axis_name: name of the mapped axis that the batch is sharded over.

    Raises:
        TypeError: for a process group.

    See `torch.nn.SyncBatchNorm <https://docs.pytorch.org/docs/stable/generated/torch.nn.SyncBatchNorm.html>`_ and
    arXiv:1502.03167.

    >>> norm = SyncBatchNorm(1, track_running_stats=False, eps=1e-9, axis_name="devices")
    >>> jax.vmap(norm, axis_name="devices")(jnp.array([[[1.0]], [[3.0]]])).ravel().tolist()
    [-1.0, 1.0]
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: None = None,
        dtype: DTypeLike = jnp.float32,
        *,
        bias: bool = True,
        axis_name: str | None = None,
    ):
        if process_group is not None:
            raise TypeError(f"SyncBatchNorm: process_group must be None, got {process_group!r}. Fix: pass axis_name")
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype, bias=bias)
        self.process_group = process_group
        self.axis_name = axis_name

    def __call__(self, input: Float[Array, "n c *spatial"]) -> Float[Array, "n c *spatial"]:
        """Normalise the input; in training mode, also update the running statistics."""
        if input.ndim < 2 or input.shape[1] == 0:
            raise ValueError(f"SyncBatchNorm: expected an input (N, C, ...) with channels, got shape {input.shape}")
        return self._normalize(jnp.asarray(input))

    @classmethod
    def convert_sync_batchnorm(
        cls, module: nnx.Module, process_group: None = None, *, axis_name: str | None = None
    ) -> nnx.Module:
        """Replace each batch normalisation layer by a :class:`SyncBatchNorm` that shares its state.

        Returns the module, which is changed in place, or the replacement if the module itself is a batch normalisation.
        """
        if isinstance(module, _BatchNorm):
            affine, tracked = module.affine, module.track_running_stats
            sync = cls(module.num_features, module.eps, module.momentum, affine, tracked, process_group)
            sync.axis_name = axis_name
            for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                setattr(sync, name, getattr(module, name))
            return sync.train(module.training)
        for name, child in list(named_children(module)):
            setattr(module, name, cls.convert_sync_batchnorm(child, process_group, axis_name=axis_name))
        return module
