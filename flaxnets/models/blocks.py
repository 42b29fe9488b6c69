"""Blocks shared by several families of networks."""

from flax import nnx
from jaxtyping import Array, Float

from flaxnets import nn


class ConvThenDense(nn.Module):
    """A convolutional and a dense part; the reshape between them is not a layer."""

    def __init__(self, conv: nn.Sequential, fc: nn.Sequential):
        self.conv = conv
        self.fc = fc

    def __call__(self, img: Float[Array, "n c h w"]) -> Float[Array, "n classes"]:
        """Return the logits of each image."""
        feature = self.conv(img)
        return self.fc(feature.reshape(img.shape[0], -1))


def dense_head(num_inputs: int, num_hiddens: int, num_classes: int, *, rngs: nnx.Rngs) -> list[nn.Module]:
    """Return the head of AlexNet and VGG: two hidden layers with dropout, and the output layer."""
    return [
        nn.Linear(num_inputs, num_hiddens, rngs=rngs),
        nn.ReLU(),
        nn.Dropout(0.5, rngs=rngs),
        nn.Linear(num_hiddens, num_hiddens, rngs=rngs),
        nn.ReLU(),
        nn.Dropout(0.5, rngs=rngs),
        nn.Linear(num_hiddens, num_classes, rngs=rngs),
    ]
