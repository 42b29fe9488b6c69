"""Optimizers that divide by the magnitude of past gradients: Adagrad, RMSprop, Adadelta."""

import jax
import jax.numpy as jnp

from flaxnets.optim import rules
from flaxnets.optim.arguments import learning_rate_first
from flaxnets.optim.named import register_optimizer
from flaxnets.optim.rules import Settings, Slots, is_used, zeros_like
from flaxnets.optim.transformation import Groups, LearningRate, Optimizer, make


def _adagrad_slots(p: jax.Array, h: Settings) -> Slots:
    return {"sum": jnp.full_like(p, h["initial_accumulator_value"])}


def _rmsprop_slots(p: jax.Array, h: Settings) -> Slots:
    return zeros_like(
        p,
        "square_avg",
        *(["momentum_buffer"] if is_used(h["momentum"]) else []),
        *(["grad_avg"] if h["centered"] else []),
    )


def _adadelta_slots(p: jax.Array, h: Settings) -> Slots:
    return zeros_like(p, "square_avg", "acc_delta")


@register_optimizer()
@learning_rate_first
def Adagrad(
    lr: LearningRate = 1e-2,
    lr_decay: float = 0,
    weight_decay: float = 0,
    initial_accumulator_value: float = 0,
    eps: float = 1e-10,
    *,
    maximize: bool = False,
    groups: Groups | None = None,
) -> Optimizer:
    """Adagrad optimizer.

    Args:
        lr: the learning rate, or a schedule of :mod:`flaxnets.optim.lr_scheduler` or optax.
        lr_decay: the learning rate is divided by ``1 + steps * lr_decay``.
        initial_accumulator_value: initial value of the sum of squares.
        eps: added to the denominator of the step.
        weight_decay: L2 penalty.
        maximize, groups: as in :func:`SGD`.

    Raises:
        TypeError: for a non-numeric setting, and for parameters as the first argument; pass these to ``init``.
        ValueError: for a setting that torch rejects, or an unknown setting of a group.

    See https://jmlr.org/papers/v12/duchi11a.html and `torch.optim.Adagrad
    <https://docs.pytorch.org/docs/stable/generated/torch.optim.Adagrad.html>`_.

    >>> optimizer = Adagrad(0.1)
    >>> sorted(optimizer.init({"weight": jnp.ones(3)}).slots)
    ['sum']
    """
    settings = {
        "lr": lr,
        "lr_decay": lr_decay,
        "weight_decay": weight_decay,
        "initial_accumulator_value": initial_accumulator_value,
        "eps": eps,
        "maximize": maximize,
    }
    return make("Adagrad", rules.adagrad, settings, _adagrad_slots, groups)


@register_optimizer()
@learning_rate_first
def RMSprop(
    lr: LearningRate = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0,
    momentum: float = 0,
    centered: bool = False,
    *,
    maximize: bool = False,
    groups: Groups | None = None,
) -> Optimizer:
    """RMSprop optimizer.

    Args:
        lr: the learning rate, or a schedule of :mod:`flaxnets.optim.lr_scheduler` or optax.
        alpha: decay rate of the running average of squares.
        eps: added to the denominator of the step.
        momentum: decay rate of the momentum.
        centered: whether to subtract the squared mean gradient from the average of squares.
        weight_decay: L2 penalty.
        maximize, groups: as in :func:`SGD`.

    Raises:
        TypeError: for a non-numeric setting, and for parameters as the first argument; pass these to ``init``.
        ValueError: for a setting that torch rejects, or an unknown setting of a group.

    See https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf and `torch.optim.RMSprop
    <https://docs.pytorch.org/docs/stable/generated/torch.optim.RMSprop.html>`_.

    >>> optimizer = RMSprop(0.1)
    >>> sorted(optimizer.init({"weight": jnp.ones(3)}).slots)
    ['square_avg']
    """
    settings = {
        "lr": lr,
        "alpha": alpha,
        "eps": eps,
        "weight_decay": weight_decay,
        "momentum": momentum,
        "centered": centered,
        "maximize": maximize,
    }
    return make("RMSprop", rules.rmsprop, settings, _rmsprop_slots, groups)


@register_optimizer()
@learning_rate_first
def Adadelta(
    lr: LearningRate = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0,
    *,
    maximize: bool = False,
    groups: Groups | None = None,
) -> Optimizer:
    """Adadelta optimizer.

    Args:
        lr: the learning rate, or a schedule of :mod:`flaxnets.optim.lr_scheduler` or optax.
        rho: decay rate of the running averages of squares.
        eps: added to both averages, inside the square roots.
        weight_decay: L2 penalty.
        maximize, groups: as in :func:`SGD`.

    Raises:
        TypeError: for a non-numeric setting, and for parameters as the first argument; pass these to ``init``.
        ValueError: for a setting that torch rejects, or an unknown setting of a group.

    See arXiv:1212.5701 and `torch.optim.Adadelta
    <https://docs.pytorch.org/docs/stable/generated/torch.optim.Adadelta.html>`_.

    >>> optimizer = Adadelta(0.1)
    >>> sorted(optimizer.init({"weight": jnp.ones(3)}).slots)
    ['acc_delta', 'square_avg']
    """
    settings = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
    return make("Adadelta", rules.adadelta, settings, _adadelta_slots, groups)
