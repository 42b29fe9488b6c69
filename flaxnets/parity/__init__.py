"""Compare a Flax module with a PyTorch module: names, outputs, gradients and buffers. Requires PyTorch.

>>> from torch import nn as torch_nn
>>> import numpy as np
>>> from flax import nnx
>>> from flaxnets import nn
>>> from flaxnets.parity import check
>>> report = check(torch_nn.Linear(3, 2), nn.Linear(3, 2, rngs=nnx.Rngs(0)), np.ones((4, 3)))
>>> report.passed
True
"""

from flaxnets.parity.causes import Cause as Cause
from flaxnets.parity.check import GATES as GATES
from flaxnets.parity.check import CheckOptions as CheckOptions
from flaxnets.parity.check import assert_parity as assert_parity
from flaxnets.parity.check import check as check
from flaxnets.parity.masks import shared_masks as shared_masks
from flaxnets.parity.matching import Ambiguity as Ambiguity
from flaxnets.parity.matching import Entry as Entry
from flaxnets.parity.matching import Matching as Matching
from flaxnets.parity.matching import load_torch_weights as load_torch_weights
from flaxnets.parity.matching import match as match
from flaxnets.parity.matching.functions import FunctionModule as FunctionModule
from flaxnets.parity.measures import relative_error as relative_error
from flaxnets.parity.report import Difference as Difference
from flaxnets.parity.report import Location as Location
from flaxnets.parity.report import ModuleRow as ModuleRow
from flaxnets.parity.report import Report as Report
from flaxnets.parity.run import Constant as Constant
from flaxnets.parity.state import randomize as randomize
from flaxnets.parity.state import transfer as transfer
from flaxnets.parity.training.batches import random_batches as random_batches
from flaxnets.parity.training.report import TrainingReport as TrainingReport
from flaxnets.parity.training.trajectories import TrainingOptions as TrainingOptions
from flaxnets.parity.training.trajectories import check_training as check_training
