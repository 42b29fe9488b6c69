"""Base class of activations with an ``inplace`` argument."""

from flaxnets.nn._arguments import changed
from flaxnets.nn.module import Module


class InPlace(Module):
    """Activation with the argument ``inplace``, which ``repr`` prints if True."""

    inplace: bool

    def extra_repr(self) -> str:
        """Return the arguments for ``repr``."""
        return (super().extra_repr() + changed(self, inplace=False)).removeprefix(", ")
