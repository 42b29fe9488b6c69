"""Find the mistake in a Flax module: make known mistakes in a copy of the torch module until both sides agree."""

from flaxnets.parity.causes.finding import find_cause as find_cause
from flaxnets.parity.causes.variants import Cause as Cause
