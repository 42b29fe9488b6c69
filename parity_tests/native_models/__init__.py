"""Ten networks in ordinary PyTorch, and the same networks in Flax with other names and images as ``(N, H, W, C)``."""

import dataclasses
import importlib
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Pair:
    """A network in PyTorch and in Flax.

    Attributes:
        name: name of the two files.
        torch_class: name of the class in ``torch_side``.
        flax_class: name of the class in ``flax_side``.
        shapes: shapes of the inputs, in PyTorch's axis order.
        vocabularies: for inputs of token ids, the number of ids of each input; empty for floating-point inputs.
        dropout: names of the constructor arguments for the dropout rate, in PyTorch and in Flax.
        normalizes_batches: whether the network has batch normalization. Its running variances differ in training mode,
            because ``nnx.BatchNorm`` stores the biased variance.
    """

    name: str
    torch_class: str
    flax_class: str
    shapes: tuple[tuple[int, ...], ...] = ((2, 3, 16, 16),)
    vocabularies: tuple[int, ...] = ()
    dropout: tuple[str, str] | None = None
    normalizes_batches: bool = False

    def torch_type(self) -> Any:
        return getattr(importlib.import_module(f"native_models.torch_side.{self.name}"), self.torch_class)

    def flax_type(self) -> Any:
        return getattr(importlib.import_module(f"native_models.flax_side.{self.name}"), self.flax_class)

    def inputs(self, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        if self.vocabularies:
            pairs = zip(self.shapes, self.vocabularies, strict=True)
            return tuple(rng.integers(0, vocabulary, shape) for shape, vocabulary in pairs)
        return tuple(rng.normal(size=shape) for shape in self.shapes)

    def __str__(self) -> str:
        return self.name


PAIRS = [
    Pair("resnet", "ResNet", "ResNet", ((2, 3, 32, 32),), normalizes_batches=True),
    Pair("densenet", "DenseNet", "DenseNet", normalizes_batches=True),
    Pair("vit", "ViT", "VisionTransformer", dropout=("dropout", "rate")),
    Pair("lstm_tagger", "LSTMTagger", "Tagger", ((2, 9),), (30,), ("dropout", "rate")),
    Pair("unet", "UNet", "UNet"),
    Pair("gpt", "GPT", "GPT", ((2, 12),), (32,), ("dropout", "rate")),
    Pair("mlp_mixer", "MLPMixer", "MlpMixer", dropout=("dropout", "rate")),
    Pair("seq2seq", "Seq2Seq", "Seq2Seq", ((2, 7), (2, 5)), (20, 24)),
    Pair("autoencoder", "AutoEncoder", "Autoencoder", normalizes_batches=True),
    Pair("convnext", "ConvNeXt", "ConvNeXt"),
]
