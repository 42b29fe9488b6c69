"""Where a command computes, and where compiled programs are kept."""

from flaxnets.cache import cache_folder
from flaxnets.cli.common import UsageError


def choose_device(device: str) -> None:
    """Makes a device the default one; ``auto`` leaves the choice to JAX.

    Raises:
        UsageError: if there is none of that kind.

    >>> choose_device("cpu")
    """
    import jax

    if device == "auto":
        return
    try:
        jax.config.update("jax_default_device", jax.devices(device)[0])
    except RuntimeError as error:
        present = sorted({found.platform for found in jax.devices()})
        raise UsageError(f"--device {device}: JAX finds none here, only {', '.join(present)}") from error


def keep_compiled(folder: str | None) -> None:
    """Keeps what is compiled for the next time.

    Args:
        folder: where; if not given, what ``JAX_COMPILATION_CACHE_DIR`` says, or ``flaxnets`` in the user's folder for
            caches.

    >>> keep_compiled(None)
    """
    import jax

    # Small programs as well: a new network runs hundreds of them before its first step.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if folder is None and jax.config.jax_compilation_cache_dir is not None:  # pyright: ignore[reportAttributeAccessIssue]
        return
    jax.config.update("jax_compilation_cache_dir", folder or str(cache_folder()))
