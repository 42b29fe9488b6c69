"""Registered networks, one family per file; importing this package registers all of them."""

from torchref.models import alexnet as alexnet
from torchref.models import blocks as blocks
from torchref.models import custom as custom
from torchref.models import densenet as densenet
from torchref.models import googlenet as googlenet
from torchref.models import lenet as lenet
from torchref.models import mlp as mlp
from torchref.models import naming as naming
from torchref.models import nin as nin
from torchref.models import recurrent as recurrent
from torchref.models import regression as regression
from torchref.models import resnet as resnet
from torchref.models import vgg as vgg
