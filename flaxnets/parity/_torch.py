"""Import torch for all modules of ``flaxnets.parity``, with an error that says how to install it."""

try:
    import torch as torch
except ImportError as error:
    raise ImportError(
        "flaxnets.parity requires PyTorch, which is not installed. Fix: pip install 'flaxnets[parity]'"
    ) from error
