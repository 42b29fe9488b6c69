"""SGD, averaged SGD and Rprop optimizers."""

import jax
import jax.numpy as jnp

from flaxnets.optim import rules
from flaxnets.optim.arguments import learning_rate_first
from flaxnets.optim.named import register_optimizer
from flaxnets.optim.rules import Settings, Slots, is_used, zeros_like
from flaxnets.optim.transformation import Groups, LearningRate, Optimizer, make


def _sgd_slots(p: jax.Array, h: Settings) -> Slots:
    return zeros_like(p, *(["momentum_buffer"] if is_used(h["momentum"]) else []))


def _asgd_slots(p: jax.Array, h: Settings) -> Slots:
    return {"eta": jnp.asarray(h["lr"], p.dtype), "mu": jnp.ones((), p.dtype), **zeros_like(p, "ax")}


def _rprop_slots(p: jax.Array, h: Settings) -> Slots:
    return {**zeros_like(p, "prev"), "step_size": jnp.full_like(p, h["lr"])}


@register_optimizer(momentum=0.9)
@learning_rate_first
def SGD(
    lr: LearningRate = 1e-3,
    momentum: float = 0,
    dampening: float = 0,
    weight_decay: float = 0,
    nesterov: bool = False,
    *,
    maximize: bool = False,
    groups: Groups | None = None,
) -> Optimizer:
    """Stochastic gradient descent, optionally with momentum.

    Args:
        lr: the learning rate, or a schedule of :mod:`flaxnets.optim.lr_scheduler` or optax.
        momentum: decay rate of the momentum.
        dampening: fraction of the gradient that is kept out of the momentum, except in the first step.
        nesterov: whether to use Nesterov momentum.
        weight_decay: L2 penalty.
        maximize: whether to maximize the objective instead of minimizing.
        groups: settings for parameters whose names match a shell-style pattern or a function, for example
            ``{"*.bias": {"weight_decay": 0}}``. Only the first matching group applies to a parameter. ``init`` raises
            for a group without parameters.

    Raises:
        TypeError: for a non-numeric setting, and for parameters as the first argument; pass these to ``init``.
        ValueError: for a setting that torch rejects, or an unknown setting of a group.

    See https://proceedings.mlr.press/v28/sutskever13.html and `torch.optim.SGD
    <https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html>`_.

    >>> optimizer = SGD(0.1, momentum=0.9, groups={"*bias": {"weight_decay": 0.0}})
    >>> sorted(optimizer.init({"weight": jnp.ones(3), "bias": jnp.ones(1)}).slots)
    ['momentum_buffer']
    """
    settings = {
        "lr": lr,
        "momentum": momentum,
        "dampening": dampening,
        "weight_decay": weight_decay,
        "nesterov": nesterov,
        "maximize": maximize,
    }
    return make("SGD", rules.sgd, settings, _sgd_slots, groups)


@register_optimizer()
@learning_rate_first
def ASGD(
    lr: LearningRate = 1e-2,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
    weight_decay: float = 0,
    *,
    maximize: bool = False,
    groups: Groups | None = None,
) -> Optimizer:
    """Averaged stochastic gradient descent; the slot ``ax`` is the average.

    Args:
        lr: the learning rate, or a schedule of :mod:`flaxnets.optim.lr_scheduler` or optax.
        lambd: decay of the weights and of the learning rate.
        alpha: exponent of the learning rate's decay.
        t0: the step at which averaging starts.
        weight_decay: L2 penalty.
        maximize, groups: as in :func:`SGD`.

    Raises:
        TypeError: for a non-numeric setting, and for parameters as the first argument; pass these to ``init``.
        ValueError: for a setting that torch rejects, or an unknown setting of a group.

    See https://doi.org/10.1137/0330046 and `torch.optim.ASGD
    <https://docs.pytorch.org/docs/stable/generated/torch.optim.ASGD.html>`_.

    >>> optimizer = ASGD(0.1)
    >>> sorted(optimizer.init({"weight": jnp.ones(3)}).slots)
    ['ax', 'eta', 'mu']
    """
    settings = {"lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay, "maximize": maximize}
    return make("ASGD", rules.asgd, settings, _asgd_slots, groups)


@register_optimizer()
@learning_rate_first
def Rprop(
    lr: LearningRate = 1e-2,
    etas: tuple[float, float] = (0.5, 1.2),
    step_sizes: tuple[float, float] = (1e-6, 50),
    *,
    maximize: bool = False,
    groups: Groups | None = None,
) -> Optimizer:
    """Rprop optimizer: the step size grows while the gradient keeps its sign.

    Args:
        lr: the learning rate, or a schedule of :mod:`flaxnets.optim.lr_scheduler` or optax.
        etas: factors of the step size after a changed and after an unchanged sign.
        step_sizes: the smallest and the largest step size.
        maximize, groups: as in :func:`SGD`.

    Raises:
        TypeError: for a non-numeric setting, and for parameters as the first argument; pass these to ``init``.
        ValueError: for a setting that torch rejects, or an unknown setting of a group.

    See https://doi.org/10.1109/ICNN.1993.298623 and `torch.optim.Rprop
    <https://docs.pytorch.org/docs/stable/generated/torch.optim.Rprop.html>`_.

    >>> optimizer = Rprop(0.1)
    >>> sorted(optimizer.init({"weight": jnp.ones(3)}).slots)
    ['prev', 'step_size']
    """
    settings = {"lr": lr, "etas": etas, "step_sizes": step_sizes, "maximize": maximize}
    return make("Rprop", rules.rprop, settings, _rprop_slots, groups)
