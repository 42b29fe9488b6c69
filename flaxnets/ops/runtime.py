"""What a port of a torch model does about code that did not run, and about assertions on values."""

from typing import Any, NoReturn

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
