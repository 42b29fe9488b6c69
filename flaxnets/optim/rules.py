"""Update rules of the optimizers for one parameter, in torch's arithmetic and with torch's slot names.

A rule gets the gradient ``g``, the parameter ``p``, its slots, the number ``t`` of this step (counted from 1) and the
settings ``h``. It returns the number to add to the parameter, and the slots after the step.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

Slots = dict[str, jax.Array]
Settings = Mapping[str, Any]
Result = tuple[jax.Array, Slots]


def zeros_like(p: jax.Array, *names: str) -> Slots:
    """Return slots of these names, filled with zeros."""
    return {name: jnp.zeros_like(p) for name in names}


def is_used(setting: Any) -> bool:
    """Return whether a setting is anything but a plain zero; the value of a schedule counts as used."""
    return isinstance(setting, jax.Array) or bool(setting)


def _decayed(g: jax.Array, p: jax.Array, h: Settings) -> jax.Array:
    """Add the L2 penalty to the gradient."""
    return g + h["weight_decay"] * p if is_used(h["weight_decay"]) else g


def _lerp(old: jax.Array, new: jax.Array, weight: Any) -> jax.Array:
    return old + (new - old) * weight


def _correction(beta: Any, t: jax.Array) -> jax.Array:
    """Return ``1 - beta**t``, accurate to the last digit even for ``beta`` near 1 in single precision."""
    if isinstance(beta, (int, float)):
        return -jnp.expm1(t * math.log(beta)) if beta else jnp.ones_like(t)
    return -jnp.expm1(t * jnp.log(beta))


def _decay(g: jax.Array, p: jax.Array, h: Settings) -> tuple[jax.Array, Any]:
    """Return the gradient and the decoupled decay of the parameter; weight decay is in one of them."""
    if h.get("decoupled_weight_decay"):
        return g, -h["lr"] * h["weight_decay"] * p
    return _decayed(g, p, h), 0


def sgd(g: jax.Array, p: jax.Array, slots: Slots, t: jax.Array, h: Settings) -> Result:
    """Stochastic gradient descent; the first momentum is the first gradient, without dampening."""
    g, momentum = _decayed(g, p, h), h["momentum"]
    if "momentum_buffer" not in slots:
        return -h["lr"] * g, slots
    buffer = jnp.where(t == 1, g, momentum * slots["momentum_buffer"] + (1 - h["dampening"]) * g)
    return -h["lr"] * (g + momentum * buffer if h["nesterov"] else buffer), {"momentum_buffer": buffer}


def adam(g: jax.Array, p: jax.Array, slots: Slots, t: jax.Array, h: Settings) -> Result:
    """Adam and AdamW."""
    beta1, beta2 = h["betas"]
    g, shrunk = _decay(g, p, h)
    mean = _lerp(slots["exp_avg"], g, 1 - beta1)
    square = beta2 * slots["exp_avg_sq"] + (1 - beta2) * g * g
    new, used = {"exp_avg": mean, "exp_avg_sq": square}, square
    if h["amsgrad"]:
        used = new["max_exp_avg_sq"] = jnp.maximum(slots["max_exp_avg_sq"], square)
    root = jnp.sqrt(used) / jnp.sqrt(_correction(beta2, t)) + h["eps"]
    return shrunk - h["lr"] / _correction(beta1, t) * mean / root, new


def adagrad(g: jax.Array, p: jax.Array, slots: Slots, t: jax.Array, h: Settings) -> Result:
    """Adagrad."""
    g = _decayed(g, p, h)
    total = slots["sum"] + g * g
    return -h["lr"] / (1 + (t - 1) * h["lr_decay"]) * g / (jnp.sqrt(total) + h["eps"]), {"sum": total}


def rmsprop(g: jax.Array, p: jax.Array, slots: Slots, t: jax.Array, h: Settings) -> Result:
    """RMSprop, optionally centered and with momentum."""
    g, alpha = _decayed(g, p, h), h["alpha"]
    square = alpha * slots["square_avg"] + (1 - alpha) * g * g
    new, variance = {"square_avg": square}, square
    if h["centered"]:
        new["grad_avg"] = _lerp(slots["grad_avg"], g, 1 - alpha)
        variance = square - new["grad_avg"] ** 2
    scaled = g / (jnp.sqrt(variance) + h["eps"])
    if "momentum_buffer" in slots:
        scaled = new["momentum_buffer"] = h["momentum"] * slots["momentum_buffer"] + scaled
    return -h["lr"] * scaled, new


def adadelta(g: jax.Array, p: jax.Array, slots: Slots, t: jax.Array, h: Settings) -> Result:
    """Adadelta."""
    g, rho, eps = _decayed(g, p, h), h["rho"], h["eps"]
    square = rho * slots["square_avg"] + (1 - rho) * g * g
    delta = jnp.sqrt(slots["acc_delta"] + eps) / jnp.sqrt(square + eps) * g
    return -h["lr"] * delta, {"square_avg": square, "acc_delta": rho * slots["acc_delta"] + (1 - rho) * delta * delta}


def adamax(g: jax.Array, p: jax.Array, slots: Slots, t: jax.Array, h: Settings) -> Result:
    """Adamax."""
    beta1, beta2 = h["betas"]
    g = _decayed(g, p, h)
    mean = _lerp(slots["exp_avg"], g, 1 - beta1)
    largest = jnp.maximum(beta2 * slots["exp_inf"], jnp.abs(g) + h["eps"])
    return -h["lr"] / _correction(beta1, t) * mean / largest, {"exp_avg": mean, "exp_inf": largest}


def nadam(g: jax.Array, p: jax.Array, slots: Slots, t: jax.Array, h: Settings) -> Result:
    """NAdam."""
    (beta1, beta2), decay = h["betas"], h["momentum_decay"]
    g, shrunk = _decay(g, p, h)
    mean = _lerp(slots["exp_avg"], g, 1 - beta1)
    square = beta2 * slots["exp_avg_sq"] + (1 - beta2) * g * g
    mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (step * decay)) for step in (t, t + 1))
    product = slots["mu_product"] * mu
    root = jnp.sqrt(square / _correction(beta2, t)) + h["eps"]
    now, ahead = (1 - mu) / (1 - product), mu_next / (1 - product * mu_next)
    new = {"mu_product": product, "exp_avg": mean, "exp_avg_sq": square}
    return shrunk - h["lr"] * (now * g + ahead * mean) / root, new


def radam(g: jax.Array, p: jax.Array, slots: Slots, t: jax.Array, h: Settings) -> Result:
    """RAdam: plain momentum until the second moment is reliable."""
    beta1, beta2 = h["betas"]
    g, shrunk = _decay(g, p, h)
    mean = _lerp(slots["exp_avg"], g, 1 - beta1)
    square = beta2 * slots["exp_avg_sq"] + (1 - beta2) * g * g
    correction = _correction(beta2, t)
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * t * (1 - correction) / correction
    safe = jnp.maximum(length, 5.0)  # keeps the unused branch finite
    rectified = jnp.sqrt((safe - 4) * (safe - 2) * longest / ((longest - 4) * (longest - 2) * safe))
    adaptive = rectified * jnp.sqrt(correction) / (jnp.sqrt(square) + h["eps"])
    step = jnp.where(length > 5.0, adaptive, jnp.ones_like(adaptive))
    return shrunk - h["lr"] * mean / _correction(beta1, t) * step, {"exp_avg": mean, "exp_avg_sq": square}


def asgd(g: jax.Array, p: jax.Array, slots: Slots, t: jax.Array, h: Settings) -> Result:
    """Averaged stochastic gradient descent; ``ax`` is the average, which does not affect the parameter."""
    g, lambd, lr = _decayed(g, p, h), h["lambd"], h["lr"]
    eta = slots["eta"]
    update = -lambd * eta * p - eta * g
    average = _lerp(slots["ax"], p + update, slots["mu"])
    mu = 1 / jnp.maximum(1.0, t - h["t0"])
    return update, {"eta": lr / (1 + lambd * lr * t) ** h["alpha"], "mu": mu, "ax": average}


def rprop(g: jax.Array, p: jax.Array, slots: Slots, t: jax.Array, h: Settings) -> Result:
    """Resilient backpropagation: uses only the signs of the gradient; a changed sign skips a step."""
    (shrink, grow), (smallest, largest) = h["etas"], h["step_sizes"]
    agreement = g * slots["prev"]
    factor = jnp.where(agreement > 0, grow, jnp.where(agreement < 0, shrink, 1.0)).astype(p.dtype)
    size = jnp.clip(slots["step_size"] * factor, smallest, largest)
    g = jnp.where(agreement < 0, 0, g)
    return -jnp.sign(g) * size, {"prev": g, "step_size": size}
