"""LeNet-5 of "Gradient-based learning applied to document recognition" (LeCun et al., 1998).

Deviations: all maps of the first pooling layer feed the second convolution, pooling has no weights of its own, and the
last layer is linear instead of Gaussian.
"""

from torch import nn

from torchref.registry import register


@register
def lenet(*, in_channels: int = 1, num_classes: int = 10) -> nn.Sequential:
    """Two convolutions and three dense layers, with sigmoids between them, for images of 28x28 pixels."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, kernel_size=5, padding=2),
        nn.Sigmoid(),
        nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Conv2d(6, 16, kernel_size=5),
        nn.Sigmoid(),
        nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.Sigmoid(),
        nn.Linear(120, 84),
        nn.Sigmoid(),
        nn.Linear(84, num_classes),
    )
