"""Name the mistake in a Flax module: known mistakes are made in the torch module until it gives what Flax gave."""

from flaxnets.parity.causes.finding import find_cause as find_cause
from flaxnets.parity.causes.variants import Cause as Cause
