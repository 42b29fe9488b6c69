"""The sizes of the benchmarks: batch, input and options of every trainable network.

This module imports neither JAX nor torch.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np

VOCABULARY = 28


@dataclasses.dataclass(frozen=True)
class Size:
    """A network with its batch, input and options.

    Attributes:
        network: Registered name, or a name in ``SMALL``.
        batch: Examples per step.
        shape: Shape of one example: channels and axes of an image, a video or a sequence; number of features; or
            number of characters of a window.
        task: ``classification``, ``segmentation``, ``language`` or ``regression``.
        options: Options of the network.
    """

    network: str
    batch: int
    shape: tuple[int, ...]
    task: str = "classification"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Draw inputs and targets, the same in every process. For ``language``: ids of shape (characters, batch)."""
        rng = np.random.default_rng(0)
        if self.task == "language":
            ids = rng.integers(0, VOCABULARY, (2, *self.shape, self.batch), dtype=np.int32)
            return ids[0], ids[1]
        inputs = rng.standard_normal((self.batch, *self.shape), dtype=np.float32)
        if self.task == "regression":
            return inputs, rng.standard_normal((self.batch, 1), dtype=np.float32)
        pixels = self.shape[1:] if self.task == "segmentation" else ()
        return inputs, rng.integers(0, 10, (self.batch, *pixels), dtype=np.int32)

    def shown(self) -> str:
        """Format batch and shape, such as ``32 x 1x96x96``."""
        return f"{self.batch} x {'x'.join(map(str, self.shape))}"


# VGG-11 at 96x96 pixels and a quarter of its width.
_QUARTER = (16, 32, 64, 128, 128)
_SLIM = {"conv_arch": tuple(zip((1, 1, 2, 2, 2), _QUARTER, strict=True)), "fc_features": 1152, "num_hiddens": 1024}
_SLIM_NAMED = {
    "conv_arch": tuple(zip((1, 1, 2, 2, 2), (1, *_QUARTER[:-1]), _QUARTER, strict=True)),
    "fc_features": 1152,
    "fc_hidden_units": 1024,
}

# The main networks: the benchmarks measure them by default.
_JUDGED = [
    Size("mlp", 256, (1, 28, 28)),
    Size("lenet", 256, (1, 28, 28)),
    Size("alexnet", 16, (1, 224, 224)),
    Size("vgg11", 32, (1, 96, 96), options=_SLIM),
    Size("nin", 16, (1, 224, 224)),
    Size("googlenet", 32, (1, 96, 96)),
    Size("resnet18", 32, (1, 96, 96)),
    Size("densenet", 32, (1, 96, 96)),
    Size("rnn_lm", 32, (35,), "language"),
    Size("gru_lm", 32, (35,), "language"),
    Size("lstm_lm", 32, (35,), "language"),
]
JUDGED = tuple(size.network for size in _JUDGED)

_OTHERS = [
    Size("linear_regression", 64, (2,), "regression"),
    Size("linear_regression_sequential", 64, (2,), "regression"),
    Size("softmax_regression", 64, (1, 28, 28)),
    Size("softmax_regression_sequential", 64, (1, 28, 28)),
    Size("mlp_dropout", 64, (1, 28, 28)),
    Size("mlp_named", 64, (784,)),
    Size("lenet_maxpool", 64, (1, 28, 28)),
    Size("lenet_fc_batchnorm", 64, (1, 28, 28)),
    Size("lenet_relu", 64, (1, 32, 32)),
    Size("lenet_rgb", 64, (3, 32, 32)),
    Size("lenet_batchnorm", 64, (1, 28, 28)),
    Size("lenet_batchnorm_scratch", 64, (1, 28, 28)),
    Size("alexnet_split", 8, (1, 224, 224)),
    Size("vgg11_named", 16, (1, 96, 96), options=_SLIM_NAMED),
    Size("nin_avgpool", 8, (1, 224, 224)),
]
# Networks with other types of convolutions, which exist only for the benchmarks: small_flaxnets.py, small_torch.py and
# small_nnx.py.
_SMALL = [
    Size("mobilenet", 16, (3, 64, 64)),
    Size("resnext", 16, (3, 32, 32)),
    Size("convnext", 16, (3, 64, 64)),
    Size("unet", 8, (3, 64, 64), "segmentation"),
    Size("video_cnn", 8, (3, 8, 48, 48)),
    Size("tcn", 16, (8, 256)),
]
SMALL = tuple(size.network for size in _SMALL)
SIZES = {size.network: size for size in [*_JUDGED, *_OTHERS, *_SMALL]}


def get_size(network: str) -> Size:
    """Return the size of a network in the benchmarks. Raises ValueError if the network is not in the table."""
    if network not in SIZES:
        near = difflib.get_close_matches(network, SIZES) or list(SIZES)
        raise ValueError(f"no size of {network!r} in benchmarks/sizes.py. Expected one of: {', '.join(near)}")
    return SIZES[network]
