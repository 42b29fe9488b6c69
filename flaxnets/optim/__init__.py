"""``torch.optim`` as optax transformations, with torch's names, arguments, arithmetic and slots."""

from typing import NoReturn as _NoReturn

from flaxnets._suggestions import suggest as _suggest
from flaxnets.optim import lr_scheduler as lr_scheduler
from flaxnets.optim.adam import Adam as Adam
from flaxnets.optim.adam import Adamax as Adamax
from flaxnets.optim.adam import AdamW as AdamW
from flaxnets.optim.adam import NAdam as NAdam
from flaxnets.optim.adam import RAdam as RAdam
from flaxnets.optim.adaptive import Adadelta as Adadelta
from flaxnets.optim.adaptive import Adagrad as Adagrad
from flaxnets.optim.adaptive import RMSprop as RMSprop
from flaxnets.optim.named import register_optimizer as register_optimizer
from flaxnets.optim.schedules import register_schedule as register_schedule
from flaxnets.optim.sgd import ASGD as ASGD
from flaxnets.optim.sgd import SGD as SGD
from flaxnets.optim.sgd import Rprop as Rprop
from flaxnets.optim.torch_state import from_torch as from_torch
from flaxnets.optim.torch_state import to_torch as to_torch
from flaxnets.optim.transformation import Optimizer as Optimizer
from flaxnets.optim.transformation import OptimizerState as OptimizerState
from flaxnets.optim.transformation import chain as chain
from flaxnets.optim.transformation import clip_grad_norm as clip_grad_norm


def __getattr__(name: str) -> _NoReturn:
    known = [each for each in globals() if each[0].isupper() and not each.startswith("Optimizer")]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; {_suggest(name, known)}", name=name)
