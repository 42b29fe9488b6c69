"""The Flax sides: written as Flax users write them, with the layers of Flax alone, and images as ``(N, H, W, C)``."""
