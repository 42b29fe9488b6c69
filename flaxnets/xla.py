"""XLA options that the installed version of jaxlib supports."""

import functools
import importlib.metadata
from collections.abc import Mapping
from typing import Any

import jax

JAXLIB = importlib.metadata.version("jaxlib")

# Flags that exist only in some versions of jaxlib. An unknown name in XLA_FLAGS ends the process, and JAX has no
# function that lists the known names.
_FLAG_VERSIONS = {"xla_cpu_use_fusion_emitters": ("0.10.2",)}


def flags(options: Mapping[str, Any]) -> str:
    """Return ``options`` as a value of the environment variable ``XLA_FLAGS``, without those that jaxlib lacks.

    >>> flags({"xla_backend_optimization_level": 0})
    '--xla_backend_optimization_level=0'
    """
    known = {name: value for name, value in options.items() if JAXLIB in _FLAG_VERSIONS.get(name, JAXLIB)}
    return " ".join(f"--{name}={str(value).lower()}" for name, value in known.items())


def compiler_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that the compiler of this jaxlib supports, for ``jax.jit(compiler_options=...)``.

    Each option is tested once per process, by compiling an empty program (about 10 ms).

    >>> compiler_options({"xla_backend_optimization_level": 3, "xla_no_such_option": True})
    {'xla_backend_optimization_level': 3}
    """
    return {name: value for name, value in options.items() if _is_option(name, value)}


@functools.cache
def _is_option(name: str, value: Any) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
