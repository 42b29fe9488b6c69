"""The networks, one family a file; importing this package registers them all."""

from flaxnets.models import densenet as densenet
from flaxnets.models import lenet as lenet
from flaxnets.models import mlp as mlp
from flaxnets.models import resnet as resnet
