"""Multilayer perceptrons: plain, with dropout, with named layers, with shared layers and with control flow."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxnets import nn
from flaxnets.nn import functional as F
from flaxnets.registry import Recipe, register


@register(input_shape=(1, 28, 28), dataset="mnist", recipe=Recipe(epochs=10, batch_size=64, lr=0.1))
def mlp(*, num_inputs: int = 784, num_hiddens: int = 256, num_classes: int = 10, rngs: nnx.Rngs) -> nn.Sequential:
    """One hidden layer with ReLU, for flattened images."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(num_inputs, num_hiddens, rngs=rngs),
        nn.ReLU(),
        nn.Linear(num_hiddens, num_classes, rngs=rngs),
    )


@register(
    input_shape=(1, 28, 28), dataset="mnist", paper="arXiv:1207.0580", recipe=Recipe(epochs=15, batch_size=64, lr=0.1)
)
def mlp_dropout(
    *,
    num_inputs: int = 784,
    num_hiddens: int = 256,
    num_classes: int = 10,
    p1: float = 0.2,
    p2: float = 0.5,
    rngs: nnx.Rngs,
) -> nn.Sequential:
    """Two hidden layers with dropout."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(num_inputs, num_hiddens, rngs=rngs),
        nn.ReLU(),
        nn.Dropout(p1, rngs=rngs),
        nn.Linear(num_hiddens, num_hiddens, rngs=rngs),
        nn.ReLU(),
        nn.Dropout(p2, rngs=rngs),
        nn.Linear(num_hiddens, num_classes, rngs=rngs),
    )


class NamedMLP(nn.Module):
    """One hidden layer; every layer is an attribute."""

    def __init__(self, num_inputs: int, num_hiddens: int, num_classes: int, *, rngs: nnx.Rngs):
        self.hidden = nn.Linear(num_inputs, num_hiddens, rngs=rngs)
        self.act = nn.ReLU()
        self.output = nn.Linear(num_hiddens, num_classes, rngs=rngs)

    def __call__(self, x: Float[Array, "n features"]) -> Float[Array, "n classes"]:
        """Return the logits of each example."""
        return self.output(self.act(self.hidden(x)))


@register(input_shape=(784,), dataset="mnist", recipe=Recipe(epochs=10, batch_size=64, lr=0.1))
def mlp_named(*, num_inputs: int = 784, num_hiddens: int = 256, num_classes: int = 10, rngs: nnx.Rngs) -> NamedMLP:
    """One hidden layer with ReLU; the layers have names."""
    return NamedMLP(num_inputs, num_hiddens, num_classes, rngs=rngs)


class FunctionalMLP(nn.Module):
    """One hidden layer; the activation is a function call."""

    def __init__(self, num_inputs: int, num_hiddens: int, num_classes: int, *, rngs: nnx.Rngs):
        self.hidden = nn.Linear(num_inputs, num_hiddens, rngs=rngs)
        self.out = nn.Linear(num_hiddens, num_classes, rngs=rngs)

    def __call__(self, x: Float[Array, "n features"]) -> Float[Array, "n classes"]:
        """Return the logits of each example."""
        return self.out(F.relu(self.hidden(x)))


@register(input_shape=(20,), task="layer")
def mlp_functional(
    *, num_inputs: int = 20, num_hiddens: int = 256, num_classes: int = 10, rngs: nnx.Rngs
) -> FunctionalMLP:
    """One hidden layer with ReLU, for twenty features."""
    return FunctionalMLP(num_inputs, num_hiddens, num_classes, rngs=rngs)


class FancyMLP(nn.Module):
    """A layer that is used twice, a constant, and control flow that depends on values."""

    def __init__(self, num_units: int, *, rngs: nnx.Rngs):
        self.rand_weight = nn.Buffer(jax.random.uniform(rngs.params(), (num_units, num_units)), persistent=False)
        self.linear = nn.Linear(num_units, num_units, rngs=rngs)

    def __call__(self, x: Float[Array, "n features"]) -> Float[Array, ""]:
        """Return the sum of the outputs, halved until their norm is at most 1, then times 10 if it is below 0.8."""
        x = F.relu(self.linear(x) @ self.rand_weight[...] + 1)
        x = self.linear(x)
        # A loop of unknown length has no reverse-mode gradient. Halving is exact, so the loop computes the scale only,
        # outside of the gradient, and the outputs are scaled once.
        norm, scale = jax.lax.while_loop(
            lambda carry: carry[0] > 1,
            lambda carry: (carry[0] / 2, carry[1] / 2),
            (jnp.linalg.norm(jax.lax.stop_gradient(x)), jnp.ones((), x.dtype)),
        )
        return (x * scale * jnp.where(norm < 0.8, 10, 1)).sum()


@register(input_shape=(20,), task="layer")
def fancy_mlp(*, num_units: int = 20, rngs: nnx.Rngs) -> FancyMLP:
    """A layer that is used twice, with control flow in between."""
    return FancyMLP(num_units, rngs=rngs)


@register(input_shape=(1,), task="layer")
def shared_linear(*, rngs: nnx.Rngs) -> nn.Sequential:
    """One linear layer, applied twice: for weight 3 and input 1, the output is 9 and the weight's gradient is 6."""
    linear = nn.Linear(1, 1, bias=False, rngs=rngs)
    return nn.Sequential(linear, linear)


@register(input_shape=(4,), task="layer")
def shared_mlp(*, num_inputs: int = 4, num_hiddens: int = 8, rngs: nnx.Rngs) -> nn.Sequential:
    """A perceptron whose second and third hidden layers are the same module."""
    first = nn.Linear(num_inputs, num_hiddens, rngs=rngs)
    shared = nn.Linear(num_hiddens, num_hiddens, rngs=rngs)
    last = nn.Linear(num_hiddens, 1, rngs=rngs)
    return nn.Sequential(first, nn.ReLU(), shared, nn.ReLU(), shared, nn.ReLU(), last)
