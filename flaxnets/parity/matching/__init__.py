"""Match the variables of a Flax module with the tensors of a torch module."""

from flaxnets.parity.matching.mappings import Names as Names
from flaxnets.parity.matching.matching import Ambiguity as Ambiguity
from flaxnets.parity.matching.matching import Entry as Entry
from flaxnets.parity.matching.matching import Matching as Matching
from flaxnets.parity.matching.matching import load_torch_weights as load_torch_weights
from flaxnets.parity.matching.matching import match as match
from flaxnets.parity.matching.matching import named_modules as named_modules
from flaxnets.parity.matching.matching import named_variables as named_variables
from flaxnets.parity.matching.matching import set_values as set_values
