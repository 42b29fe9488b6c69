"""Custom layers, each registered as a network."""

import jax
from flax import nnx
from jaxtyping import Array, Float

from flaxnets import nn
from flaxnets.nn import functional as F
from flaxnets.registry import register


class CenteredLayer(nn.Module):
    """Subtraction of the mean."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return the elements minus their mean."""
        return x - x.mean()


@register(input_shape=(5,), task="layer")
def centered(*, rngs: nnx.Rngs) -> CenteredLayer:
    """A layer without parameters."""
    return CenteredLayer()


class MyLinear(nn.Module):
    """A linear layer with ReLU whose weight has the shape ``(in_units, units)``."""

    def __init__(self, in_units: int, units: int, *, rngs: nnx.Rngs):
        self.weight = nnx.Param(jax.random.normal(rngs.params(), (in_units, units)))
        self.bias = nnx.Param(jax.random.normal(rngs.params(), (units,)))

    def __call__(self, x: Float[Array, "n in"]) -> Float[Array, "n out"]:
        """Return the ReLU of ``x @ weight + bias``."""
        return F.relu(F.linear(x, self.weight.T, self.bias[...]))


@register(input_shape=(5,), task="layer")
def my_linear(*, in_units: int = 5, units: int = 3, rngs: nnx.Rngs) -> MyLinear:
    """A layer with parameters."""
    return MyLinear(in_units, units, rngs=rngs)


class ListDense(nn.Module):
    """A product with each matrix of a list, in order."""

    def __init__(self, *, rngs: nnx.Rngs):
        shapes = [(4, 4), (4, 4), (4, 4), (4, 1)]
        self.params = nn.ParameterList([jax.random.normal(rngs.params(), shape) for shape in shapes])

    def __call__(self, x: Float[Array, "n 4"]) -> Float[Array, "n 1"]:
        """Return the product with all matrices."""
        for param in self.params:
            x = x @ param
        return x


@register(input_shape=(4,), task="layer")
def list_dense(*, rngs: nnx.Rngs) -> ListDense:
    """A list of parameters."""
    return ListDense(rngs=rngs)


class DictDense(nn.Module):
    """A product with a matrix that the caller chooses by name."""

    def __init__(self, *, rngs: nnx.Rngs):
        shapes = {"linear1": (4, 4), "linear2": (4, 1), "linear3": (4, 2)}
        self.params = nn.ParameterDict({k: jax.random.normal(rngs.params(), shape) for k, shape in shapes.items()})

    def __call__(self, x: Float[Array, "n 4"], choice: str = "linear1") -> Float[Array, "n out"]:
        """Return the product with the matrix ``choice``."""
        return x @ self.params[choice]


@register(input_shape=(4,), task="layer")
def dict_dense(*, rngs: nnx.Rngs) -> DictDense:
    """A dictionary of parameters."""
    return DictDense(rngs=rngs)


class Conv2D(nn.Module):
    """Cross-correlation of one matrix with a learned kernel, plus a scalar."""

    def __init__(self, kernel_size: tuple[int, int], *, rngs: nnx.Rngs):
        self.weight = nnx.Param(jax.random.normal(rngs.params(), kernel_size))
        self.bias = nnx.Param(jax.random.normal(rngs.params(), (1,)))

    def __call__(self, x: Float[Array, "h w"]) -> Float[Array, "h_out w_out"]:
        """Return the cross-correlation."""
        return F.conv2d(x[None], self.weight[None, None], self.bias[...])[0]


@register(input_shape=(6, 8), task="layer", batched=False)
def corr2d(*, kernel_size: tuple[int, int] = (1, 2), rngs: nnx.Rngs) -> Conv2D:
    """Cross-correlation of one matrix."""
    return Conv2D(kernel_size, rngs=rngs)


class MultiChannelConv2D(nn.Module):
    """Cross-correlation of several channels with a learned kernel, summed over the channels."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], *, rngs: nnx.Rngs):
        shape = (out_channels, in_channels, *kernel_size)
        self.weight = nnx.Param(jax.random.normal(rngs.params(), shape))

    def __call__(self, x: Float[Array, "c_in h w"]) -> Float[Array, "c_out h_out w_out"]:
        """Return the cross-correlation."""
        return F.conv2d(x, self.weight[...])


@register(input_shape=(2, 3, 3), task="layer")
def corr2d_multi(
    *, in_channels: int = 2, out_channels: int = 3, kernel_size: tuple[int, int] = (2, 2), rngs: nnx.Rngs
) -> MultiChannelConv2D:
    """Cross-correlation of several channels."""
    return MultiChannelConv2D(in_channels, out_channels, kernel_size, rngs=rngs)


class Pool2D(nn.Module):
    """The maximum or the mean of each window of one matrix."""

    def __init__(self, pool_size: tuple[int, int], mode: str):
        if mode not in ("max", "avg"):
            raise ValueError(f"mode must be 'max' or 'avg', got {mode!r}")
        self.pool_size = pool_size
        self.mode = mode

    def __call__(self, x: Float[Array, "h w"]) -> Float[Array, "h_out w_out"]:
        """Return one value for each position of the window."""
        pool = F.max_pool2d if self.mode == "max" else F.avg_pool2d
        return pool(x[None], self.pool_size, stride=1)[0]


@register(input_shape=(3, 3), task="layer", batched=False)
def pool2d(*, pool_size: tuple[int, int] = (2, 2), mode: str = "max", rngs: nnx.Rngs) -> Pool2D:
    """Pooling of one matrix with stride 1."""
    return Pool2D(pool_size, mode)
