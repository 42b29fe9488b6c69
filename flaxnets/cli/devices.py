"""The device of a command, and the folder of compiled programs."""

import os
import re

from flaxnets._suggestions import suggest
from flaxnets.cache import cache_folder
from flaxnets.cli.common import UsageError

KINDS = ("auto", "cpu", "gpu", "tpu", "cuda", "rocm")
_VARIABLES = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME")


def choose_device(device: str) -> str:
    """Make a device JAX's default; with ``auto``, JAX chooses the device.

    Args:
        device: ``auto``; ``cpu``, ``gpu``, ``cuda``, ``rocm`` or ``tpu``, optionally with a colon and the number of
            the device, as in ``cuda:1``; or an index of :func:`jax.devices`.

    Returns:
        The name of the device.

    Raises:
        UsageError: if there is no such device, or if JAX does not find the platform of ``JAX_PLATFORMS``.

    >>> choose_device("cpu"), choose_device("cpu:0"), choose_device("0")
    ('cpu', 'cpu', 'cpu')
    """
    import jax

    kind, number = _parsed(device)
    if kind == "cpu":  # --device cpu overrides the environment
        for name in _VARIABLES:
            if "cpu" not in (os.environ.get(name) or "cpu").split(","):
                jax.config.update(name.lower(), "cpu")
    try:
        every = jax.devices()
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split()).partition(". ")[0] or "JAX has no such device here"
        asked = " ".join(f"{name}={os.environ[name]}" for name in _VARIABLES if os.environ.get(name))
        raise UsageError(f"{asked or 'no device'}: {reason}. Fix: unset it, or use --device cpu") from error
    try:
        # Other processes' devices are not usable as the default device.
        devices = jax.local_devices(backend=None if kind is None or kind == "auto" else kind)
    except RuntimeError as error:
        present = sorted({found.platform for found in every})
        raise UsageError(f"--device {device}: JAX finds no such device, only {', '.join(present)}") from error
    if number >= len(devices):
        raise UsageError(f"--device {device}: JAX finds {len(devices)} here, numbered from 0")
    chosen = devices[number]
    if kind != "auto":
        jax.config.update("jax_default_device", chosen)
    name = chosen.platform if len(devices) == 1 else f"{chosen.platform}:{number}"
    return name if chosen.device_kind.lower() == chosen.platform else f"{name} ({chosen.device_kind})"


def _parsed(device: str) -> tuple[str | None, int]:
    """Return the kind of a device and its number among the devices of this kind; None as the kind of a plain number."""
    match = re.fullmatch(r"(?:([a-z]+)(?::(\d{1,6}))?|(\d{1,6}))", device)
    kind, number = (match[1], match[2] or match[3]) if match else (device, None)
    if (match is None or kind is not None) and (kind not in KINDS or (kind == "auto" and number)):
        raise UsageError(f"unknown --device {device!r}; {suggest(device, [*KINDS])}; or a number, as in cuda:1 or 1")
    return kind, int(number or 0)


def check_compiles() -> None:
    """Check that JAX compiles, because steps with the state in the kernels' axis order only run compiled.

    Raises:
        UsageError: if ``JAX_DISABLE_JIT`` is set.

    >>> check_compiles()
    """
    import jax

    if jax.config.jax_disable_jit:  # pyright: ignore[reportAttributeAccessIssue]
        raise UsageError(
            f"JAX_DISABLE_JIT={os.environ.get('JAX_DISABLE_JIT', 'True')}: this command runs only compiled programs. "
            "Fix: unset it"
        )


def keep_compiled(folder: str | None) -> None:
    """Cache compiled programs on disk.

    Args:
        folder: the folder. The default is ``JAX_COMPILATION_CACHE_DIR``, or else ``flaxnets`` in the user's cache
            folder.

    >>> keep_compiled(None)
    """
    import jax

    # Small programs are cached, too: a new network runs hundreds of small programs before its first step.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if folder is None and jax.config.jax_compilation_cache_dir is not None:  # pyright: ignore[reportAttributeAccessIssue]
        return
    jax.config.update("jax_compilation_cache_dir", folder or str(cache_folder()))
