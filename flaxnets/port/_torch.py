"""Import torch and libcst for the whole port."""

try:
    import libcst as libcst
    import torch as torch
except ImportError as error:
    raise ImportError(
        f"flaxnets.port needs {error.name}, which is not installed. Fix: pip install 'flaxnets[port]'"
    ) from error
