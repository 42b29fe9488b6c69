"""The networks in Flax NNX's own layers, in the style of Flax's documentation: images are channels last.

The networks have the parameters of the registered networks, except that recurrent cells have one bias where torch has
two.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.sizes import VOCABULARY

CHANNELS = (96, 256, 384, 384, 256)
VGG11 = ((1, 64), (1, 128), (2, 256), (2, 512), (2, 512))


def flatten(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1)


def conv(c_in: int, c_out: int, kernel: int, stride: int = 1, padding: int = 0, *, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(c_in, c_out, (kernel, kernel), stride, padding=padding, rngs=rngs)


def max_pool(window: int, stride: int, padding: int = 0) -> Callable[[jax.Array], jax.Array]:
    pads = ((padding, padding), (padding, padding))
    return partial(nnx.max_pool, window_shape=(window, window), strides=(stride, stride), padding=pads)


def avg_pool(window: int, stride: int) -> Callable[[jax.Array], jax.Array]:
    return partial(nnx.avg_pool, window_shape=(window, window), strides=(stride, stride))


def global_avg_pool(x: jax.Array) -> jax.Array:
    return x.mean((1, 2))


def batch_norm(channels: int, *, rngs: nnx.Rngs) -> nnx.BatchNorm:
    return nnx.BatchNorm(channels, momentum=0.9, rngs=rngs)


def dense(*widths: int, activation: Callable, rngs: nnx.Rngs) -> list[Any]:
    """Return linear layers with an activation between each two."""
    layers: list[Any] = []
    for c_in, c_out in pairwise(widths):
        layers += [nnx.Linear(c_in, c_out, rngs=rngs), activation]
    return layers[:-1]


def dense_head(features: int, hidden: int, classes: int, *, rngs: nnx.Rngs) -> list[Any]:
    """Return the last layers of AlexNet and VGG."""
    first, relu1, second, relu2, last = dense(features, hidden, hidden, classes, activation=nnx.relu, rngs=rngs)
    dropout = partial(nnx.Dropout, 0.5, rngs=rngs)
    return [flatten, first, relu1, dropout(), second, relu2, dropout(), last]


def linear(*, features: int, outputs: int, rngs: nnx.Rngs) -> nnx.Sequential:
    return nnx.Sequential(flatten, nnx.Linear(features, outputs, rngs=rngs))


def mlp(*, num_inputs: int = 784, num_hiddens: int = 256, num_classes: int = 10, rngs: nnx.Rngs) -> nnx.Sequential:
    return nnx.Sequential(flatten, *dense(num_inputs, num_hiddens, num_classes, activation=nnx.relu, rngs=rngs))


def mlp_dropout(*, rngs: nnx.Rngs) -> nnx.Sequential:
    first, relu1, second, relu2, last = dense(784, 256, 256, 10, activation=nnx.relu, rngs=rngs)
    dropouts = nnx.Dropout(0.2, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
    return nnx.Sequential(flatten, first, relu1, dropouts[0], second, relu2, dropouts[1], last)


def lenet(
    *, in_channels: int = 1, padding: int = 0, features: int = 256, activation: Callable = nnx.sigmoid,
    pool: Callable = max_pool, norms: Sequence[str] = (), rngs: nnx.Rngs,
) -> nnx.Sequential:  # fmt: skip
    """Build a variant of LeNet. ``norms`` lists the layers with batch norm: convolutions (conv), linear (dense)."""

    def block(layer: Any, channels: int, kind: str) -> list[Any]:
        return [layer, *([batch_norm(channels, rngs=rngs)] if kind in norms else []), activation]

    return nnx.Sequential(
        *block(conv(in_channels, 6, 5, padding=padding, rngs=rngs), 6, "conv"), pool(2, 2),
        *block(conv(6, 16, 5, rngs=rngs), 16, "conv"), pool(2, 2), flatten,
        *block(nnx.Linear(features, 120, rngs=rngs), 120, "dense"),
        *block(nnx.Linear(120, 84, rngs=rngs), 84, "dense"),
        nnx.Linear(84, 10, rngs=rngs),
    )  # fmt: skip


def alexnet(*, padding: int = 1, rngs: nnx.Rngs) -> nnx.Sequential:
    c1, c2, c3, c4, c5 = CHANNELS
    return nnx.Sequential(
        conv(1, c1, 11, 4, padding, rngs=rngs), nnx.relu, max_pool(3, 2),
        conv(c1, c2, 5, padding=2, rngs=rngs), nnx.relu, max_pool(3, 2),
        conv(c2, c3, 3, padding=1, rngs=rngs), nnx.relu,
        conv(c3, c4, 3, padding=1, rngs=rngs), nnx.relu,
        conv(c4, c5, 3, padding=1, rngs=rngs), nnx.relu, max_pool(3, 2),
        *dense_head(c5 * 25, 4096, 10, rngs=rngs),
    )  # fmt: skip


def vgg11(
    *, conv_arch: Any = VGG11, fc_features: int = 512 * 7 * 7, num_hiddens: int = 4096, rngs: nnx.Rngs
) -> nnx.Sequential:
    layers, channels = [], 1
    for num_convs, width in conv_arch:
        for _ in range(num_convs):
            layers += [conv(channels, width, 3, padding=1, rngs=rngs), nnx.relu]
            channels = width
        layers.append(max_pool(2, 2))
    return nnx.Sequential(*layers, *dense_head(fc_features, num_hiddens, 10, rngs=rngs))


def vgg11_named(
    *, conv_arch: Any = None, fc_features: int = 512 * 7 * 7, fc_hidden_units: int = 4096, rngs: nnx.Rngs
) -> nnx.Sequential:
    arch = tuple((num_convs, width) for num_convs, _, width in conv_arch) if conv_arch else VGG11
    return vgg11(conv_arch=arch, fc_features=fc_features, num_hiddens=fc_hidden_units, rngs=rngs)


def nin(*, pool: Callable = global_avg_pool, rngs: nnx.Rngs) -> nnx.Sequential:
    def block(c_in: int, c_out: int, kernel: int, stride: int, padding: int) -> list[Any]:
        first = conv(c_in, c_out, kernel, stride, padding, rngs=rngs)
        return [first, nnx.relu, conv(c_out, c_out, 1, rngs=rngs), nnx.relu, conv(c_out, c_out, 1, rngs=rngs), nnx.relu]

    return nnx.Sequential(
        *block(1, 96, 11, 4, 0), max_pool(3, 2),
        *block(96, 256, 5, 1, 2), max_pool(3, 2),
        *block(256, 384, 3, 1, 1), max_pool(3, 2),
        nnx.Dropout(0.5, rngs=rngs),
        *block(384, 10, 3, 1, 1), pool, flatten,
    )  # fmt: skip


class Inception(nnx.Module):
    def __init__(self, c_in: int, c1: int, c2: tuple[int, int], c3: tuple[int, int], c4: int, *, rngs: nnx.Rngs):
        self.p1_1 = conv(c_in, c1, 1, rngs=rngs)
        self.p2_1 = conv(c_in, c2[0], 1, rngs=rngs)
        self.p2_2 = conv(c2[0], c2[1], 3, padding=1, rngs=rngs)
        self.p3_1 = conv(c_in, c3[0], 1, rngs=rngs)
        self.p3_2 = conv(c3[0], c3[1], 5, padding=2, rngs=rngs)
        self.p4_2 = conv(c_in, c4, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        p1 = nnx.relu(self.p1_1(x))
        p2 = nnx.relu(self.p2_2(nnx.relu(self.p2_1(x))))
        p3 = nnx.relu(self.p3_2(nnx.relu(self.p3_1(x))))
        p4 = nnx.relu(self.p4_2(max_pool(3, 1, 1)(x)))
        return jnp.concatenate([p1, p2, p3, p4], axis=-1)


def googlenet(*, rngs: nnx.Rngs) -> nnx.Sequential:
    def inceptions(c_in: int, *blocks: Any) -> list[Any]:
        layers = []
        for c1, c2, c3, c4 in blocks:
            layers.append(Inception(c_in, c1, c2, c3, c4, rngs=rngs))
            c_in = c1 + c2[1] + c3[1] + c4
        return layers

    return nnx.Sequential(
        conv(1, 64, 7, 2, 3, rngs=rngs), nnx.relu, max_pool(3, 2, 1),
        conv(64, 64, 1, rngs=rngs), nnx.relu, conv(64, 192, 3, padding=1, rngs=rngs), nnx.relu, max_pool(3, 2, 1),
        *inceptions(192, (64, (96, 128), (16, 32), 32), (128, (128, 192), (32, 96), 64)), max_pool(3, 2, 1),
        *inceptions(
            480, (192, (96, 208), (16, 48), 64), (160, (112, 224), (24, 64), 64), (128, (128, 256), (24, 64), 64),
            (112, (144, 288), (32, 64), 64), (256, (160, 320), (32, 128), 128),
        ), max_pool(3, 2, 1),
        *inceptions(832, (256, (160, 320), (32, 128), 128), (384, (192, 384), (48, 128), 128)),
        global_avg_pool, nnx.Linear(1024, 10, rngs=rngs),
    )  # fmt: skip


class Residual(nnx.Module):
    def __init__(self, c_in: int, c_out: int, stride: int, *, rngs: nnx.Rngs):
        self.conv1 = conv(c_in, c_out, 3, stride, 1, rngs=rngs)
        self.bn1 = batch_norm(c_out, rngs=rngs)
        self.conv2 = conv(c_out, c_out, 3, 1, 1, rngs=rngs)
        self.bn2 = batch_norm(c_out, rngs=rngs)
        self.conv3 = conv(c_in, c_out, 1, stride, rngs=rngs) if stride > 1 else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return nnx.relu(y + (x if self.conv3 is None else self.conv3(x)))


def resnet18(
    *, num_channels: Sequence[int] = (64, 128, 256, 512), num_residuals: int = 2, rngs: nnx.Rngs
) -> nnx.Sequential:
    channels = num_channels[0]
    layers = [conv(1, channels, 7, 2, 3, rngs=rngs), batch_norm(channels, rngs=rngs), nnx.relu, max_pool(3, 2, 1)]
    for stage, width in enumerate(num_channels):
        for i in range(num_residuals):
            layers.append(Residual(channels, width, 2 if stage and not i else 1, rngs=rngs))
            channels = width
    return nnx.Sequential(*layers, global_avg_pool, nnx.Linear(channels, 10, rngs=rngs))


class DenseBlock(nnx.Module):
    def __init__(self, num_convs: int, c_in: int, growth_rate: int, *, rngs: nnx.Rngs):
        widths = [c_in + i * growth_rate for i in range(num_convs)]
        self.norms = nnx.List([batch_norm(width, rngs=rngs) for width in widths])
        self.convs = nnx.List([conv(width, growth_rate, 3, padding=1, rngs=rngs) for width in widths])

    def __call__(self, x: jax.Array) -> jax.Array:
        for norm, convolution in zip(self.norms, self.convs, strict=True):
            x = jnp.concatenate([x, convolution(nnx.relu(norm(x)))], axis=-1)
        return x


def densenet(*, rngs: nnx.Rngs) -> nnx.Sequential:
    channels, growth_rate = 64, 32
    layers: list[Any] = [conv(1, 64, 7, 2, 3, rngs=rngs), batch_norm(64, rngs=rngs), nnx.relu, max_pool(3, 2, 1)]
    for stage in range(4):
        if stage:
            norm, halved = batch_norm(channels, rngs=rngs), conv(channels, channels // 2, 1, rngs=rngs)
            layers += [norm, nnx.relu, halved, avg_pool(2, 2)]
            channels //= 2
        layers.append(DenseBlock(4, channels, growth_rate, rngs=rngs))
        channels += 4 * growth_rate
    norm = batch_norm(channels, rngs=rngs)
    return nnx.Sequential(*layers, norm, nnx.relu, global_avg_pool, nnx.Linear(channels, 10, rngs=rngs))


class LanguageModel(nnx.Module):
    """A language model: ids of shape (batch, characters) to logits of shape (batch, characters, vocabulary)."""

    def __init__(self, cell: type, *, num_hiddens: int = 256, rngs: nnx.Rngs):
        self.rnn = nnx.RNN(cell(VOCABULARY, num_hiddens, rngs=rngs))
        self.dense = nnx.Linear(num_hiddens, VOCABULARY, rngs=rngs)

    def __call__(self, ids: jax.Array) -> jax.Array:
        return self.dense(self.rnn(jax.nn.one_hot(ids, VOCABULARY)))


NETWORKS: dict[str, Callable[..., nnx.Module]] = {
    "linear_regression": partial(linear, features=2, outputs=1),
    "linear_regression_sequential": partial(linear, features=2, outputs=1),
    "softmax_regression": partial(linear, features=784, outputs=10),
    "softmax_regression_sequential": partial(linear, features=784, outputs=10),
    "mlp": mlp,
    "mlp_named": mlp,
    "mlp_dropout": mlp_dropout,
    "lenet": partial(lenet, padding=2, features=400, pool=avg_pool),
    "lenet_maxpool": lenet,
    "lenet_fc_batchnorm": partial(lenet, norms=("dense",)),
    "lenet_relu": partial(lenet, features=400, activation=nnx.relu),
    "lenet_rgb": partial(lenet, in_channels=3, features=400, activation=nnx.relu),
    "lenet_batchnorm": partial(lenet, pool=avg_pool, norms=("conv", "dense")),
    "lenet_batchnorm_scratch": partial(lenet, pool=avg_pool, norms=("conv", "dense")),
    "alexnet": alexnet,
    "alexnet_split": partial(alexnet, padding=0),
    "vgg11": vgg11,
    "vgg11_named": vgg11_named,
    "nin": nin,
    "nin_avgpool": partial(nin, pool=avg_pool(5, 5)),
    "googlenet": googlenet,
    "resnet18": resnet18,
    "densenet": densenet,
    "rnn_lm": partial(LanguageModel, nnx.SimpleCell),
    "gru_lm": partial(LanguageModel, nnx.GRUCell),
    "lstm_lm": partial(LanguageModel, nnx.LSTMCell),
}
# Networks that Flax's own layers cannot express, each with the reason.
WITHOUT: dict[str, str] = {}
