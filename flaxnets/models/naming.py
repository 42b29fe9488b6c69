"""Small networks that test names: modules with two names, and modules in a data-parallel wrapper."""

from flax import nnx
from jaxtyping import Array, Float

from flaxnets import nn
from flaxnets.nn import functional as F
from flaxnets.registry import register


class Tail(nn.Module):
    """The end of both networks: a second convolution with normalization, and two dense layers."""

    def add_tail(self, num_classes: int, *, rngs: nnx.Rngs) -> None:
        """Add the layers."""
        self.conv2 = nn.Conv2d(12, 24, kernel_size=3, padding=1, rngs=rngs)
        self.bn2 = nn.BatchNorm2d(24)
        self.fc1 = nn.Linear(24 * 5 * 5, 128, rngs=rngs)
        self.fc2 = nn.Linear(128, num_classes, rngs=rngs)

    def tail(self, x: Float[Array, "n 12 5 5"]) -> Float[Array, "n classes"]:
        """Return the logits for the output of the first stage."""
        x = F.relu(self.bn2(self.conv2(F.relu(x))))
        x = F.relu(self.fc1(x.reshape(x.shape[0], -1)))
        return self.fc2(x)


class NamingCNN(Tail):
    """Network whose first convolution and normalization are attributes, and also members of a stage."""

    def __init__(self, num_classes: int, *, rngs: nnx.Rngs):
        self.conv1 = nn.Conv2d(3, 12, kernel_size=3, padding=1, rngs=rngs)
        self.bn1 = nn.BatchNorm2d(12)
        self.stage1 = nn.Sequential(self.conv1, self.bn1)
        self.add_tail(num_classes, rngs=rngs)

    def __call__(self, x: Float[Array, "n 3 5 5"]) -> Float[Array, "n classes"]:
        """Return the logits of each image."""
        return self.tail(self.stage1(x))


@register(input_shape=(3, 5, 5), task="layer")
def naming_cnn(*, num_classes: int = 10, rngs: nnx.Rngs) -> NamingCNN:
    """A network in which two modules have two names each."""
    return NamingCNN(num_classes, rngs=rngs)


class NamingCNNParallel(Tail):
    """Network whose first stage is an attribute, and is also in a data-parallel wrapper."""

    def __init__(self, num_classes: int, *, rngs: nnx.Rngs):
        self.stage1 = nn.Sequential(nn.Conv2d(3, 12, kernel_size=3, padding=1, rngs=rngs), nn.BatchNorm2d(12))
        self.stage2 = nn.DataParallel(self.stage1)
        self.add_tail(num_classes, rngs=rngs)

    def __call__(self, x: Float[Array, "n 3 5 5"]) -> Float[Array, "n classes"]:
        """Return the logits of each image."""
        return self.tail(self.stage2(x))


@register(input_shape=(3, 5, 5), task="layer")
def naming_cnn_parallel(*, num_classes: int = 10, rngs: nnx.Rngs) -> nn.DataParallel:
    """A network in a data-parallel wrapper, with a wrapped stage in it."""
    return nn.DataParallel(NamingCNNParallel(num_classes, rngs=rngs))
