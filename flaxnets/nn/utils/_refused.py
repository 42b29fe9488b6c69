"""Functions of torch that cannot exist in JAX: they can be imported, and say why not when they are called."""

from collections.abc import Callable
from typing import Any, NoReturn


def refused(name: str, reason: str) -> Callable[..., NoReturn]:
    """Return a function of that name that raises NotImplementedError with the reason."""

    def function(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(f"{name} does not exist in flaxnets: {reason}")

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Raise NotImplementedError: {reason}."
    return function
