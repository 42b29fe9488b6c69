"""The one place of the harness that imports torch."""

try:
    import torch as torch
except ImportError as error:
    raise ImportError(
        "flaxnets.parity compares with PyTorch; install it with: pip install 'flaxnets[parity]'"
    ) from error
