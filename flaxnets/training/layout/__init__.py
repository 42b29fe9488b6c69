"""The physical layout of arrays within a step: names, shapes and axes stay torch's."""

from flaxnets.training.layout._state import PhysicalState as PhysicalState
from flaxnets.training.layout._state import PhysicalStep as PhysicalStep
from flaxnets.training.layout._state import make_physical_step as make_physical_step
from flaxnets.training.layout._state import sink_transposes as sink_transposes
