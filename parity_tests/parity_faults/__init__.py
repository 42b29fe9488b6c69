"""Faults as people make them when they write a PyTorch network again in Flax: small edits of the right Flax source."""

from parity_faults.common import HERE, load_faults
from parity_faults.common import NETWORKS_BY_NAME as NETWORKS_BY_NAME
from parity_faults.common import Fault as Fault
from parity_faults.common import Network as Network

FAULTS: list[Fault] = [*load_faults(HERE / "native.toml"), *load_faults(HERE / "flaxnets.toml")]
