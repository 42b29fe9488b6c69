"""GoogLeNet of "Going deeper with convolutions" (arXiv:1409.4842).

Deviations: no auxiliary classifiers, no local response normalization, no dropout, and the input has one channel.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchref.registry import register

# Channels of the four paths of each Inception block, by stage: (1x1), (1x1, 3x3), (1x1, 5x5), (pool, 1x1).
STAGES = (
    ((64, (96, 128), (16, 32), 32), (128, (128, 192), (32, 96), 64)),
    (
        (192, (96, 208), (16, 48), 64),
        (160, (112, 224), (24, 64), 64),
        (128, (128, 256), (24, 64), 64),
        (112, (144, 288), (32, 64), 64),
        (256, (160, 320), (32, 128), 128),
    ),
    ((256, (160, 320), (32, 128), 128), (384, (192, 384), (48, 128), 128)),
)


class Inception(nn.Module):
    """Four parallel paths, concatenated along the channels."""

    def __init__(self, in_channels: int, c1: int, c2: tuple[int, int], c3: tuple[int, int], c4: int):
        super().__init__()
        self.p1_1 = nn.Conv2d(in_channels, c1, kernel_size=1)
        self.p2_1 = nn.Conv2d(in_channels, c2[0], kernel_size=1)
        self.p2_2 = nn.Conv2d(c2[0], c2[1], kernel_size=3, padding=1)
        self.p3_1 = nn.Conv2d(in_channels, c3[0], kernel_size=1)
        self.p3_2 = nn.Conv2d(c3[0], c3[1], kernel_size=5, padding=2)
        self.p4_1 = nn.MaxPool2d(kernel_size=3, stride=1, padding=1)
        self.p4_2 = nn.Conv2d(in_channels, c4, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the channels of all four paths."""
        p1 = F.relu(self.p1_1(x))
        p2 = F.relu(self.p2_2(F.relu(self.p2_1(x))))
        p3 = F.relu(self.p3_2(F.relu(self.p3_1(x))))
        p4 = F.relu(self.p4_2(self.p4_1(x)))
        return torch.cat((p1, p2, p3, p4), dim=1)


def _stage(in_channels: int, blocks: tuple, width: int) -> tuple[list[nn.Module], int]:
    layers = []
    for c1, c2, c3, c4 in blocks:
        c1, c2, c3, c4 = c1 // width, (c2[0] // width, c2[1] // width), (c3[0] // width, c3[1] // width), c4 // width
        layers.append(Inception(in_channels, c1, c2, c3, c4))
        in_channels = c1 + c2[1] + c3[1] + c4
    return layers, in_channels


@register
def googlenet(*, in_channels: int = 1, num_classes: int = 10, width_divisor: int = 1) -> nn.Sequential:
    """Nine Inception blocks in three stages; ``width_divisor`` divides the channels of every layer."""
    w = width_divisor
    b1 = nn.Sequential(
        nn.Conv2d(in_channels, 64 // w, kernel_size=7, stride=2, padding=3),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )
    b2 = nn.Sequential(
        nn.Conv2d(64 // w, 64 // w, kernel_size=1),
        nn.ReLU(),
        nn.Conv2d(64 // w, 192 // w, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )
    b3, channels = _stage(192 // w, STAGES[0], w)
    b4, channels = _stage(channels, STAGES[1], w)
    b5, channels = _stage(channels, STAGES[2], w)
    return nn.Sequential(
        b1,
        b2,
        nn.Sequential(*b3, nn.MaxPool2d(kernel_size=3, stride=2, padding=1)),
        nn.Sequential(*b4, nn.MaxPool2d(kernel_size=3, stride=2, padding=1)),
        nn.Sequential(*b5, nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten()),
        nn.Linear(channels, num_classes),
    )
