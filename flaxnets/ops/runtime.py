"""Runtime support of ported torch models: code that was not recorded, and assertions on values."""

from typing import Any, NoReturn

from jax import Array
from jax.core import Tracer


def unreached(text: str) -> NoReturn:
    """Raise an error in place of code that did not run when the model was ported.

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
    """Return the class of an object; all arrays have the same class.

    >>> import jax.numpy as jnp
    >>> type_of(jnp.ones(2)) is Array, type_of(3)
    (True, <class 'int'>)
    """
    return Array if isinstance(value, Array) else type(value)


def text_of(value: Any) -> str:
    """Return the text of an object; for the class of arrays, torch's text.

    >>> text_of(Array), text_of(3)
    ("<class 'torch.Tensor'>", '3')
    """
    return "<class 'torch.Tensor'>" if value is Array else str(value)


def assert_values(condition: Any, message: Any = None) -> None:
    """Assert a condition on values, if the values are known; a compiled program cannot raise.

    Args:
        condition: a boolean; ignored under ``jax.jit`` and other transformations.
        message: message of the error.

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
