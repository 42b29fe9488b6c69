"""The rows of ``benchmarks.layers``: every class of ``torch.nn`` that computes, and the functions without a class.

A row names a class or function that both libraries have, its arguments and its inputs. This module imports neither JAX
nor torch.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

Shape = tuple[int, ...]


class Array(NamedTuple):
    """A random input.

    Attributes:
        shape: The shape.
        draw: The distribution. ``normal``; ``uniform`` between 0 and 1; ``integers`` below ``high``; ``signs``: 1 or
            -1; ``full``: ``high`` everywhere; ``corners``: the index of every second element along each axis of an
            image twice as large, as a max pool with windows of 2 may return.
        high: See ``draw``.
        is_constant: Whether the input has no gradient. Integer arrays never have a gradient.
    """

    shape: Shape
    draw: Literal["normal", "uniform", "integers", "signs", "full", "corners"] = "normal"
    high: int = 0
    is_constant: bool = False

    def make(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the array, in float32 or int64."""
        if self.draw == "normal":
            return rng.standard_normal(self.shape, dtype=np.float32)
        if self.draw == "uniform":
            return rng.uniform(0.01, 0.99, self.shape).astype(np.float32)
        if self.draw == "signs":
            return rng.choice([-1.0, 1.0], self.shape).astype(np.float32)
        if self.draw == "integers":
            return rng.integers(0, self.high, self.shape)
        if self.draw == "full":
            return np.full(self.shape, self.high)
        spatial = self.shape[2:]
        places = np.ravel_multi_index(2 * np.indices(spatial), [2 * size for size in spatial])
        return np.broadcast_to(places, self.shape).copy()


class Row(NamedTuple):
    """A layer or a function in one size.

    Attributes:
        name: Name of the class in ``torch.nn``, or of the function in ``torch.nn.functional``.
        args: Positional arguments of the constructor, empty for a function. A row as an argument is replaced by its
            layer.
        kwargs: Keyword arguments of the constructor or of the function.
        inputs: Arguments of the call. A tuple of integers is the shape of a normal array with a gradient.
        call: Keyword arguments of a layer's call.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: tuple[Any, ...]
    call: Mapping[str, Any] = {}

    @property
    def is_function(self) -> bool:
        return self.name[0].islower()

    def arrays(self) -> tuple[Array, ...]:
        """Return the inputs, each as an :class:`Array`."""
        return tuple(each if isinstance(each, Array) else Array(each) for each in self.inputs)

    def __str__(self) -> str:
        arguments = [*map(str, self.args), *(f"{k}={v}" for k, v in {**self.kwargs, **self.call}.items())]
        shapes = list(dict.fromkeys("x".join(map(str, array.shape)) for array in self.arrays()))
        return f"{self.name}({', '.join(arguments)})" + (f" of {', '.join(shapes)}" if shapes else "")


def layer(name: str, *sizes: tuple[Any, ...]) -> list[Row]:
    """Return the rows of a class. A size is ``(positional arguments, keyword arguments, *inputs)``."""
    return [Row(name, args, kwargs, tuple(inputs)) for args, kwargs, *inputs in sizes]


def function(name: str, *sizes: tuple[Any, ...]) -> list[Row]:
    """Return the rows of a function. A size is ``(keyword arguments, *inputs)``."""
    return [Row(name, (), kwargs, tuple(inputs)) for kwargs, *inputs in sizes]


# Images of a convolutional network, tokens of a transformer, sequences of samples, and volumes.
IMAGES, SMALL_IMAGES, TOKENS = (8, 64, 56, 56), (16, 128, 14, 14), (16, 128, 512)
SEQUENCES, VOLUMES = (32, 64, 512), (4, 16, 16, 32, 32)


def _constant(*shape: int) -> Array:
    return Array(shape, is_constant=True)


def _uniform(*shape: int, is_constant: bool = False) -> Array:
    return Array(shape, "uniform", is_constant=is_constant)


def _integers(high: int, *shape: int) -> Array:
    return Array(shape, "integers", high)


def _signs(*shape: int) -> Array:
    return Array(shape, "signs", is_constant=True)


def _elementwise(*names: str, **kwargs: Any) -> list[Row]:
    return [row for name in names for row in layer(name, ((), kwargs, IMAGES), ((), kwargs, TOKENS))]


_CONVOLUTIONS = [
    *layer(
        "Conv1d",
        ((64, 64, 9), {"padding": 4}, SEQUENCES),
        ((64, 64, 3), {"padding": 8, "dilation": 8}, SEQUENCES),
        ((144, 144, 31), {"padding": 15, "groups": 144}, (8, 144, 256)),
    ),
    *layer(
        "Conv2d",
        ((3, 64, 7), {"stride": 2, "padding": 3}, (4, 3, 112, 112)),
        ((64, 64, 3), {"padding": 1}, (8, 64, 28, 28)),
        ((128, 128, 3), {"padding": 1, "stride": 2}, (8, 128, 28, 28)),
        ((256, 64, 1), {}, (8, 256, 28, 28)),
        ((64, 64, 3), {"padding": 4, "dilation": 4}, (8, 64, 28, 28)),
        ((96, 96, 3), {"padding": 1, "groups": 96}, (8, 96, 56, 56)),
        ((96, 96, 5), {"padding": 2, "groups": 96, "stride": 2}, (8, 96, 56, 56)),
        ((96, 96, 7), {"padding": 3, "groups": 96}, (8, 96, 28, 28)),
        ((128, 128, 3), {"padding": 1, "groups": 32}, (4, 128, 28, 28)),
        ((128, 128, 3), {"padding": 1, "groups": 2}, (4, 128, 28, 28)),
        ((3, 192, 16), {"stride": 16}, (4, 3, 224, 224)),
    ),
    *layer(
        "Conv3d",
        ((16, 16, 3), {"padding": 1}, (2, 16, 24, 24, 24)),
        ((64, 64, 3), {"padding": 1}, (2, 64, 12, 12, 12)),
        ((3, 32, (1, 7, 7)), {"padding": (0, 3, 3), "stride": (1, 2, 2)}, (2, 3, 8, 56, 56)),
    ),
    *layer(
        "ConvTranspose1d",
        ((128, 64, 16), {"stride": 8, "padding": 4}, (4, 128, 256)),
        ((64, 64, 4), {"stride": 2, "padding": 1}, SEQUENCES),
    ),
    *layer(
        "ConvTranspose2d",
        ((128, 64, 2), {"stride": 2}, (4, 128, 28, 28)),
        ((128, 64, 4), {"stride": 2, "padding": 1}, (8, 128, 16, 16)),
        ((21, 21, 16), {"stride": 8, "padding": 4, "groups": 21}, (4, 21, 28, 28)),
    ),
    *layer(
        "ConvTranspose3d",
        ((32, 16, 2), {"stride": 2}, (2, 32, 8, 16, 16)),
        ((32, 16, 4), {"stride": 2, "padding": 1}, (2, 32, 8, 8, 8)),
    ),
    *function(
        "conv_tbc",
        ({"pad": 1}, (256, 16, 64), (3, 64, 64), (64,)),
        ({"pad": 2}, (512, 4, 128), (5, 128, 64), (64,)),
    ),
    *layer("Unfold", ((3,), {"padding": 1}, (8, 32, 28, 28)), ((4,), {"stride": 4}, (8, 16, 64, 64))),
    *layer(
        "Fold",
        (((28, 28), 3), {"padding": 1}, (8, 288, 784)),
        (((64, 64), 4), {"stride": 4}, (8, 256, 256)),
    ),
]

_PRODUCTS = [
    *layer("Linear", ((784, 256), {}, (256, 784)), ((512, 2048), {}, (1024, 512)), ((1024, 1000), {}, (64, 1024))),
    *layer("Bilinear", ((64, 64, 32), {}, (256, 64), (256, 64)), ((128, 128, 16), {}, (64, 128), (64, 128))),
]

_POOLS = [
    *layer("MaxPool1d", ((2,), {}, SEQUENCES), ((9,), {"stride": 1, "padding": 4}, SEQUENCES)),
    *layer(
        "MaxPool2d",
        ((2,), {}, IMAGES),
        ((3,), {"stride": 2, "padding": 1}, IMAGES),
        ((3,), {"stride": 1, "padding": 1}, SMALL_IMAGES),
        ((13,), {"stride": 1, "padding": 6}, (4, 64, 20, 20)),
        ((2,), {"return_indices": True}, IMAGES),
    ),
    *layer("MaxPool3d", ((2,), {}, VOLUMES), ((3,), {"stride": 2, "padding": 1}, VOLUMES)),
    *layer("MaxUnpool1d", ((2,), {}, (16, 64, 256), Array((16, 64, 256), "corners"))),
    *layer("MaxUnpool1d", ((2,), {}, (8, 32, 2048), Array((8, 32, 2048), "corners"))),
    *layer("MaxUnpool2d", ((2,), {}, (8, 64, 28, 28), Array((8, 64, 28, 28), "corners"))),
    *layer("MaxUnpool2d", ((2,), {}, (16, 256, 14, 14), Array((16, 256, 14, 14), "corners"))),
    *layer("MaxUnpool3d", ((2,), {}, (4, 32, 8, 16, 16), Array((4, 32, 8, 16, 16), "corners"))),
    *layer("MaxUnpool3d", ((2,), {}, (8, 64, 4, 8, 8), Array((8, 64, 4, 8, 8), "corners"))),
    *layer("AvgPool1d", ((2,), {}, SEQUENCES), ((25,), {"stride": 1, "padding": 12}, SEQUENCES)),
    *layer(
        "AvgPool2d",
        ((2,), {}, IMAGES),
        ((3,), {"stride": 2, "padding": 1}, IMAGES),
        ((7,), {}, (32, 512, 7, 7)),
        ((15,), {"stride": 1}, (4, 32, 56, 56)),
    ),
    *layer("AvgPool3d", ((2,), {}, VOLUMES), ((3,), {"stride": 2, "padding": 1}, VOLUMES)),
    *layer("LPPool1d", ((2, 2), {}, SEQUENCES), ((2, 5), {"stride": 2}, SEQUENCES)),
    *layer("LPPool2d", ((2, 2), {}, IMAGES), ((2, 3), {"stride": 2}, IMAGES)),
    *layer("LPPool3d", ((2, 2), {}, VOLUMES), ((2, 3), {"stride": 2}, VOLUMES)),
    *layer("FractionalMaxPool2d", ((2,), {"output_ratio": 0.7}, IMAGES), ((3,), {"output_size": 9}, SMALL_IMAGES)),
    *layer("FractionalMaxPool3d", ((2,), {"output_ratio": 0.7}, VOLUMES), ((3,), {"output_size": 7}, VOLUMES)),
    *layer("AdaptiveMaxPool1d", ((64,), {}, SEQUENCES), ((50,), {}, SEQUENCES)),
    *layer("AdaptiveMaxPool2d", ((7,), {}, IMAGES), ((6,), {}, SMALL_IMAGES), ((1,), {}, (32, 512, 7, 7))),
    *layer("AdaptiveMaxPool3d", ((8,), {}, VOLUMES), ((7,), {}, VOLUMES)),
    *layer("AdaptiveAvgPool1d", ((64,), {}, SEQUENCES), ((50,), {}, SEQUENCES)),
    *layer("AdaptiveAvgPool2d", ((7,), {}, IMAGES), ((6,), {}, SMALL_IMAGES), ((1,), {}, (32, 512, 7, 7))),
    *layer("AdaptiveAvgPool3d", ((8,), {}, VOLUMES), ((7,), {}, VOLUMES)),
]

_PADDINGS = [
    row
    for kind in ("Constant", "Zero", "Reflection", "Replication", "Circular")
    for axes, sizes in {
        1: (SEQUENCES, (4, 64, 8192)),
        2: (IMAGES, (16, 3, 224, 224)),
        3: (VOLUMES, (2, 32, 8, 28, 28)),
    }.items()
    for size in sizes
    for row in layer(f"{kind}Pad{axes}d", (((2, 0.5) if kind == "Constant" else (2,)), {}, size))
]

_ACTIVATIONS = [
    *_elementwise("CELU", "ELU", "GELU", "GLU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU"),
    *_elementwise("GELU", approximate="tanh"),
    *_elementwise("LogSigmoid", "Mish", "PReLU", "RReLU", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus"),
    *_elementwise("Softshrink", "Softsign", "Tanh", "Tanhshrink"),
    *_elementwise("Threshold", threshold=0.1, value=20.0),
    *layer("PReLU", ((64,), {}, IMAGES)),
    *(
        row
        for name in ("Softmax", "LogSoftmax", "Softmin")
        for row in layer(name, ((), {"dim": -1}, (16, 8, 128, 128)), ((), {"dim": -1}, (64, 10000)))
    ),
    *layer("Softmax", ((), {"dim": 1}, (4, 21, 64, 64))),
    *layer("Softmax2d", ((), {}, (4, 21, 64, 64)), ((), {}, SMALL_IMAGES)),
    *function("gumbel_softmax", ({"dim": -1}, (1024, 512)), ({"dim": -1, "hard": True}, (4096, 32))),
    *function("normalize", ({}, TOKENS), ({"dim": -1}, (4096, 128))),
]

_NORMS = [
    *layer("BatchNorm1d", ((512,), {}, (1024, 512)), ((64,), {}, SEQUENCES)),
    *layer("BatchNorm2d", ((64,), {}, IMAGES), ((128,), {}, SMALL_IMAGES)),
    *layer("BatchNorm3d", ((16,), {}, VOLUMES), ((64,), {}, (2, 64, 8, 14, 14))),
    *layer("InstanceNorm1d", ((64,), {}, SEQUENCES), ((64,), {"affine": True}, SEQUENCES)),
    *layer("InstanceNorm2d", ((64,), {}, IMAGES), ((128,), {"affine": True}, SMALL_IMAGES)),
    *layer("InstanceNorm3d", ((16,), {}, VOLUMES), ((16,), {"affine": True}, VOLUMES)),
    *layer("GroupNorm", ((32, 64), {}, IMAGES), ((32, 128), {}, SMALL_IMAGES), ((8, 64), {}, SEQUENCES)),
    *layer("LayerNorm", ((512,), {}, TOKENS), ((96,), {}, (8, 28, 28, 96)), (((128, 14, 14),), {}, SMALL_IMAGES)),
    *layer("RMSNorm", ((512,), {}, TOKENS), ((2048,), {}, (256, 2048))),
    *layer("LocalResponseNorm", ((5,), {}, (8, 96, 27, 27)), ((5,), {}, (8, 256, 13, 13))),
    *layer("CrossMapLRN2d", ((5,), {}, (8, 96, 27, 27)), ((5,), {}, (8, 256, 13, 13))),
]

_DROPOUTS = [
    *_elementwise("AlphaDropout", "Dropout"),
    *layer("Dropout1d", ((), {}, SEQUENCES), ((), {}, (8, 32, 4096))),
    *layer("Dropout2d", ((), {}, IMAGES), ((), {}, SMALL_IMAGES)),
    *layer("Dropout3d", ((), {}, VOLUMES), ((), {}, (2, 64, 8, 14, 14))),
    *layer("FeatureAlphaDropout", ((), {}, IMAGES), ((), {}, SMALL_IMAGES)),
]

_CELLS = ("RNNCell", "GRUCell", "LSTMCell")
_RECURRENT = [
    *(
        row
        for name in ("RNN", "GRU", "LSTM")
        for row in layer(
            name,
            ((28, 256), {}, (35, 32, 28)),
            ((256, 256), {"num_layers": 2, "batch_first": True}, (32, 35, 256)),
            ((64, 64), {"bidirectional": True}, (100, 16, 64)),
        )
    ),
    *(row for name in _CELLS for row in layer(name, ((256, 256), {}, (64, 256)), ((512, 512), {}, (256, 512)))),
]

_ENCODER_LAYER, _DECODER_LAYER = (
    Row(f"Transformer{kind}Layer", (256, 4, 512), {"batch_first": True}, ()) for kind in ("Encoder", "Decoder")
)
_HEADS, _HEAD = (8, 8, 128, 64), (2, 8, 512, 64)
_ATTENTION = [
    *function(
        "scaled_dot_product_attention",
        ({}, _HEADS, _HEADS, _HEADS),
        ({"is_causal": True}, _HEADS, _HEADS, _HEADS),
        ({"is_causal": True}, _HEAD, _HEAD, _HEAD),
    ),
    *layer("MultiheadAttention", ((512, 8), {"batch_first": True}, *[(8, 128, 512)] * 3)),
    Row("MultiheadAttention", (512, 8), {"batch_first": True}, ((8, 128, 512),) * 3, {"need_weights": False}),
    Row("MultiheadAttention", (256, 4), {}, ((512, 2, 256),) * 3, {"need_weights": False}),
    *layer(
        "TransformerEncoderLayer",
        ((256, 4), {"dim_feedforward": 1024, "batch_first": True}, (8, 128, 256)),
        ((256, 4), {"dim_feedforward": 1024, "batch_first": True, "dropout": 0.0}, (8, 128, 256)),
        ((512, 8), {"batch_first": True, "norm_first": True, "activation": "gelu"}, (4, 128, 512)),
    ),
    *layer(
        "TransformerDecoderLayer",
        ((256, 4), {"dim_feedforward": 1024, "batch_first": True}, (8, 64, 256), (8, 128, 256)),
        ((512, 8), {"batch_first": True, "dropout": 0.0}, (2, 128, 512), (2, 128, 512)),
    ),
    *layer(
        "TransformerEncoder",
        ((_ENCODER_LAYER, 2), {}, (8, 128, 256)),
        ((_ENCODER_LAYER, 2), {}, (2, 32, 256)),
    ),
    *layer(
        "TransformerDecoder",
        ((_DECODER_LAYER, 2), {}, (8, 64, 256), (8, 128, 256)),
        ((_DECODER_LAYER, 2), {}, (2, 32, 256), (2, 32, 256)),
    ),
    *layer(
        "Transformer",
        ((128, 4, 2, 2, 512), {"batch_first": True}, (8, 64, 128), (8, 64, 128)),
        ((256, 4, 1, 1, 1024), {"batch_first": True, "dropout": 0.0}, (4, 64, 256), (4, 64, 256)),
    ),
]

_EMBEDDINGS = [
    *layer("Embedding", ((10000, 256), {}, _integers(10000, 32, 128)), ((50000, 64), {}, _integers(50000, 256))),
    *layer(
        "EmbeddingBag",
        ((10000, 128), {"mode": "sum"}, _integers(10000, 256, 32)),
        ((10000, 128), {"mode": "mean"}, _integers(10000, 256, 32)),
        ((10000, 128), {"mode": "max"}, _integers(10000, 256, 32)),
    ),
    *function(
        "one_hot", ({"num_classes": 100}, _integers(100, 64, 512)), ({"num_classes": 1000}, _integers(1000, 4096))
    ),
]

_SEQUENCE, _IMAGE, _VOLUME = (16, 64, 512), (16, 32, 28, 28), (4, 16, 8, 16, 16)
_RESAMPLING = [
    *layer("Upsample", ((), {"scale_factor": 2}, _IMAGE)),
    *layer("Upsample", ((), {"scale_factor": 2, "mode": "bilinear", "align_corners": False}, _IMAGE)),
    *layer("UpsamplingNearest2d", ((), {"scale_factor": 2}, _IMAGE), ((), {"scale_factor": 4}, (4, 21, 28, 28))),
    *layer("UpsamplingBilinear2d", ((), {"scale_factor": 2}, _IMAGE), ((), {"scale_factor": 4}, (4, 21, 28, 28))),
    *function(
        "interpolate",
        ({"scale_factor": 2, "mode": "nearest"}, _SEQUENCE),
        ({"scale_factor": 2, "mode": "linear"}, _SEQUENCE),
        ({"size": 200, "mode": "linear"}, _SEQUENCE),
        ({"size": 40, "mode": "nearest"}, _IMAGE),
        ({"scale_factor": 2, "mode": "nearest-exact"}, _IMAGE),
        ({"size": 40, "mode": "nearest-exact"}, _IMAGE),
        ({"size": 40, "mode": "bilinear"}, _IMAGE),
        ({"scale_factor": 2, "mode": "bicubic"}, _IMAGE),
        ({"size": 40, "mode": "bicubic"}, _IMAGE),
        ({"size": 96, "mode": "bilinear", "antialias": True}, (4, 3, 224, 224)),
        ({"size": 96, "mode": "bicubic", "antialias": True}, (4, 3, 224, 224)),
        ({"size": 96, "mode": "area"}, (4, 3, 224, 224)),
        ({"size": 14, "mode": "area"}, _IMAGE),
        ({"scale_factor": 2, "mode": "nearest"}, _VOLUME),
        ({"scale_factor": 2, "mode": "trilinear"}, _VOLUME),
        ({"size": 20, "mode": "trilinear"}, _VOLUME),
        ({"size": 20, "mode": "nearest-exact"}, _VOLUME),
        ({"size": 6, "mode": "area"}, _VOLUME),
    ),
    *function(
        "affine_grid",
        ({"size": (64, 3, 64, 64), "align_corners": False}, (64, 2, 3)),
        ({"size": (4, 1, 32, 32, 32), "align_corners": False}, (4, 3, 4)),
    ),
    *function(
        "grid_sample",
        ({"align_corners": False}, _IMAGE, (16, 28, 28, 2)),
        ({"align_corners": False, "mode": "nearest"}, _IMAGE, (16, 28, 28, 2)),
        ({"align_corners": False, "mode": "bicubic"}, (4, 8, 28, 28), (4, 28, 28, 2)),
    ),
    *layer("PixelShuffle", ((2,), {}, (8, 128, 28, 28)), ((4,), {}, (4, 48, 56, 56))),
    *layer("PixelUnshuffle", ((2,), {}, (8, 32, 56, 56)), ((4,), {}, (4, 3, 224, 224))),
    *layer("ChannelShuffle", ((4,), {}, IMAGES), ((8,), {}, SMALL_IMAGES)),
]

_VECTORS, _BATCH = (4096, 128), (256, 1000)
_DISTANCES = [
    *layer("CosineSimilarity", ((), {}, _VECTORS, _VECTORS), ((), {"dim": -1}, (64, 1, 256), (1, 64, 256))),
    *layer("PairwiseDistance", ((), {}, _VECTORS, _VECTORS), ((1,), {}, (128, 1, 64), (1, 128, 64))),
    *function("pdist", ({}, (256, 64)), ({"p": 1.0}, (128, 64))),
]


def _regression(name: str, **kwargs: Any) -> list[Row]:
    return [row for shape in (_BATCH, (8, 3, 256, 256)) for row in layer(name, ((), kwargs, shape, _constant(*shape)))]


def _labels(name: str, *targets: Array) -> list[Row]:
    return layer(name, *(((), {}, target.shape, target) for target in targets))


_LOSSES = [
    row for name in ("L1Loss", "MSELoss", "SmoothL1Loss", "HuberLoss", "PoissonNLLLoss") for row in _regression(name)
] + [
    *_labels("SoftMarginLoss", _signs(256, 1000), _signs(4096, 64)),
    *_labels("HingeEmbeddingLoss", _signs(256, 1000), _signs(4096, 64)),
    *_labels("MultiLabelSoftMarginLoss", _uniform(256, 1000, is_constant=True), _uniform(4096, 64, is_constant=True)),
    *_labels("BCEWithLogitsLoss", _uniform(256, 1000, is_constant=True), _uniform(8, 1, 384, 384, is_constant=True)),
    *_labels("KLDivLoss", _uniform(256, 1000, is_constant=True), _uniform(4096, 64, is_constant=True)),
    *layer("BCELoss", ((), {}, _uniform(256, 1000), _uniform(256, 1000, is_constant=True))),
    *layer("BCELoss", ((), {}, _uniform(8, 1, 384, 384), _uniform(8, 1, 384, 384, is_constant=True))),
    *layer(
        "CrossEntropyLoss",
        ((), {}, (256, 1000), _integers(1000, 256)),
        ((), {}, (512, 10000), _integers(10000, 512)),
        ((), {}, (4, 21, 96, 96), _integers(21, 4, 96, 96)),
        ((), {"label_smoothing": 0.1}, (256, 1000), _integers(1000, 256)),
    ),
    *layer("NLLLoss", ((), {}, (256, 1000), _integers(1000, 256))),
    *layer("NLLLoss", ((), {}, (4, 21, 96, 96), _integers(21, 4, 96, 96))),
    *layer("GaussianNLLLoss", ((), {}, _BATCH, _constant(*_BATCH), _uniform(*_BATCH))),
    *layer("GaussianNLLLoss", ((), {}, _VECTORS, _constant(*_VECTORS), _uniform(*_VECTORS))),
    *layer("MultiMarginLoss", ((), {}, _BATCH, _integers(1000, 256)), ((), {}, (4096, 100), _integers(100, 4096))),
    *layer("MultiLabelMarginLoss", ((), {}, (256, 100), _integers(100, 256, 100))),
    *layer("MultiLabelMarginLoss", ((), {}, (1024, 20), _integers(20, 1024, 20))),
    *layer("MarginRankingLoss", ((), {}, (65536,), (65536,), _signs(65536))),
    *layer("MarginRankingLoss", ((), {}, _VECTORS, _VECTORS, _signs(*_VECTORS))),
    *layer("CosineEmbeddingLoss", ((), {}, _VECTORS, _VECTORS, _signs(4096))),
    *layer("CosineEmbeddingLoss", ((), {}, (512, 1024), (512, 1024), _signs(512))),
    *layer("TripletMarginLoss", ((), {}, *[_VECTORS] * 3), ((), {"swap": True}, *[(512, 1024)] * 3)),
    *layer("TripletMarginWithDistanceLoss", ((), {}, *[_VECTORS] * 3), ((), {"swap": True}, *[(512, 1024)] * 3)),
    *layer(
        "CTCLoss",
        ((), {"blank": 39}, (100, 16, 40), _integers(39, 16, 30), Array((16,), "full", 100), Array((16,), "full", 30)),
        ((), {"blank": 27}, (50, 64, 28), _integers(27, 64, 10), Array((64,), "full", 50), Array((64,), "full", 10)),
    ),
    *layer(
        "AdaptiveLogSoftmaxWithLoss",
        ((128, 10000, [1000, 4000]), {}, (256, 128), _integers(10000, 256)),
        ((64, 1000, [100]), {}, (1024, 64), _integers(1000, 1024)),
    ),
    *layer(
        "LinearCrossEntropyLoss",
        ((256, 5000), {}, (512, 256), _integers(5000, 512)),
        ((512, 1000), {"bias": True}, (256, 512), _integers(1000, 256)),
    ),
]

ROWS: dict[str, Row] = {
    str(row): row
    for rows in (
        _CONVOLUTIONS, _PRODUCTS, _POOLS, _PADDINGS, _ACTIVATIONS, _NORMS, _DROPOUTS, _RECURRENT, _ATTENTION,
        _EMBEDDINGS, _RESAMPLING, _DISTANCES, _LOSSES,
    )
    for row in rows
}  # fmt: skip

# Classes of the parity table (``parity_tests/cases``) that have no row here, each with the reason.
WITHOUT_ROW = {
    "DataParallel": "calls another module",
    "Flatten": "returns a view",
    "Identity": "returns its input",
    "NLLLoss2d": "NLLLoss under an older name",
    "Sequential": "calls other modules",
    "SyncBatchNorm": "torch refuses to train it on CPUs; in one process it is BatchNorm",
    "Unflatten": "returns a view",
    **{
        f"Lazy{name}": f"becomes {name}"
        for name in (
            "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d",
            "ConvTranspose2d", "ConvTranspose3d", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "Linear",
        )
    },
}  # fmt: skip
