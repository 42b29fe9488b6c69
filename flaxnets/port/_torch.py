"""The one place of the port that imports torch and libcst."""

try:
    import libcst as libcst
    import torch as torch
except ImportError as error:
    raise ImportError(
        f"flaxnets.port needs {error.name}, which is not installed. Fix: pip install 'flaxnets[port]'"
    ) from error
