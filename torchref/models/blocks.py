"""Blocks shared by several families of networks."""

from torch import Tensor, nn


class ConvThenDense(nn.Module):
    """A convolutional and a dense part; the reshape between them is not a layer."""

    def __init__(self, conv: nn.Sequential, fc: nn.Sequential):
        super().__init__()
        self.conv = conv
        self.fc = fc

    def forward(self, img: Tensor) -> Tensor:
        """Return the logits of each image."""
        feature = self.conv(img)
        return self.fc(feature.reshape(img.shape[0], -1))


def dense_head(num_inputs: int, num_hiddens: int, num_classes: int) -> list[nn.Module]:
    """Return the head of AlexNet and VGG: two hidden layers with dropout, and the output layer."""
    return [
        nn.Linear(num_inputs, num_hiddens),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(num_hiddens, num_hiddens),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(num_hiddens, num_classes),
    ]
