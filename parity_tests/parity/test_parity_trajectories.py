"""Test the comparison of trainings with torch, step by step, and the names of mistakes in trainings."""

import functools
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import linen, nnx

from flaxnets import nn, optim
from flaxnets.parity import TrainingReport, check_training, random_batches

P = functools.partial
T = torch.optim
F = torch.nn.functional
STEPS = 5


class Affine(nn.Module):
    """A linear layer for the cases of this file only, whose program compiles faster than ``nn.Linear``."""

    def __init__(self, features: int, outputs: int):
        self.weight = nn.Parameter(jnp.zeros((outputs, features)))
        self.bias = nn.Parameter(jnp.zeros(outputs))

    def __call__(self, x: Any) -> Any:
        return x @ self.weight.get_value().T + self.bias.get_value()[None]


class TorchMlp(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(3, 4), torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x)))


class Mlp(nn.Module):
    def __init__(self) -> None:
        self.first, self.second = Affine(3, 4), Affine(4, 3)

    def __call__(self, x: Any) -> Any:
        return self.second(jnp.tanh(self.first(x)))


class TorchConvs(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4)
        self.drop, self.head = torch.nn.Dropout(0.4), torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(torch.relu(self.norm(self.conv(x))).mean((2, 3))))


class Convs(nn.Module):
    def __init__(self, *, rngs: nnx.Rngs, rate: float = 0.4):
        self.conv, self.norm = nn.Conv2d(1, 4, 3, rngs=rngs), nn.BatchNorm2d(4)
        self.drop, self.head = nn.Dropout(rate, rngs=rngs), nn.Linear(4, 3, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.head(self.drop(nn.functional.relu(self.norm(self.conv(x))).mean((2, 3))))


class NativeConvs(nnx.Module):
    """The same network with Flax's own layers and channels last."""

    def __init__(self, rngs: nnx.Rngs, momentum: float = 0.9):
        self.stem = nnx.Conv(1, 4, (3, 3), padding="VALID", rngs=rngs)
        self.scale = nnx.BatchNorm(4, momentum=momentum, epsilon=1e-5, rngs=rngs)
        self.drop, self.out = nnx.Dropout(0.4, rngs=rngs), nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.out(self.drop(jax.nn.relu(self.scale(self.stem(x))).mean((1, 2))))


class TorchTagger(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = torch.nn.LSTM(2, 3, batch_first=True), torch.nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class NativeTagger(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.rnn, self.head = nnx.RNN(nnx.LSTMCell(2, 3, rngs=rngs)), nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.head(self.rnn(x)[:, -1])


def mlp_batches(steps: int = STEPS) -> list[Any]:
    rng = np.random.default_rng(1)
    return [(rng.normal(size=(6, 3)), rng.integers(0, 3, 6)) for _ in range(steps)]


def trained(make: Callable[..., Any], optimizer: Any, **options: Any) -> TrainingReport:
    options = {"batches": mlp_batches(), "loss": "cross_entropy"} | options
    return check_training(TorchMlp(), Mlp(), torch_optimizer=make, optimizer=optimizer, **options)


def with_schedule(function: Callable[[int], float]) -> Callable[..., Any]:
    return lambda optimizer: T.lr_scheduler.LambdaLR(optimizer, function)


def halved(step: Any) -> Any:
    return 0.1 * 0.5**step


HALVED = {"torch_scheduler": with_schedule(lambda step: 0.5**step)}
CLIPPED = {"torch_clip": lambda parameters: torch.nn.utils.clip_grad_norm_(parameters, 0.1)}


def both(name: str, **settings: Any) -> tuple[Any, Any]:
    return P(getattr(T, name), **settings), getattr(optim, name)(**settings)


def decayed(decay: float, optimizer: Any) -> Any:
    return optax.chain(optax.add_decayed_weights(decay), optimizer)


RIGHT = {
    "sgd": (P(T.SGD, lr=0.1), optax.sgd(0.1), {}),
    "momentum and decay": (
        P(T.SGD, lr=0.1, momentum=0.9, weight_decay=0.1), decayed(0.1, optax.sgd(0.1, momentum=0.9)), {},
    ),
    "nesterov": (P(T.SGD, lr=0.1, momentum=0.9, nesterov=True), optax.sgd(0.1, momentum=0.9, nesterov=True), {}),
    "adam": (P(T.Adam, lr=0.1, betas=(0.8, 0.99)), optax.adam(0.1, b1=0.8, b2=0.99), {}),
    "adamw": (P(T.AdamW, lr=0.1, weight_decay=0.1), optax.adamw(0.1, weight_decay=0.1), {}),
    "rmsprop": (P(T.RMSprop, lr=0.1), optax.rmsprop(0.1, decay=0.99, eps_in_sqrt=False), {}),
    "adagrad": (
        P(T.Adagrad, lr=0.1, eps=0.0), optax.adagrad(0.1, initial_accumulator_value=0.0, eps=0.0), {},
    ),
    "a schedule": (P(T.SGD, lr=0.1), optax.sgd(halved), HALVED),
    "a schedule and decay": (P(T.AdamW, lr=0.1, weight_decay=0.1), optax.adamw(halved, weight_decay=0.1), HALVED),
    "a cosine schedule": (
        P(T.SGD, lr=0.1), optax.sgd(optax.cosine_decay_schedule(0.1, 4)),
        {"torch_scheduler": lambda optimizer: T.lr_scheduler.CosineAnnealingLR(optimizer, 4)},
    ),
    "adamax": (P(T.Adamax, lr=0.1), optax.adamax(0.1), {}),
    "clipping": (P(T.SGD, lr=0.1), optax.chain(optim.clip_grad_norm(0.1), optax.sgd(0.1)), CLIPPED),
    "groups": (
        lambda module: T.SGD([{"params": module.first.parameters(), "lr": 0.3}, {"params": module.second.parameters()}],
                             lr=0.1),
        optim.SGD(lr=0.1, groups={"first.*": {"lr": 0.3}}), {},
    ),
    "our SGD": (*both("SGD", lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.1), {}),
    "our Adam": (*both("Adam", lr=0.1, weight_decay=0.1, amsgrad=True), {}),
    "our AdamW": (*both("AdamW", lr=0.1), {}),
    "our RMSprop": (*both("RMSprop", lr=0.1, centered=True, momentum=0.5), {}),
    "our Adagrad": (*both("Adagrad", lr=0.1, lr_decay=0.1), {}),
    "our NAdam": (*both("NAdam", lr=0.1), {}),
    "our Rprop": (*both("Rprop", lr=0.1), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_equal_trainings_are_equal(name: str):
    make, optimizer, options = RIGHT[name]
    report = trained(make, optimizer, **options)
    assert report.passed, str(report)
    assert len(report.steps) == STEPS
    assert report.cause is None


def matrices(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def without_momentum_correction() -> optax.GradientTransformation:
    def update(updates: Any, state: Any, params: Any = None) -> Any:
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state[0], updates)
        square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, state[1], updates)
        return jax.tree.map(lambda m, v: -0.1 * m / (jnp.sqrt(v) + 1e-8), mean, square), (mean, square)

    def init(params: Any) -> Any:
        return (jax.tree.map(jnp.zeros_like, params),) * 2

    return optax.GradientTransformation(init, update)


ADAM = P(T.Adam, lr=0.1)
SGD = P(T.SGD, lr=0.1)
MOMENTUM = P(T.SGD, lr=0.1, momentum=0.9)

# Torch's optimizer, Flax's optimizer, options, the name of the cause, and words of its text or fix.
FAULTS = {
    "AdamW for Adam": (
        P(T.Adam, lr=0.1, weight_decay=0.1), optax.adamw(0.1, weight_decay=0.1), {}, "decoupled-weight-decay", "AdamW",
    ),
    "Adam for AdamW": (
        P(T.AdamW, lr=0.1, weight_decay=0.1), decayed(0.1, optax.adam(0.1)), {}, "coupled-weight-decay", "optax.adamw(",
    ),
    "no decay": (P(T.SGD, lr=0.1, weight_decay=0.1), optax.sgd(0.1), {}, "weight-decay", "Flax has no weight decay"),
    "optax's default decay": (
        P(T.AdamW, lr=0.1), optax.adamw(0.1), {}, "weight-decay", "weight_decay=0.0001, torch weight_decay=0.01",
    ),
    "no decay of biases": (
        P(T.AdamW, lr=0.1), optax.adamw(0.1, weight_decay=0.01, mask=matrices), {}, "weight-decay",
        "For first.bias, second.bias: Flax has no weight decay",
    ),
    "decay of biases": (
        lambda ps: T.AdamW([{"params": [p for p in ps if p.ndim > 1]},
                            {"params": [p for p in ps if p.ndim == 1], "weight_decay": 0.0}], lr=0.1),
        optax.adamw(0.1, weight_decay=0.01), {}, "weight-decay",
        "For first.bias, second.bias: Flax has weight_decay=0.01, torch weight_decay=0.",
    ),
    "decay without learning rate": (
        P(T.AdamW, lr=0.1), optax.chain(optax.adam(0.1), optax.add_decayed_weights(-0.01)), {},
        "weight-decay-without-learning-rate", "without the factor of the learning rate",
    ),
    "decay without schedule": (
        P(T.AdamW, lr=0.1), optax.chain(optax.adam(halved), optax.add_decayed_weights(-0.001)), HALVED,
        "weight-decay-without-schedule", "the first learning rate at all steps",
    ),
    "eps": (ADAM, optax.adam(0.1, eps=1e-6), {}, "eps", "eps=1e-06, torch eps=1e-08"),
    "an odd eps": (ADAM, optax.adam(0.1, eps=3.3e-5), {}, "eps", "eps=3.3e-05"),
    "eps_root": (ADAM, optax.adam(0.1, eps_root=1e-7), {}, "eps-root", "eps_root=1e-07"),
    "eps inside the root": (
        P(T.RMSprop, lr=0.1, alpha=0.9), optax.rmsprop(0.1, decay=0.9), {}, "eps-inside-root", "eps_in_sqrt=False",
    ),
    "no bias correction": (ADAM, without_momentum_correction(), {}, "bias-correction", "does not correct the bias"),
    "betas": (ADAM, optax.adam(0.1, b2=0.99), {}, "betas", "beta2=0.99, torch beta2=0.999"),
    "betas swapped": (P(T.Adam, lr=0.1, betas=(0.8, 0.9)), optax.adam(0.1, 0.9, 0.8), {}, "betas-swapped", "reverse"),
    "momentum": (MOMENTUM, optax.sgd(0.1, momentum=0.95), {}, "momentum", "momentum=0.95, torch momentum=0.9"),
    "no momentum": (MOMENTUM, optax.sgd(0.1), {}, "momentum", "momentum=0, torch momentum=0.9"),
    "nesterov": (MOMENTUM, optax.sgd(0.1, momentum=0.9, nesterov=True), {}, "nesterov", "Flax uses Nesterov"),
    "no nesterov": (
        P(T.SGD, lr=0.1, momentum=0.9, nesterov=True), optax.sgd(0.1, momentum=0.9), {}, "nesterov",
        "torch uses Nesterov",
    ),
    "Adam with nesterov": (ADAM, optax.nadam(0.1), {}, "nesterov", "Nesterov's variant of Adam"),
    "optax's nadam": (P(T.NAdam, lr=0.1), optax.nadam(0.1), {}, "other-optimizer", "optax.nadam"),
    "no dampening": (
        P(T.SGD, lr=0.1, momentum=0.9, dampening=0.5), optax.sgd(0.1, momentum=0.9), {}, "dampening", "dampening=0.5",
    ),
    "dampening of the first gradient": (
        P(T.SGD, lr=0.1, momentum=0.9, dampening=0.9), optax.chain(optax.ema(0.9, debias=False), optax.scale(-0.1)), {},
        "first-momentum-dampened", "dampens the first gradient",
    ),
    "averaged gradients": (
        MOMENTUM, optax.chain(optax.ema(0.9), optax.scale(-0.1)), {}, "momentum-averaged", "decay 0.9",
    ),
    "AdaBelief": (ADAM, optax.adabelief(0.1), {}, "other-optimizer", "AdaBelief"),
    "weight decay after momentum": (
        P(T.SGD, lr=0.1, momentum=0.9, weight_decay=0.1),
        optax.chain(optax.trace(0.9), optax.add_decayed_weights(0.1), optax.scale(-0.1)), {}, "decoupled-weight-decay",
        "optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9))",
    ),
    "bias correction": (
        P(T.RMSprop, lr=0.1), optax.rmsprop(0.1, decay=0.99, eps_in_sqrt=False, bias_correction=True), {},
        "bias-correction", "Flax corrects the bias",
    ),
    "learning rate": (ADAM, optax.adam(0.03), {}, "learning-rate", "learning rate 0.03, torch 0.1"),
    "learning rate of a group": (
        lambda module: T.SGD([{"params": module.first.parameters(), "lr": 0.3}, {"params": module.second.parameters()}],
                             lr=0.1),
        optax.sgd(0.1), {}, "learning-rate", "For first.weight, first.bias",
    ),
    "schedule one step ahead": (
        SGD, optax.sgd(lambda step: halved(step + 1)), HALVED, "schedule-off-by-one", "one step ahead",
    ),
    "schedule one step behind": (
        SGD, optax.sgd(lambda step: halved(jnp.maximum(step - 1, 0))), HALVED, "schedule-off-by-one", "one step behind",
    ),
    "no schedule": (SGD, optax.sgd(0.1), HALVED, "schedule-missing", "keeps the first learning rate"),
    "another schedule": (SGD, optax.sgd(lambda step: 0.1 / (step + 1)), HALVED, "schedule", "0.1, 0.05, 0.0333333"),
    "learning rate inside momentum": (
        MOMENTUM, optax.chain(optax.scale_by_learning_rate(halved), optax.trace(0.9)), HALVED,
        "learning-rate-inside-momentum", "sums steps in the momentum",
    ),
    "not centered": (
        P(T.RMSprop, lr=0.1, centered=True), optax.rmsprop(0.1, decay=0.99, eps_in_sqrt=False), {}, "centered",
        "variance",
    ),
    "initial scale": (
        P(T.RMSprop, lr=0.1), optax.rmsprop(0.1, decay=0.99, eps_in_sqrt=False, initial_scale=1.0), {}, "initial-scale",
        "start at 1",
    ),
    "optax's rmsprop": (P(T.RMSprop, lr=0.1), optax.rmsprop(0.1), {}, "optax-defaults", "eps inside the root"),
    "optax's adagrad": (
        P(T.Adagrad, lr=0.1), optax.adagrad(0.1), {}, "optax-defaults", "initial_accumulator_value=0.1",
    ),
    "initial accumulator": (
        P(T.Adagrad, lr=0.1), optim.Adagrad(lr=0.1, initial_accumulator_value=0.2), {}, "initial-accumulator", "=0.2",
    ),
    "clipping of the norm": (
        SGD, optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.1)), {}, "clipping",
        "norm of all gradients at 0.1, torch does not",
    ),
    "no clipping": (SGD, optax.sgd(0.1), CLIPPED, "clipping", "Flax does not clip gradients"),
    "clipping of values": (
        SGD, optax.chain(optax.clip(0.05), optax.sgd(0.1)), CLIPPED, "clipping",
        "each gradient at 0.05, torch clips the norm of all gradients at 0.1",
    ),
    "clipping at another norm": (
        ADAM, optax.chain(optim.clip_grad_norm(0.2), optax.adam(0.1)), CLIPPED, "clipping",
        "flaxnets.optim.clip_grad_norm(0.1)",
    ),
    "clipping after the update": (
        ADAM, optax.chain(optax.adam(0.1), optax.clip_by_global_norm(0.1)), CLIPPED, "clipping", "norm of the update",
    ),
    "clipping of the decay": (
        P(T.SGD, lr=0.1, weight_decay=0.1),
        optax.chain(optax.add_decayed_weights(0.1), optax.clip_by_global_norm(0.1), optax.sgd(0.1)), CLIPPED,
        "clipping", "adds the weight decay to the gradients before",
    ),
    "clipping without torch's 1e-6": (
        SGD, optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.1)), CLIPPED, "clipping", "norm + 1e-6",
    ),
    "gradients not cleared": (
        SGD, optax.chain(optax.trace(1.0), optax.sgd(0.1)), {}, "gradients-accumulated", "clears them before each step",
    ),
    "accumulation": (ADAM, optax.MultiSteps(optax.adam(0.1), 2), {}, "gradient-accumulation", "gradients of 2 steps"),
    "maximize": (*both("SGD", lr=0.1)[:1], optim.SGD(lr=0.1, maximize=True), {}, "maximize", "Flax maximizes"),
    "wrong sign of the update": (
        P(T.AdamW, lr=0.1), optax.chain(optax.adamw(0.1, weight_decay=0.01), optax.scale(-1.0)), {}, "update-sign",
        "adds the update",
    ),
    "amsgrad": (ADAM, optim.Adam(lr=0.1, amsgrad=True), {}, "amsgrad", "Flax uses the largest average"),
    "no amsgrad": (P(T.Adam, lr=0.1, amsgrad=True), optax.adam(0.1), {}, "amsgrad", "torch uses the largest average"),
    "averaged updates": (SGD, optax.chain(optax.sgd(0.1), optax.ema(0.9)), {}, "update-average", "decay 0.9"),
    "frozen": (
        ADAM, optax.partition({True: optax.adam(0.1), False: optax.set_to_zero()}, matrices), {}, "frozen-parameter",
        "For first.bias, second.bias: Flax does not train",
    ),
    "trained": (
        lambda ps: T.Adam([p for p in ps if p.ndim > 1], lr=0.1), optax.adam(0.1), {}, "trained-parameter",
        "For first.bias, second.bias: Flax trains",
    ),
    "SGD for Adam": (ADAM, optax.sgd(0.3), {}, "other-optimizer", "Flax uses SGD with learning rate 0.3"),
    "Lion for AdamW": (P(T.AdamW, lr=0.1), optax.lion(0.01, weight_decay=0.01), {}, "other-optimizer", "Lion"),
    "two mistakes": (
        P(T.Adam, lr=0.1, eps=1e-4), optax.adam(0.05), {}, "learning-rate+eps", "eps=1e-08, torch eps=0.0001",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_mistake_in_an_optimizer_is_named(name: str):
    make, optimizer, options, cause, words = FAULTS[name]
    report = trained(make, optimizer, **options)
    assert not report.passed
    assert (report.stage, report.cause and report.cause.name) == ("update", cause), str(report)
    assert words in report.cause.text + report.cause.fix
    assert report.cause.after <= 1 < report.cause.before


def labels_loss(outputs: Any, targets: Any) -> Any:
    return optax.softmax_cross_entropy_with_integer_labels(outputs, targets)


def smoothed_loss(outputs: Any, targets: Any) -> Any:
    return optax.softmax_cross_entropy(outputs, optax.smooth_labels(jax.nn.one_hot(targets, 3), 0.1)).mean()


def squares(outputs: Any, targets: Any, height: float = 1.0) -> Any:
    return outputs - height * jax.nn.one_hot(targets, 3)


def torch_mse(outputs: Any, targets: Any, height: float = 1.0) -> Any:
    return F.mse_loss(outputs, height * F.one_hot(targets, 3).double())


def ignored_loss(outputs: Any, targets: Any) -> Any:
    return jnp.where(targets == 0, 0.0, labels_loss(outputs, targets)).mean()


def softmax(outputs: Any) -> Any:
    return jax.nn.softmax(outputs)


WEIGHTS = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)

LOSSES = {
    "a sum": (F.cross_entropy, lambda o, t: labels_loss(o, t).sum(), "loss-reduction", "sums the loss over the batch"),
    "a mean": (
        P(F.cross_entropy, reduction="sum"), lambda o, t: labels_loss(o, t).mean(), "loss-reduction", "torch the sum",
    ),
    "half the squares": (torch_mse, lambda o, t: optax.l2_loss(squares(o, t)).mean(), "loss-scale", "optax.l2_loss"),
    "a sum of squares": (torch_mse, lambda o, t: jnp.square(squares(o, t)).sum(), "loss-reduction", "sums the loss"),
    "a factor": (F.cross_entropy, lambda o, t: 0.7 * labels_loss(o, t).mean(), "loss-scale", "0.7 times torch's"),
    "no smoothing": (
        P(F.cross_entropy, label_smoothing=0.1), lambda o, t: labels_loss(o, t).mean(), "label-smoothing",
        "label_smoothing=0, torch label_smoothing=0.1",
    ),
    "smoothing": (F.cross_entropy, smoothed_loss, "label-smoothing", "label_smoothing=0.1, torch label_smoothing=0"),
    "no class weights": (
        P(F.cross_entropy, weight=WEIGHTS), lambda o, t: labels_loss(o, t).mean(), "class-weights", "no class weights",
    ),
    "ignored targets": (P(F.cross_entropy, ignore_index=0), ignored_loss, "ignored-targets", "number of all targets"),
    "two softmaxes": (
        F.cross_entropy, lambda o, t: labels_loss(softmax(o), t).mean(), "softmax-twice", "applies softmax again",
    ),
    "no softmax": (
        F.cross_entropy, lambda o, t: -jnp.sum(o * jax.nn.one_hot(t, 3), 1).mean(), "softmax-missing", "log-softmax",
    ),
    "Huber's loss": (
        P(torch_mse, height=5.0), lambda o, t: optax.huber_loss(squares(o, t, 5.0)).mean(), "other-loss",
        "smooth_l1_loss",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_a_mistake_in_a_loss_is_named(name: str):
    theirs, ours, cause, words = LOSSES[name]
    report = trained(SGD, optax.sgd(0.1), loss=(theirs, ours))
    assert (report.stage, report.first_step, report.cause and report.cause.name) == ("loss", 1, cause), str(report)
    assert words in report.cause.text
    assert report.cause.after <= 1


class Penalized(Mlp):
    """A network that returns its outputs and a penalty."""

    def __call__(self, x: Any) -> Any:
        weights = [self.first.weight, self.first.bias, self.second.weight, self.second.bias]
        return super().__call__(x), sum(jnp.sum(w.get_value() ** 2) for w in weights)


@pytest.mark.parametrize(("decay", "cause"), [(0.2, "weight-decay-in-loss"), (0.0, "penalty-in-loss")])
def test_weight_decay_in_the_loss_is_named(decay: float, cause: str):
    report = check_training(
        TorchMlp(), Penalized(), mlp_batches(), torch_optimizer=P(SGD, weight_decay=decay), optimizer=optax.sgd(0.1),
        loss=(F.cross_entropy, lambda outputs, targets: labels_loss(outputs[0], targets).mean() + 0.1 * outputs[1]),
    )  # fmt: skip
    assert report.cause is not None, str(report)
    assert report.cause.name == cause
    assert "0.1 times the squares" in report.cause.text


@jax.custom_vjp
def doubled_slope(x: Any) -> Any:
    return x


doubled_slope.defvjp(lambda x: (x, None), lambda _, g: (2 * g,))


def test_a_gradient_that_is_not_the_losss_is_named():
    def loss(outputs: Any, targets: Any) -> Any:
        return doubled_slope(labels_loss(outputs, targets).mean())

    report = trained(SGD, optax.sgd(0.1), loss=(F.cross_entropy, loss))
    assert (report.stage, report.cause and report.cause.name) == ("gradient", "gradient-scale"), str(report)
    assert "2 times torch's" in str(report)


def convs(flax: Any, optimizer: Any = None, make: Any = MOMENTUM, **options: Any) -> TrainingReport:
    batches, loss = random_batches(TorchConvs(), [np.zeros((4, 1, 5, 5))], steps=3, seed=2)
    optimizer = optax.sgd(0.1, momentum=0.9) if optimizer is None else optimizer
    return check_training(TorchConvs(), flax, batches, loss=loss, torch_optimizer=make, optimizer=optimizer, **options)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_dropout_masks_and_running_statistics_are_shared(mode: Any):
    report = convs(Convs(rngs=nnx.Rngs(0)), mode=mode)
    assert report.passed, str(report)
    assert report.notes == ()


class Wrong(Convs):
    """A network with one mistake."""

    def __init__(self, mistake: str, *, rngs: nnx.Rngs):
        super().__init__(rngs=rngs)
        if mistake == "momentum":
            self.norm = nn.BatchNorm2d(4, momentum=0.9)
        elif mistake == "biased":
            self.norm = Biased(4)
        self.mistake = mistake

    def __call__(self, x: Any) -> Any:
        if self.mistake == "mode":
            self.norm.eval()
        return super().__call__(x)


class Biased(nn.BatchNorm2d):
    def __call__(self, input: Any) -> Any:
        before, count = self.running_var.get_value(), input.size / input.shape[1]
        output = super().__call__(input)
        old_part = 0.9 * before
        self.running_var.set_value(old_part + (self.running_var.get_value() - old_part) * (count - 1) / count)
        return output


@pytest.mark.parametrize(
    ("mistake", "stage", "cause", "words"),
    [
        ("momentum", "buffer", "batchnorm-momentum", "momentum=0.9 (as torch counts), torch with momentum=0.1"),
        ("biased", "buffer", "biased-variance", "stores the biased variance"),
        ("mode", "loss", "mode", "batch normalization in evaluation mode, torch in training mode"),
    ],
)
def test_a_mistake_in_batch_normalization_is_named(mistake: str, stage: str, cause: str, words: str):
    report = convs(Wrong(mistake, rngs=nnx.Rngs(0)))
    assert (report.stage, report.cause and report.cause.name) == (stage, cause), str(report)
    assert words in report.cause.text


def test_layers_of_flax_train_through_a_matching():
    model = NativeConvs(nnx.Rngs(0))
    assert convs(model, mode="eval").passed
    report = convs(model)
    assert (report.stage, report.first_name) == ("buffer", "scale.var")
    assert report.cause is not None
    assert report.cause.name == "biased-variance"
    assert report.notes == ("Input 0: (N, C, H, W) in torch is (N, H, W, C) in Flax.",)
    report = convs(model, optax.sgd(0.1, momentum=0.9, nesterov=True))  # The running statistics also differ.
    assert (report.stage, report.cause and report.cause.name) == ("update", "nesterov"), str(report)


class LinenMlp(linen.Module):
    @linen.compact
    def __call__(self, x: Any) -> Any:
        return linen.Dense(3)(jnp.tanh(linen.Dense(4)(x)))


def test_modules_of_linen_train():
    options = {"batches": mlp_batches(3), "loss": "cross_entropy", "torch_optimizer": MOMENTUM}
    assert check_training(TorchMlp(), LinenMlp(), optimizer=optax.sgd(0.1, momentum=0.9), **options).passed
    report = check_training(TorchMlp(), LinenMlp(), optimizer=optax.sgd(0.1, momentum=0.5), **options)
    assert (report.title, report.cause and report.cause.name) == ("TorchMlp / LinenMlp", "momentum")


def test_one_bias_for_two_is_named():
    batches, loss = random_batches(TorchTagger(), [np.zeros((3, 4, 2))], steps=3)
    report = check_training(
        TorchTagger(), NativeTagger(nnx.Rngs(0)), batches, loss=loss, torch_optimizer=ADAM, optimizer=optax.adam(0.1)
    )
    assert (report.stage, report.cause and report.cause.name) == ("update", "one-bias"), str(report)
    assert "lstm.bias_ih_l0 + lstm.bias_hh_l0" in report.cause.text


class Frozen(Mlp):
    def __init__(self) -> None:
        super().__init__()
        self.first.bias = nn.Parameter(jnp.zeros(4), requires_grad=False)


class TorchFrozen(TorchMlp):
    def __init__(self) -> None:
        super().__init__()
        self.first.bias.requires_grad_(False)


@pytest.mark.parametrize(
    ("theirs", "ours", "cause"),
    [
        (TorchFrozen, Frozen, None),
        (TorchFrozen, Mlp, "trained-parameter"),
        (TorchMlp, Frozen, "frozen-parameter"),
    ],
    ids=["both", "torch", "Flax"],
)
def test_parameters_that_are_frozen_on_one_side_are_named(theirs: Any, ours: Any, cause: str | None):
    report = check_training(
        theirs(), ours(), mlp_batches(3), loss="cross_entropy", torch_optimizer=MOMENTUM,
        optimizer=optax.sgd(0.1, momentum=0.9),
    )  # fmt: skip
    assert (report.cause and report.cause.name) == cause, str(report)
    assert report.passed == (cause is None)
    if report.cause is not None:
        assert "For first.bias" in report.cause.text


class TorchChaos(TorchMlp):
    """A module that amplifies a change in the last place of a weight a million times."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = torch.sigmoid(super().forward(x))
        for _ in range(40):
            z = 3.9 * z * (1 - z)
        return z


class Chaos(Mlp):
    def __call__(self, x: Any) -> Any:
        z = 1 / (1 + jnp.exp(-super().__call__(x)))
        for _ in range(40):
            z = z * (3.9 - 3.9 * z)
        return z


def test_rounding_errors_that_grow_are_no_difference():
    report = check_training(
        TorchChaos(), Chaos(), mlp_batches(6), loss="cross_entropy", torch_optimizer=P(T.SGD, lr=1e-8),
        optimizer=optax.sgd(1e-8),
    )  # fmt: skip
    assert report.passed, str(report)
    assert max(row.error for row in report.steps) > 1e-9  # In another model, such an error would be a difference.


def test_a_mistake_without_a_name_is_located():
    def odd(updates: Any, state: Any, params: Any = None) -> Any:
        return jax.tree.map(lambda g: -0.1 * g * jnp.cos(g), updates), state

    report = trained(SGD, optax.GradientTransformation(lambda params: (), odd))
    assert (report.first_step, report.first_name, report.stage) == (1, "first.weight", "update")
    assert report.cause is None
    assert "the optimizer differs" in str(report)


class Shifted(Mlp):
    def __call__(self, x: Any) -> Any:
        return super().__call__(x) + 0.1 * x


def test_a_wrong_forward_pass_is_told_from_a_wrong_optimizer():
    report = check_training(
        TorchMlp(), Shifted(), mlp_batches(), loss="cross_entropy", torch_optimizer=SGD, optimizer=optax.sgd(0.1)
    )
    assert (report.stage, report.first_step, report.first_name, report.cause) == ("loss", 1, "loss", None)
    assert "flaxnets.parity.check" in str(report)


def test_a_report_can_be_read_by_people_and_programs():
    report = trained(MOMENTUM, optax.sgd(0.1, momentum=0.8))
    content = json.loads(report.to_json())
    assert (content["passed"], content["first_step"], content["stage"]) == (False, 2, "update")
    assert content["cause"]["name"] == "momentum"
    assert len(content["steps"]) == STEPS
    for text in (str(report), report.to_markdown()):
        assert "TorchMlp / Mlp: NOT equal from training step 2 on" in text
        assert "optax.sgd(0.1, momentum=0.9)" in text
    assert report.steps[0].passed
    assert not report.steps[1].passed
    assert str(report).count("<--") == STEPS - 1


def test_both_modules_and_the_optimizer_stay_as_they_are():
    twin, model = TorchMlp(), Mlp()
    before = {name: value.clone() for name, value in twin.state_dict().items()}
    optimizer = T.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    ours = optax.sgd(0.1, momentum=0.9)
    assert check_training(
        twin, model, mlp_batches(), loss="cross_entropy", torch_optimizer=optimizer, optimizer=ours
    ).passed
    assert all(torch.equal(value, before[name]) for name, value in twin.state_dict().items())
    assert not optimizer.state
    assert optimizer.param_groups[0]["params"][0] is twin.first.weight
    assert not model.first.weight.get_value().any()


@pytest.mark.parametrize(
    ("inputs", "module", "loss", "shape"),
    [
        ([np.zeros((4, 3), np.float32)], TorchMlp(), "cross_entropy", (4,)),
        ([np.zeros((4, 1, 5, 5))], torch.nn.Conv2d(1, 2, 3), "mse", (4, 2, 3, 3)),
        ([np.array([[1, 5]])], torch.nn.Embedding(6, 3), "mse", (1, 2, 3)),
    ],
    ids=["classes", "images", "token ids"],
)
def test_random_batches_are_like_the_example(inputs: Any, module: Any, loss: str, shape: tuple[int, ...]):
    batches, name = random_batches(module, inputs, steps=2, seed=3)
    assert (len(batches), name) == (2, loss)
    (x,), target = batches[0]
    assert x.shape == inputs[0].shape
    assert target.shape == shape
    assert not np.array_equal(x, batches[1][0][0]) or x.dtype.kind == "i"
    if x.dtype.kind == "i":
        assert x.min() >= 1
        assert x.max() <= 5


class TorchNoise(TorchMlp):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x + torch.randn_like(x))


def nan_loss(outputs: Any, targets: Any) -> Any:
    return outputs.sum() * float("nan")


def wide() -> list[Any]:
    return [*mlp_batches(1), (np.ones((6, 5)), np.zeros(6, int))]


ERRORS = {
    "other shape": ({"batches": wide()}, ValueError, r"batch 2 \(inputs \(6, 5\); targets \(6,\)\) does not fit"),
    "no batches": ({"batches": []}, ValueError, "batches is empty"),
    "no pair": ({"batches": [np.ones(3)]}, ValueError, "batch 1 is a ndarray. Expected a pair of inputs and targets"),
    "NaN": ({"loss": (nan_loss, nan_loss)}, ValueError, "the torch loss of step 1 is nan"),
    "no scalar": (
        {"loss": (P(F.cross_entropy, reduction="none"), labels_loss)}, ValueError, r"the torch loss has shape \(6,\)",
    ),
    "no scalar in Flax": (
        {"loss": (F.cross_entropy, labels_loss)}, ValueError, r"the Flax loss has shape \(6,\). Expected one number",
    ),
    "unknown loss": ({"loss": "hinge"}, ValueError, "loss: 'hinge'. Expected 'cross_entropy' or 'mse'"),
    "other parameters": (
        {"torch_optimizer": lambda _: T.SGD(TorchMlp().parameters(), lr=0.1)}, ValueError,
        "SGD over 4 other parameters",
    ),
    "no parameters": (
        {"torch_optimizer": lambda _: T.SGD([torch.ones(1, requires_grad=True)], lr=0.1)}, ValueError,
        "SGD over 1 other parameters",
    ),
    "no torch optimizer": ({"torch_optimizer": lambda _: "sgd"}, TypeError, "torch_optimizer returned str: 'sgd'"),
    "not callable": ({"torch_optimizer": 0.1}, TypeError, "torch_optimizer: 0.1. Expected a function"),
    "no optimizer": ({"optimizer": 0.1}, TypeError, "optimizer: 0.1. Expected an optimizer of optax"),
    "unknown mode": ({"mode": "test"}, ValueError, "mode: 'test'. Expected 'train' or 'eval'"),
    "random numbers": ({"torch_module": TorchNoise()}, ValueError, "the torch module is not deterministic"),
    "nothing to train": ({"torch_module": torch.nn.ReLU()}, ValueError, "ReLU has no parameters to train"),
    "no torch module": ({"torch_module": Mlp()}, TypeError, "the first module is a Mlp"),
    "no Flax module": ({"flax_module": 3}, TypeError, "int is not a JAX model"),
    "other names": ({"torch_module": torch.nn.Linear(3, 3)}, ValueError, "the names have no complete match"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_what_cannot_be_trained_is_an_error(name: str):
    given, kind, match = ERRORS[name]
    arguments = {
        "torch_module": TorchMlp(), "flax_module": Mlp(), "batches": mlp_batches(2), "loss": "cross_entropy",
        "torch_optimizer": SGD, "optimizer": optax.sgd(0.1),
    } | given  # fmt: skip
    with pytest.raises(kind, match=match):
        check_training(**arguments)


def test_an_optimizer_that_has_taken_steps_is_an_error():
    twin = TorchMlp()
    optimizer = T.Adam(twin.parameters())
    twin(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    with pytest.raises(ValueError, match="torch_optimizer: a Adam that has taken steps"):
        check_training(
            twin, Mlp(), mlp_batches(1), loss="cross_entropy", torch_optimizer=optimizer, optimizer=optax.adam(1e-3)
        )
