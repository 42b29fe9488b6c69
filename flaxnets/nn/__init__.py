"""``torch.nn`` layer for layer, as Flax NNX modules: same names, arguments, parameters, numbers and gradients."""

from flaxnets.nn import functional as functional
from flaxnets.nn import init as init
from flaxnets.nn.activation import ReLU as ReLU
from flaxnets.nn.activation import Sigmoid as Sigmoid
from flaxnets.nn.batchnorm import BatchNorm1d as BatchNorm1d
from flaxnets.nn.batchnorm import BatchNorm2d as BatchNorm2d
from flaxnets.nn.containers import DataParallel as DataParallel
from flaxnets.nn.containers import ParameterDict as ParameterDict
from flaxnets.nn.containers import ParameterList as ParameterList
from flaxnets.nn.containers import Sequential as Sequential
from flaxnets.nn.conv import Conv2d as Conv2d
from flaxnets.nn.dropout import Dropout as Dropout
from flaxnets.nn.flatten import Flatten as Flatten
from flaxnets.nn.linear import Linear as Linear
from flaxnets.nn.module import Buffer as Buffer
from flaxnets.nn.module import Module as Module
from flaxnets.nn.pooling import AdaptiveAvgPool2d as AdaptiveAvgPool2d
from flaxnets.nn.pooling import AvgPool2d as AvgPool2d
from flaxnets.nn.pooling import MaxPool2d as MaxPool2d
from flaxnets.nn.recurrent import GRU as GRU
from flaxnets.nn.recurrent import LSTM as LSTM
from flaxnets.nn.recurrent import RNN as RNN
