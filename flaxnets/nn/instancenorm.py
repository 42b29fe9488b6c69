"""Instance normalisation layers."""

import warnings
from collections.abc import Mapping, MutableMapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flaxnets.nn import functional as F
from flaxnets.nn._arguments import check_ndim
from flaxnets.nn.batchnorm import NormBase


class _InstanceNorm(NormBase):
    """Base class of instance normalisation of any number of spatial axes."""

    spatial_axes: int

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: DTypeLike = jnp.float32,
        *,
        bias: bool = True,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype, bias=bias)

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
        statistics = [key for name in ("running_mean", "running_var") if (key := prefix + name) in state_dict]
        if local_metadata.get("version") is None and not self.track_running_stats and statistics:
            for key in statistics:
                del state_dict[key]
            error_msgs.append(
                f"{' and '.join(map(repr, statistics))} cannot be loaded into {type(self).__name__} with "
                "track_running_stats=False. Expected no running statistics; torch before 0.4 saved them for every "
                "instance normalisation. Fix: delete these keys, or, to use the statistics in evaluation mode, "
                "construct the layer with track_running_stats=True"
            )
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _apply(self, input: jax.Array) -> jax.Array:
        input, name = jnp.asarray(input), type(self).__name__
        n = self.spatial_axes
        check_ndim(input, (n + 1, n + 2), name, ValueError)
        channels = input.shape[-n - 1]
        if channels != self.num_features:
            message = f"{name}: expected {self.num_features} channels, got an input of shape {input.shape}"
            if self.affine:
                raise ValueError(message)
            warnings.warn(f"{message}; num_features is not used with affine=False", stacklevel=4)
        output = F.instance_norm(
            input if input.ndim == n + 2 else input[None],
            self.running_mean,
            self.running_var,
            None if self.weight is None else self.weight[...],
            None if self.bias is None else self.bias[...],
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return output if input.ndim == n + 2 else output[0]


class InstanceNorm1d(_InstanceNorm):
    """Normalise each channel of each sequence in ``(N, C, L)`` or ``(C, L)`` over the length.

    Parameters: ``weight`` (ones) and ``bias`` (zeros), both ``(num_features,)``, if ``affine``. Buffers:
    ``running_mean``, ``running_var`` (unbiased) and ``num_batches_tracked`` (always 0, as in torch), if
    ``track_running_stats``. Evaluation mode then normalises by the running statistics.

    Args:
        num_features: the number of channels ``C``.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics. None means that they never change.
        affine: whether to scale and shift by learned parameters.
        track_running_stats: whether to keep running statistics.
        dtype: dtype of the parameters and running statistics. Default: float32.
        bias: whether ``affine`` shifts as well as scales.

    Raises:
        ValueError: when called, for an input of the wrong rank, an input with only one spatial element that is
            normalised by its own statistics, or, if ``affine``, a different number of channels.
        RuntimeError: for a negative number of channels, if the layer has parameters or buffers; when called, for a
            different number of channels if the layer tracks statistics, or a dtype other than that of the parameters
            and statistics (float16 and bfloat16 are also accepted with float32 parameters).
        NotImplementedError: when called, for a non-floating-point input.

    Warns:
        UserWarning: when called, for a different number of channels if ``num_features`` is not used.

    See `torch.nn.InstanceNorm1d <https://docs.pytorch.org/docs/stable/generated/torch.nn.InstanceNorm1d.html>`_ and
    arXiv:1607.08022.

    >>> InstanceNorm1d(1, eps=1e-9)(jnp.array([[1.0, 3.0]])).tolist()
    [[-1.0, 1.0]]
    """

    spatial_axes = 1

    def __call__(self, input: Float[Array, "*n c length"]) -> Float[Array, "*n c length"]:
        """Normalise the input; in training mode, also update the running statistics."""
        return self._apply(input)


class InstanceNorm2d(_InstanceNorm):
    """Normalise each channel of each image in ``(N, C, H, W)`` or ``(C, H, W)`` over the pixels.

    Parameters, buffers, arguments and errors are those of :class:`InstanceNorm1d`.

    See `torch.nn.InstanceNorm2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.InstanceNorm2d.html>`_ and
    arXiv:1607.08022.

    >>> InstanceNorm2d(3)(jnp.ones((4, 3, 5, 5))).shape
    (4, 3, 5, 5)
    """

    spatial_axes = 2

    def __call__(self, input: Float[Array, "*n c h w"]) -> Float[Array, "*n c h w"]:
        """Normalise the input; in training mode, also update the running statistics."""
        return self._apply(input)


class InstanceNorm3d(_InstanceNorm):
    """Normalise each channel of each volume in ``(N, C, D, H, W)`` or ``(C, D, H, W)`` over the voxels.

    Parameters, buffers, arguments and errors are those of :class:`InstanceNorm1d`.

    See `torch.nn.InstanceNorm3d <https://docs.pytorch.org/docs/stable/generated/torch.nn.InstanceNorm3d.html>`_ and
    arXiv:1607.08022.

    >>> InstanceNorm3d(3)(jnp.ones((4, 3, 2, 5, 5))).shape
    (4, 3, 2, 5, 5)
    """

    spatial_axes = 3

    def __call__(self, input: Float[Array, "*n c d h w"]) -> Float[Array, "*n c d h w"]:
        """Normalise the input; in training mode, also update the running statistics."""
        return self._apply(input)
