"""What the steps of a run are given: batches of one size, chosen on the device or decoded beside it."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from flaxnets.data import Split
from flaxnets.training.execution import Pace, Several
from flaxnets.training.train_state import Batch

Augment = Callable[[Any, Any, jax.Array], tuple[Any, Any]]


class Stream(Protocol):
    """Examples that are made when they are needed, such as :class:`flaxnets.data.ImageFiles`."""

    def __len__(self) -> int: ...

    def batches(self, order: np.ndarray, batch_size: int, *, seed: tuple[int, ...] | None) -> Iterator[tuple[Any, Any]]:
        """Yields inputs and targets of the examples in ``order``; without a seed, as they are evaluated."""
        ...


class Batches:
    """Batches of one size.

    A :class:`flaxnets.data.Split` stays on the device, and the step itself picks its examples; a :class:`Stream` is
    asked for them.

    Args:
        source: the examples.
        batch_size: examples a step; at most all of them.
        transform: from stored inputs to the model's, inside the step.
        augment: from stored inputs, targets and a random key to the model's inputs, and targets, inside the step; it
            takes the place of ``transform`` where there is a key.
    """

    def __init__(
        self,
        source: Split | Stream,
        batch_size: int,
        transform: Callable[[Any], Any] = lambda inputs: inputs,
        augment: Augment | None = None,
    ):
        self.size = min(batch_size, len(source))
        self.steps = len(source) // self.size
        self._source, self._transform, self._augment = source, transform, augment
        self._stored = jax.device_put((source.inputs, source.targets)) if isinstance(source, Split) else None

    def __call__(self, chosen: Any, key: jax.Array | None = None) -> Batch:
        """Makes what the model sees of what was chosen; runs inside the step."""
        if self._stored is not None:
            inputs, targets, indices, weights = chosen
            inputs, targets = inputs[indices], targets[indices]
        else:
            inputs, targets, weights = chosen
        if key is None or self._augment is None:
            return Batch(self._transform(inputs), targets, weights)
        return Batch(*self._augment(inputs, targets, key), weights)

    def epoch(self, seed: int, epoch: int, start: int = 0, pace: Pace | None = None) -> Iterator[Any]:
        """Yields what each execution is given, from step ``start`` on; the order is another one every epoch.

        The examples that do not fill a last batch sit out, other ones each time.

        Args:
            seed: of all orders.
            epoch: whose order.
            start: the first step.
            pace: says how many steps an execution takes, which then is given :class:`Several`; only of a
                :class:`flaxnets.data.Split`. One step each if not given.
        """
        order = self._order(seed, epoch)
        if pace is None:
            yield from self._chosen(order[start * self.size :], (seed, epoch))
            return
        assert self._stored is not None
        order, weights = order.reshape(self.steps, self.size), np.ones((pace.limit, self.size), np.float32)
        while start < self.steps:
            count = min(pace(start), self.steps - start)
            indices = np.zeros((pace.limit, self.size), np.int32)
            indices[:count] = order[start : start + count]
            yield Several(self._stored, (indices, weights), np.int32(count))
            start += count

    def _order(self, seed: int, epoch: int) -> np.ndarray:
        order = np.random.default_rng((seed, epoch)).permutation(len(self._source)).astype(np.int32)
        return order[: self.steps * self.size]

    def all(self) -> Iterator[Any]:
        """Yields all examples in their order; examples of no weight fill up the last batch."""
        yield from self._chosen(np.arange(len(self._source), dtype=np.int32), None)

    def example(self) -> Any:
        """Something of the shape and type of what each step is given."""
        return next(self._chosen(np.zeros(self.size, np.int32), None))

    def _chosen(self, order: np.ndarray, seed: tuple[int, ...] | None) -> Iterator[Any]:
        if self._stored is not None:
            for start in range(0, len(order), self.size):
                indices = order[start : start + self.size]
                yield *self._stored, jnp.asarray(_filled(indices, self.size)), _weights(len(indices), self.size)
            return
        assert not isinstance(self._source, Split)
        for inputs, targets in self._source.batches(order, self.size, seed=seed):
            weights = _weights(len(targets), self.size)
            yield _filled(inputs, self.size), _filled(targets, self.size), weights


def _filled(array: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])


def _weights(count: int, size: int) -> np.ndarray:
    return (np.arange(size) < count).astype(np.float32)
