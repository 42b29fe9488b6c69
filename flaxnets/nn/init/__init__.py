"""Initialisers with the distributions of ``torch.nn.init``.

Every initialiser is a pure function of ``(key, shape, dtype)`` and keyword arguments that returns an array. Names are
torch's without the trailing underscore, because nothing is changed in place. Deterministic initialisers accept a key,
too, and ignore it (None is fine), so that all initialisers are interchangeable. Half-precision random numbers are drawn
in float32 and rounded.

>>> import jax
>>> for initialise in (zeros, normal, xavier_uniform):
...     assert initialise(jax.random.key(0), (3, 2), "float32").shape == (3, 2)
"""

from flaxnets.nn.init.constants import constant as constant
from flaxnets.nn.init.constants import dirac as dirac
from flaxnets.nn.init.constants import eye as eye
from flaxnets.nn.init.constants import ones as ones
from flaxnets.nn.init.constants import zeros as zeros
from flaxnets.nn.init.distributions import normal as normal
from flaxnets.nn.init.distributions import orthogonal as orthogonal
from flaxnets.nn.init.distributions import sparse as sparse
from flaxnets.nn.init.distributions import trunc_normal as trunc_normal
from flaxnets.nn.init.distributions import uniform as uniform
from flaxnets.nn.init.scaled import calculate_fan_in_and_fan_out as calculate_fan_in_and_fan_out
from flaxnets.nn.init.scaled import calculate_gain as calculate_gain
from flaxnets.nn.init.scaled import kaiming_normal as kaiming_normal
from flaxnets.nn.init.scaled import kaiming_uniform as kaiming_uniform
from flaxnets.nn.init.scaled import xavier_normal as xavier_normal
from flaxnets.nn.init.scaled import xavier_uniform as xavier_uniform


def __getattr__(name: str) -> None:
    function = name.removesuffix("_")
    if function in globals() and not name.startswith("_"):
        raise AttributeError(
            f"flaxnets.nn.init.{name}: JAX arrays are immutable. "
            f"Fix: weight.set_value(init.{function}(key, weight.shape, weight.dtype))",
            name=name,
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
