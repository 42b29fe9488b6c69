"""The networks, one family a file; importing this package registers them all."""

from torchref.models import densenet as densenet
from torchref.models import lenet as lenet
from torchref.models import mlp as mlp
from torchref.models import resnet as resnet
