"""The batches of a run: examples of equal count, picked on the device or decoded on the host."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sized
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from flaxnets.data import Split
from flaxnets.training.sharding import Sharding
from flaxnets.training.train_state import Batch

Augment = Callable[[Any, Any, jax.Array], tuple[Any, Any]]

EVALUATION_BATCH = 250

# The largest number of steps of an execution. An execution shorter than this many seconds doubles its steps.
_SEVERAL, _SHORT = 32, 0.01


class Stream(Protocol):
    """Examples that the host computes on demand, such as :class:`flaxnets.data.ImageFiles`."""

    def __len__(self) -> int: ...

    def batches(self, order: np.ndarray, batch_size: int, *, seed: tuple[int, ...] | None) -> Iterator[tuple[Any, Any]]:
        """Yield inputs and targets of the examples in ``order``; without a seed, the examples for evaluation."""
        ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Selection:
    """Arrays from which a step computes its batch; see :class:`flaxnets.training.LazyBatch`.

    Attributes:
        arrays: The stored dataset with the indices and weights of the examples, or decoded examples with weights.
        function: Function of ``arrays`` and a key that returns the batch.
    """

    arrays: tuple[Any, ...]
    function: Callable[[tuple[Any, ...], jax.Array | None], Batch] = dataclasses.field(metadata={"static": True})

    def make(self, key: jax.Array | None) -> Batch:
        """Return the batch."""
        return self.function(self.arrays, key)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Several:
    """The batches of several steps, for one execution.

    Attributes:
        shared: Arrays for all steps.
        each: Arrays whose first axis is the axis of steps. A step uses ``shared`` and its index of ``each``.
        count: Number of steps to take, at most the length of that axis.
        function: Function of the arrays of a step and a key that returns its batch.
    """

    shared: tuple[Any, ...]
    each: tuple[Any, ...]
    count: Any
    function: Callable[[tuple[Any, ...], jax.Array | None], Batch] = dataclasses.field(metadata={"static": True})

    def __getitem__(self, index: Any) -> Selection:
        """Return the batch of one step."""
        return Selection((*self.shared, *jax.tree.map(lambda array: array[index], self.each)), self.function)


class Pace:
    """The number of steps of each execution.

    Args:
        steps: The number, or ``"auto"``: begin with one step, and double the number while an execution takes less
            than 10 milliseconds.
        every: Executions end at every multiple of this number of steps.
        agree: Function that returns the same decision in all processes, whose times differ.

    Raises:
        ValueError: For less than one step.

    >>> pace = Pace(8, every=12)
    >>> pace(0), pace(8), pace(12)
    (8, 4, 8)
    """

    def __init__(self, steps: int | Literal["auto"], every: int | None = None, agree: Callable[[bool], bool] = bool):
        if steps != "auto" and steps < 1:
            raise ValueError(f"steps_per_execution must be at least 1 or auto, got {steps}")
        self.limit = _SEVERAL if steps == "auto" else steps
        self._count, self._growing = (1, True) if steps == "auto" else (steps, False)
        self._every, self._agree = every, agree

    def __call__(self, step: int) -> int:
        """Return the number of steps of the execution that begins with this step."""
        return self._count if self._every is None else min(self._count, self._every - step % self._every)

    def update(self, started: float, metrics: Any) -> None:
        """Tune the number of steps to the time of the last execution.

        Blocks on the metrics only while the number is still being tuned.
        """
        if self._growing:
            jax.block_until_ready(metrics)
            is_short = time.perf_counter() - started < _SHORT
            self._growing = 2 * self._count <= self.limit and self._agree(is_short)
            self._count *= 2 if self._growing else 1


def clamp_batch_size(size: int, source: Sized) -> int:
    """Reduce the size of a batch to the number of examples.

    >>> clamp_batch_size(256, range(100))
    100
    """
    return min(size, len(source))


class Batches:
    """Batches of one size, for :func:`flaxnets.training.fit` and :class:`flaxnets.training.Engine`.

    The arrays of a :class:`flaxnets.data.Split` stay on the device, and the compiled step indexes them there. A
    :class:`Stream` computes its examples on the host.

    Args:
        source: The examples.
        batch_size: Number of examples of a batch; a larger number than ``len(source)`` is reduced to it.
        transform: Function from stored inputs to the model's inputs; runs inside the step.
        augment: Function from stored inputs, targets and a random key to the model's inputs and targets; runs inside
            the training step, and replaces ``transform`` there.
        sharding: Mesh that each batch is placed on; see :meth:`placed`.

    >>> from flaxnets.data import Split
    >>> batches = Batches(Split(np.zeros((10, 3)), np.arange(10)), 4)
    >>> batches.steps, [selection.make(None).weights.tolist() for selection in batches.all()][-1]
    (2, [1.0, 1.0, 0.0, 0.0])
    """

    def __init__(
        self,
        source: Split | Stream,
        batch_size: int = EVALUATION_BATCH,
        transform: Callable[[Any], Any] = lambda inputs: inputs,
        augment: Augment | None = None,
        sharding: Sharding | None = None,
    ):
        self.size = clamp_batch_size(batch_size, source)
        self.steps = len(source) // self.size
        self._source, self._transform, self._augment, self._sharding = source, transform, augment, sharding

    @functools.cached_property
    def _stored(self) -> tuple[Any, Any] | None:
        """The whole dataset on one device; None for a stream, and for a mesh, which receives one batch at a time."""
        if self._sharding is None and isinstance(self._source, Split):
            return jax.device_put((self._source.inputs, self._source.targets))
        return None

    def placed(self, sharding: Sharding | None, fill: bool = False) -> "Batches":
        """Return batches of the same examples that are placed on a mesh; without a mesh, these batches.

        Args:
            sharding: The mesh.
            fill: Whether batches grow to the next size that the mesh divides; only for evaluation, where examples of
                weight 0 fill up the last batch.

        Raises:
            ValueError: If the mesh does not divide the size of a batch.
        """
        if sharding is self._sharding:
            return self
        batches = Batches(self._source, self.size, self._transform, self._augment, sharding)
        if sharding is not None and fill:
            batches.size = -(-self.size // sharding.mesh.shape["data"]) * sharding.mesh.shape["data"]
        elif sharding is not None:
            sharding.check(self.size)
        return batches

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._source)

    @property
    def is_stored(self) -> bool:
        """Whether all examples are arrays in memory, so that one execution can take several steps."""
        return isinstance(self._source, Split)

    def epoch(self, seed: int, epoch: int, start: int = 0, pace: Pace | None = None) -> Iterator[Any]:
        """Yield the argument of each execution of an epoch, in an order that differs from epoch to epoch.

        Examples that do not fill the last batch are skipped; each epoch skips different examples.

        Args:
            seed: Seed of the orders of all epochs.
            epoch: Number of the epoch.
            start: First step.
            pace: Number of steps of each execution, which then receives a :class:`Several`; only for a
                :class:`flaxnets.data.Split`. Without a pace, each execution is one step.
        """
        order = self._order(seed, epoch)
        if pace is None:
            yield from self._selections(order[start * self.size :], (seed, epoch))
            return
        order, weights = order.reshape(self.steps, self.size), np.ones((pace.limit, self.size), np.float32)
        while start < self.steps:
            count = min(pace(start), self.steps - start)
            indices = np.zeros((pace.limit, self.size), np.int32)
            indices[:count] = order[start : start + count]
            if self._stored is not None:
                yield Several(self._stored, (indices, weights), np.int32(count), self._make)
            else:
                yield Several((), self._placed_steps(indices, weights), np.int32(count), self._make)
            start += count

    def all(self) -> Iterator[Selection]:
        """Yield all examples in order. Examples of weight 0 fill the last batch."""
        yield from self._selections(np.arange(len(self._source), dtype=np.int32), None)

    def example(self) -> Selection:
        """Return a selection with the shapes and dtypes of all others."""
        return next(self._selections(np.zeros(self.size, np.int32), None))

    def _make(self, arrays: tuple[Any, ...], key: jax.Array | None) -> Batch:
        if self._stored is not None:
            inputs, targets, indices, weights = arrays
            inputs, targets = inputs[indices], targets[indices]
        else:
            inputs, targets, weights = arrays
        if key is None or self._augment is None:
            return Batch(self._transform(inputs), targets, weights)
        return Batch(*self._augment(inputs, targets, key), weights)

    def _order(self, seed: int, epoch: int) -> np.ndarray:
        order = np.random.default_rng((seed, epoch)).permutation(len(self._source)).astype(np.int32)
        return order[: self.steps * self.size]

    def _selections(self, order: np.ndarray, seed: tuple[int, ...] | None) -> Iterator[Selection]:
        if self._stored is not None:
            for start in range(0, len(order), self.size):
                indices = order[start : start + self.size]
                chosen = jnp.asarray(_filled(indices, self.size)), _weights(len(indices), self.size)
                yield Selection((*self._stored, *chosen), self._make)
            return
        if self._sharding is not None:
            yield from self._placed_selections(order, seed)
            return
        assert not isinstance(self._source, Split)
        for inputs, targets in self._source.batches(order, self.size, seed=seed):
            weights = _weights(len(targets), self.size)
            yield Selection((_filled(inputs, self.size), _filled(targets, self.size), weights), self._make)

    def _placed_selections(self, order: np.ndarray, seed: tuple[int, ...] | None) -> Iterator[Selection]:
        """Yield batches on the mesh, to which each process contributes its own rows."""
        assert self._sharding is not None
        steps = -(-len(order) // self.size)
        rows = self._sharding.local_rows(self.size)
        local = _filled(order, steps * self.size).reshape(steps, self.size)[:, rows]
        weights = _weights(len(order), steps * self.size).reshape(steps, self.size)[:, rows]
        if isinstance(self._source, Split):
            examples = ((self._source.inputs[indices], self._source.targets[indices]) for indices in local)
        else:
            examples = self._source.batches(local.ravel(), local.shape[1], seed=seed)
        for (inputs, targets), weight in zip(examples, weights, strict=True):
            yield Selection(self._sharding.batch((inputs, targets, weight), self.size), self._make)

    def _placed_steps(self, indices: np.ndarray, weights: np.ndarray) -> tuple[Any, ...]:
        """Return the batches of several steps on the mesh."""
        assert self._sharding is not None
        assert isinstance(self._source, Split)
        rows = self._sharding.local_rows(self.size)
        local = indices[:, rows]
        arrays = self._source.inputs[local], self._source.targets[local], weights[:, rows]
        return self._sharding.batch(arrays, self.size, axis=1)


def _filled(array: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])


def _weights(count: int, size: int) -> np.ndarray:
    return (np.arange(size) < count).astype(np.float32)
