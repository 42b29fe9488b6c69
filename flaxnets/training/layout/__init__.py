"""The physical layout of arrays within a step: names, shapes and axes stay torch's.

Every number is computed by the same operations from the same operands. Bits can differ where XLA has a choice: float
sums and products that it fuses, rounds once instead of twice, or runs through in another order because the operands lie
otherwise. In float64 all networks agree to 1e-12 after three steps.
"""

from flaxnets.training.layout._state import PhysicalState as PhysicalState
from flaxnets.training.layout._state import PhysicalStep as PhysicalStep
from flaxnets.training.layout._state import hold_physical as hold_physical
from flaxnets.training.layout._state import make_physical_step as make_physical_step
from flaxnets.training.layout._state import sink_transposes as sink_transposes
