"""Residual network of "Deep residual learning for image recognition" (arXiv:1512.03385)."""

from flax import nnx


class ResidualBlock(nnx.Module):
    def __init__(self, in_features, features, strides=1, *, rngs):
        self.first = nnx.Conv(in_features, features, (3, 3), strides=strides, padding=1, use_bias=False, rngs=rngs)
        self.first_norm = nnx.BatchNorm(features, momentum=0.9, epsilon=1e-5, rngs=rngs)
        self.second = nnx.Conv(features, features, (3, 3), padding=1, use_bias=False, rngs=rngs)
        self.second_norm = nnx.BatchNorm(features, momentum=0.9, epsilon=1e-5, rngs=rngs)
        self.projects = strides != 1 or in_features != features
        if self.projects:
            self.projection = nnx.Conv(in_features, features, (1, 1), strides=strides, use_bias=False, rngs=rngs)
            self.projection_norm = nnx.BatchNorm(features, momentum=0.9, epsilon=1e-5, rngs=rngs)

    def __call__(self, x):
        shortcut = x
        if self.projects:
            shortcut = self.projection_norm(self.projection(x))
        y = nnx.relu(self.first_norm(self.first(x)))
        y = self.second_norm(self.second(y))
        return nnx.relu(y + shortcut)


class ResNet(nnx.Module):
    def __init__(self, widths=(8, 12), blocks=2, num_classes=10, *, rngs):
        self.stem = nnx.Conv(3, widths[0], (7, 7), strides=2, padding=3, use_bias=False, rngs=rngs)
        self.stem_norm = nnx.BatchNorm(widths[0], momentum=0.9, epsilon=1e-5, rngs=rngs)
        self.stages = nnx.List()
        features = widths[0]
        for i, width in enumerate(widths):
            stage = nnx.List()
            for j in range(blocks):
                strides = 2 if i > 0 and j == 0 else 1
                stage.append(ResidualBlock(features, width, strides, rngs=rngs))
                features = width
            self.stages.append(stage)
        self.head = nnx.Linear(features, num_classes, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.stem_norm(self.stem(x)))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage in self.stages:
            for block in stage:
                x = block(x)
        return self.head(x.mean(axis=(1, 2)))
