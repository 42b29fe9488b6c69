"""What a port of a torch model does about code that did not run, and about assertions on values."""

from typing import Any, NoReturn

from jax import Array
from jax.core import Tracer


def unreached(text: str) -> NoReturn:
    """Raise an error in the place of code that did not run when a model was ported.

    Args:
        text: the original source.

    Raises:
        NotImplementedError: always.

    >>> unreached("x.flip(0)")
    Traceback (most recent call last):
    NotImplementedError: not recorded: x.flip(0)
    """
    raise NotImplementedError(f"not recorded: {text}")


def type_of(value: Any) -> type:
    """Return the class of an object, which is the same for all arrays.

    >>> import jax.numpy as jnp
    >>> type_of(jnp.ones(2)) is Array, type_of(3)
    (True, <class 'int'>)
    """
    return Array if isinstance(value, Array) else type(value)


def text_of(value: Any) -> str:
    """Return the text of an object, for the class of arrays the one that torch has.

    >>> text_of(Array), text_of(3)
    ("<class 'torch.Tensor'>", '3')
    """
    return "<class 'torch.Tensor'>" if value is Array else str(value)


def assert_values(condition: Any, message: Any = None) -> None:
    """Assert that a condition on values holds, where they are known; a compiled program cannot raise.

    Args:
        condition: a truth value; under ``jax.jit`` and other transformations it is not looked at.
        message: of the error.

    Raises:
        AssertionError: if the condition is known to be false.

    See `torch._assert <https://github.com/pytorch/pytorch/blob/main/torch/__init__.py>`_.

    >>> import jax.numpy as jnp
    >>> assert_values(jnp.ones(2).sum() > 3, "expected more")
    Traceback (most recent call last):
    AssertionError: expected more
    """
    if not isinstance(condition, Tracer) and not condition:
        raise AssertionError(*([] if message is None else [message]))
