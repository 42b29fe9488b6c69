"""Optimizers by name."""

import optax

OPTIMIZERS = ("sgd", "adam", "adamw")


def make_optimizer(
    name: str, lr: float, total_steps: int, *, clip_norm: float | None = None
) -> optax.GradientTransformation:
    """Returns an optimizer whose learning rate falls from ``lr`` to 0 along a cosine.

    Args:
        name: ``sgd`` (with momentum 0.9), ``adam`` or ``adamw`` (weight decay 0.01).
        lr: the learning rate at the start.
        total_steps: after how many steps it is 0.
        clip_norm: if given, gradients whose norm over all parameters is larger are scaled down to it.

    Raises:
        ValueError: for an unknown name.

    >>> type(make_optimizer("sgd", lr=0.1, total_steps=100)).__name__
    'GradientTransformationExtraArgs'
    """
    schedule = optax.cosine_decay_schedule(lr, total_steps)
    optimizers = {
        "sgd": lambda: optax.sgd(schedule, momentum=0.9),
        "adam": lambda: optax.adam(schedule),
        "adamw": lambda: optax.adamw(schedule, weight_decay=0.01),
    }
    if name not in optimizers:
        raise ValueError(f"unknown optimizer {name!r}; known: {', '.join(OPTIMIZERS)}")
    optimizer = optimizers[name]()
    return optimizer if clip_norm is None else optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)
