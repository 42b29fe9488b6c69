"""The options of a training step, checked once."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
from flax import nnx
from jax.typing import DTypeLike

from flaxnets import kernels
from flaxnets.training.remat import Blocks

NonFinite = Literal["ignore", "skip", "stop"]
Backend = Literal["auto"] | kernels.Backend

_NONFINITE = ("ignore", "skip", "stop")


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """Options of a training step.

    Attributes:
        accumulate: Number of batches whose gradients are averaged for one update.
        ema_decay: Decay of the moving average of the parameters; None for no average. With an average, evaluation and
            the trained model use the average.
        nonfinite: What a step does if the loss or a gradient is infinite or NaN. ``"skip"`` and ``"stop"`` leave the
            state unchanged and report the metric ``nonfinite``, with all other metrics 0;
            :func:`flaxnets.training.fit` raises for ``"stop"``. ``"ignore"`` updates the state.
        remat: Modules to recompute in the backward pass, which saves memory: a predicate of name and module, or True
            for the model's children. See :func:`flaxnets.training.checkpoint`.
        compute_dtype: Dtype of the layers within :func:`flaxnets.autocast`, such as ``jnp.bfloat16``. Parameters,
            their updates and the loss stay in float32.
        loss_scale: ``"dynamic"`` for a factor of the loss that keeps gradients within the range of float16, as
            ``torch.amp.GradScaler``; see :class:`flaxnets.training.LossScale`. A step whose gradients overflow leaves
            the parameters unchanged and lowers the factor; ``nonfinite`` is then about the loss alone. None for no
            factor.
        penalty: Function of the parameters that is added to the minimised loss, but not to the metrics, such as
            :func:`flaxnets.training.l2_penalty`.
        backend: Implementations of the layers: ``"plain"`` (default XLA), ``"xla"`` (XLA tuned for CPUs),
            ``"onednn"`` (CPU), ``"cudnn"`` (GPU), or ``"auto"`` for the fastest that works on this machine. The
            constructor replaces ``"auto"`` by its choice.

    Raises:
        ValueError: If an option has an unknown or impossible value.
        RuntimeError: If the backend does not work on this machine.

    >>> StepOptions(accumulate=2, backend="plain").accumulate
    2
    >>> StepOptions(accumulate=0)
    Traceback (most recent call last):
    ValueError: accumulate must be at least 1, got 0
    """

    accumulate: int = 1
    ema_decay: float | None = None
    nonfinite: NonFinite = "stop"
    remat: Blocks = False
    compute_dtype: DTypeLike | None = None
    loss_scale: Literal["dynamic"] | None = None
    penalty: Callable[[nnx.State], jax.Array] | None = None
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise ValueError(f"accumulate must be at least 1, got {self.accumulate}")
        if self.ema_decay is not None and not 0 <= self.ema_decay <= 1:
            raise ValueError(f"ema_decay must be between 0 and 1, got {self.ema_decay}")
        if self.nonfinite not in _NONFINITE:
            raise ValueError(f"nonfinite must be one of {', '.join(_NONFINITE)}, got {self.nonfinite!r}")
        if self.loss_scale not in (None, "dynamic"):
            raise ValueError(f"loss_scale must be dynamic or None, got {self.loss_scale!r}")
        object.__setattr__(self, "backend", kernels.choose(self.backend))
