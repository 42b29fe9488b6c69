"""What activations that torch can compute in place have in common."""

from flaxnets.nn._arguments import changed
from flaxnets.nn.module import Module


class InPlace(Module):
    """An activation with the argument ``inplace``, which ``repr`` prints where it is True."""

    inplace: bool

    def extra_repr(self) -> str:
        """Return the arguments for ``repr``."""
        return (super().extra_repr() + changed(self, inplace=False)).removeprefix(", ")
