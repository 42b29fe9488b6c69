"""Compare the training steps of a Flax module with those of a torch module."""

from flaxnets.parity.training.batches import random_batches as random_batches
from flaxnets.parity.training.report import TrainingReport as TrainingReport
from flaxnets.parity.training.trajectories import check_training as check_training
