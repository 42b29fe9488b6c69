"""Registered networks, one family per file; importing this package registers all of them."""

from flaxnets.models import alexnet as alexnet
from flaxnets.models import blocks as blocks
from flaxnets.models import custom as custom
from flaxnets.models import densenet as densenet
from flaxnets.models import googlenet as googlenet
from flaxnets.models import lenet as lenet
from flaxnets.models import mlp as mlp
from flaxnets.models import naming as naming
from flaxnets.models import nin as nin
from flaxnets.models import recurrent as recurrent
from flaxnets.models import regression as regression
from flaxnets.models import resnet as resnet
from flaxnets.models import vgg as vgg
