"""The networks in Flax, in the style of Flax users: only layers of Flax, and images as ``(N, H, W, C)``."""
