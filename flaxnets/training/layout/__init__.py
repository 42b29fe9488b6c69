"""The physical layout of arrays within a step: names, shapes and axes stay torch's.

Every number is computed by the same operations from the same operands. Bits can differ where XLA has a choice: float
sums and products that it fuses, rounds once instead of twice, or runs through in another order because the operands lie
otherwise. The trained networks of the tests have the same bits, but for one array of rounded sums each in three cases,
as long as XLA does not optimize; as it compiles by default they agree to rounding, in float64 to 1e-12.
"""

from flaxnets.training.layout._state import PhysicalState as PhysicalState
from flaxnets.training.layout._state import PhysicalStep as PhysicalStep
from flaxnets.training.layout._state import make_physical_step as make_physical_step
from flaxnets.training.layout._state import sink_transposes as sink_transposes
