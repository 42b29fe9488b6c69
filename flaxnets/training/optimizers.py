"""Optimizers by name."""

import optax

OPTIMIZERS = ("sgd", "adam", "adamw")


def make_optimizer(name: str, lr: float, total_steps: int) -> optax.GradientTransformation:
    """Returns an optimizer whose learning rate falls from ``lr`` to 0 along a cosine.

    Args:
        name: ``sgd`` (with momentum 0.9), ``adam`` or ``adamw`` (weight decay 0.01).
        lr: the learning rate at the start.
        total_steps: after how many steps it is 0.

    Raises:
        ValueError: for an unknown name.

    >>> type(make_optimizer("sgd", lr=0.1, total_steps=100)).__name__
    'GradientTransformationExtraArgs'
    """
    schedule = optax.cosine_decay_schedule(lr, total_steps)
    if name == "sgd":
        return optax.sgd(schedule, momentum=0.9)
    if name == "adam":
        return optax.adam(schedule)
    if name == "adamw":
        return optax.adamw(schedule, weight_decay=0.01)
    raise ValueError(f"unknown optimizer {name!r}; known: {', '.join(OPTIMIZERS)}")
