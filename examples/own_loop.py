"""Write your own training loop around a compiled step.

    python examples/own_loop.py

The loop draws batches with as many examples of rare classes as of common ones, and evaluates every 100 steps.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import flaxnets
from flaxnets import nn, optim
from flaxnets.data import Split, fit_images, load
from flaxnets.training import Batch, TrainState, evaluate, make_train_step


def to_inputs(images: jax.Array) -> jax.Array:
    return fit_images(images, input_shape=(1, 28, 28))


def to_batch(examples: tuple[jax.Array, jax.Array], key: jax.Array) -> Batch:
    """Prepare a batch inside the compiled step. The key is new in every step."""
    images, labels = examples
    inputs = to_inputs(images)
    noise = 0.1 * jax.random.normal(key, inputs.shape)
    return Batch(inputs + noise, labels, weights=jnp.ones(len(labels)))


def balanced(labels: np.ndarray, rng: np.random.Generator, batch_size: int) -> np.ndarray:
    """Draw the indices of a batch in which every class is equally likely."""
    probabilities = 1 / np.bincount(labels)[labels]
    return rng.choice(len(labels), batch_size, p=probabilities / probabilities.sum())


def main(steps: int = 500, batch_size: int = 32) -> float:
    data = load("digits")
    rare = data.train.targets < 5
    train = Split(*(np.concatenate([a[~rare], a[rare][:100]]) for a in (data.train.inputs, data.train.targets)))

    model = flaxnets.create_model("lenet_batchnorm")
    schedule = optim.lr_scheduler.CosineAnnealingLR(0.05, T_max=steps)
    optimizer = optax.chain(optim.clip_grad_norm(1.0), optim.SGD(schedule, momentum=0.9))
    objective = nn.CrossEntropyLoss(label_smoothing=0.1)
    step = make_train_step(model, optimizer, objective, to_batch, nonfinite="skip")
    state = TrainState.create(model, optimizer)

    rng, accuracy = np.random.default_rng(0), 0.0
    for i in range(1, steps + 1):
        chosen = balanced(train.targets, rng, batch_size)
        # The step reuses the memory of the old state, so keep only the new one.
        state, metrics = step(state, (train.inputs[chosen], train.targets[chosen]))
        if i % 100 == 0 or i == steps:
            state.update_model(model)
            accuracy = evaluate(model, data.test, objective=objective, transform=to_inputs)["test_accuracy"]
            print(f"step {i}: loss {metrics['loss'] / metrics['count']:.3f}, test accuracy {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main()
