"""Training: the compiled step, the loop around it, objectives, optimizers, and the folder of a run."""

from flaxnets.training.initialization import initialize as initialize
from flaxnets.training.loop import evaluate as evaluate
from flaxnets.training.loop import fit as fit
from flaxnets.training.objectives import as_objective as as_objective
from flaxnets.training.objectives import classification as classification
from flaxnets.training.objectives import l2_penalty as l2_penalty
from flaxnets.training.objectives import language as language
from flaxnets.training.objectives import regression as regression
from flaxnets.training.optimizers import OPTIMIZERS as OPTIMIZERS
from flaxnets.training.optimizers import make_optimizer as make_optimizer
from flaxnets.training.remat import checkpoint as checkpoint
from flaxnets.training.run import LoadedRun as LoadedRun
from flaxnets.training.run import Run as Run
from flaxnets.training.run import RunError as RunError
from flaxnets.training.run import load_run as load_run
from flaxnets.training.sampling import generate as generate
from flaxnets.training.step import Batch as Batch
from flaxnets.training.step import TrainState as TrainState
from flaxnets.training.step import make_eval_step as make_eval_step
from flaxnets.training.step import make_train_step as make_train_step
from flaxnets.training.tasks import DEFAULTS as DEFAULTS
from flaxnets.training.tasks import TASKS as TASKS
from flaxnets.training.tasks import Task as Task
