"""Adam and its variants."""

import jax
import jax.numpy as jnp

from flaxnets.optim import rules
from flaxnets.optim.arguments import learning_rate_first
from flaxnets.optim.named import register_optimizer
from flaxnets.optim.rules import Settings, Slots, zeros_like
from flaxnets.optim.transformation import Groups, LearningRate, Optimizer, make


def _adam_slots(p: jax.Array, h: Settings) -> Slots:
    return zeros_like(p, "exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if h["amsgrad"] else []))


def _adamax_slots(p: jax.Array, h: Settings) -> Slots:
    return zeros_like(p, "exp_avg", "exp_inf")


def _nadam_slots(p: jax.Array, h: Settings) -> Slots:
    return {"mu_product": jnp.ones((), p.dtype), **zeros_like(p, "exp_avg", "exp_avg_sq")}


def _radam_slots(p: jax.Array, h: Settings) -> Slots:
    return zeros_like(p, "exp_avg", "exp_avg_sq")


@register_optimizer()
@learning_rate_first
def Adam(
    lr: LearningRate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    groups: Groups | None = None,
) -> Optimizer:
    """Adam optimizer.

    Args:
        lr: the learning rate, or a schedule of :mod:`flaxnets.optim.lr_scheduler` or optax.
        betas: decay rates of the running averages of the gradients and of their squares.
        eps: added to the denominator of the step.
        amsgrad: whether to divide by the largest second moment so far.
        decoupled_weight_decay: whether to keep the weight decay out of the gradient's averages, as in :func:`AdamW`.
        weight_decay: L2 penalty.
        maximize, groups: as in :func:`SGD`.

    Raises:
        TypeError: for a non-numeric setting, and for parameters as the first argument; pass these to ``init``.
        ValueError: for a setting that torch rejects, or an unknown setting of a group.

    See arXiv:1412.6980 and `torch.optim.Adam
    <https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html>`_.

    >>> optimizer = Adam(0.1)
    >>> sorted(optimizer.init({"weight": jnp.ones(3)}).slots)
    ['exp_avg', 'exp_avg_sq']
    """
    settings = {
        "lr": lr,
        "betas": betas,
        "eps": eps,
        "weight_decay": weight_decay,
        "amsgrad": amsgrad,
        "decoupled_weight_decay": decoupled_weight_decay,
        "maximize": maximize,
    }
    return make("Adam", rules.adam, settings, _adam_slots, groups)


@register_optimizer()
@learning_rate_first
def AdamW(
    lr: LearningRate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
    groups: Groups | None = None,
) -> Optimizer:
    """AdamW optimizer: Adam with weight decay decoupled from the gradient's averages.

    Args:
        lr: the learning rate, or a schedule of :mod:`flaxnets.optim.lr_scheduler` or optax.
        betas: decay rates of the running averages of the gradients and of their squares.
        eps: added to the denominator of the step.
        amsgrad: whether to divide by the largest second moment so far.
        weight_decay: fraction of the parameters that each step subtracts, times ``lr``.
        maximize, groups: as in :func:`SGD`.

    Raises:
        TypeError: for a non-numeric setting, and for parameters as the first argument; pass these to ``init``.
        ValueError: for a setting that torch rejects, or an unknown setting of a group.

    See arXiv:1711.05101 and `torch.optim.AdamW
    <https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html>`_.

    >>> optimizer = AdamW(0.1)
    >>> sorted(optimizer.init({"weight": jnp.ones(3)}).slots)
    ['exp_avg', 'exp_avg_sq']
    """
    settings = {
        "lr": lr,
        "betas": betas,
        "eps": eps,
        "weight_decay": weight_decay,
        "amsgrad": amsgrad,
        "maximize": maximize,
        "decoupled_weight_decay": True,
    }
    return make("AdamW", rules.adam, settings, _adam_slots, groups)


@register_optimizer()
@learning_rate_first
def Adamax(
    lr: LearningRate = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0,
    *,
    maximize: bool = False,
    groups: Groups | None = None,
) -> Optimizer:
    """Adamax optimizer: Adam with a running maximum of the gradients instead of their second moment.

    Args:
        lr: the learning rate, or a schedule of :mod:`flaxnets.optim.lr_scheduler` or optax.
        betas: decay rates of the running average of the gradients and of their running maximum.
        eps: added to the magnitude of the gradient.
        weight_decay: L2 penalty.
        maximize, groups: as in :func:`SGD`.

    Raises:
        TypeError: for a non-numeric setting, and for parameters as the first argument; pass these to ``init``.
        ValueError: for a setting that torch rejects, or an unknown setting of a group.

    See arXiv:1412.6980 and `torch.optim.Adamax
    <https://docs.pytorch.org/docs/stable/generated/torch.optim.Adamax.html>`_.

    >>> optimizer = Adamax(0.1)
    >>> sorted(optimizer.init({"weight": jnp.ones(3)}).slots)
    ['exp_avg', 'exp_inf']
    """
    settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
    return make("Adamax", rules.adamax, settings, _adamax_slots, groups)


@register_optimizer()
@learning_rate_first
def NAdam(
    lr: LearningRate = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0,
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
    *,
    maximize: bool = False,
    groups: Groups | None = None,
) -> Optimizer:
    """NAdam optimizer: Adam with Nesterov momentum.

    Args:
        lr: the learning rate, or a schedule of :mod:`flaxnets.optim.lr_scheduler` or optax.
        betas: decay rates of the running averages of the gradients and of their squares.
        eps: added to the denominator of the step.
        momentum_decay: rate at which the momentum approaches ``betas[0]``.
        decoupled_weight_decay: as in :func:`Adam`.
        weight_decay: L2 penalty.
        maximize, groups: as in :func:`SGD`.

    Raises:
        TypeError: for a non-numeric setting, and for parameters as the first argument; pass these to ``init``.
        ValueError: for a setting that torch rejects, or an unknown setting of a group.

    See https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ and `torch.optim.NAdam
    <https://docs.pytorch.org/docs/stable/generated/torch.optim.NAdam.html>`_.

    >>> optimizer = NAdam(0.1)
    >>> sorted(optimizer.init({"weight": jnp.ones(3)}).slots)
    ['exp_avg', 'exp_avg_sq', 'mu_product']
    """
    settings = {
        "lr": lr,
        "betas": betas,
        "eps": eps,
        "weight_decay": weight_decay,
        "momentum_decay": momentum_decay,
        "decoupled_weight_decay": decoupled_weight_decay,
        "maximize": maximize,
    }
    return make("NAdam", rules.nadam, settings, _nadam_slots, groups)


@register_optimizer()
@learning_rate_first
def RAdam(
    lr: LearningRate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0,
    decoupled_weight_decay: bool = False,
    *,
    maximize: bool = False,
    groups: Groups | None = None,
) -> Optimizer:
    """RAdam optimizer: rectified Adam, with plain momentum until the second moment is reliable.

    Args:
        lr: the learning rate, or a schedule of :mod:`flaxnets.optim.lr_scheduler` or optax.
        betas: decay rates of the running averages of the gradients and of their squares.
        eps: added to the denominator of the step.
        decoupled_weight_decay: as in :func:`Adam`.
        weight_decay: L2 penalty.
        maximize, groups: as in :func:`SGD`.

    Raises:
        TypeError: for a non-numeric setting, and for parameters as the first argument; pass these to ``init``.
        ValueError: for a setting that torch rejects, or an unknown setting of a group.

    See arXiv:1908.03265 and `torch.optim.RAdam
    <https://docs.pytorch.org/docs/stable/generated/torch.optim.RAdam.html>`_.

    >>> optimizer = RAdam(0.1)
    >>> sorted(optimizer.init({"weight": jnp.ones(3)}).slots)
    ['exp_avg', 'exp_avg_sq']
    """
    settings = {
        "lr": lr,
        "betas": betas,
        "eps": eps,
        "weight_decay": weight_decay,
        "decoupled_weight_decay": decoupled_weight_decay,
        "maximize": maximize,
    }
    return make("RAdam", rules.radam, settings, _radam_slots, groups)
