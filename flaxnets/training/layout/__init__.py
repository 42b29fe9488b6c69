"""The layout pass: change the physical axis order of arrays within a step. Names and logical shapes do not change.

The pass keeps every operation and its operands. The last bits can differ, because XLA may fuse float operations, round
once instead of twice, or sum in another order for another layout. In float64, all networks agree to 1e-12 after three
steps.
"""

from flaxnets.training.layout._state import PhysicalState as PhysicalState
from flaxnets.training.layout._state import PhysicalStep as PhysicalStep
from flaxnets.training.layout._state import bind_physical as bind_physical
from flaxnets.training.layout._state import make_physical_step as make_physical_step
from flaxnets.training.layout._state import sink_transposes as sink_transposes
