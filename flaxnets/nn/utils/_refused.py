"""Functions of torch that cannot exist in JAX: importable, but a call raises with the reason."""

from collections.abc import Callable
from typing import Any, NoReturn


def refused(name: str, reason: str) -> Callable[..., NoReturn]:
    """Return a function of this name that raises NotImplementedError with the reason."""

    def function(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(f"{name} does not exist in flaxnets: {reason}")

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Raise NotImplementedError: {reason}."
    return function
