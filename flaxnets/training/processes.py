"""Many processes, as of ``jax.distributed``: arrays that are sharded over processes, and common decisions."""

from collections import deque
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# The flag of this many executions before the last one is read, so that the device never waits for the host.
_LAG = 2


def place(tree: Any, shardings: Any) -> Any:
    """Place arrays that every process has whole; each device receives its shards only.

    Args:
        tree: Arrays with the same values in every process.
        shardings: Shardings in the structure of ``tree``.
    """
    return jax.tree.map(_place, tree, shardings)


def _place(array: Any, sharding: Any) -> jax.Array:
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding, may_alias=False)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_place(jax.random.key_data(array), sharding), impl=jax.random.key_impl(array))
    whole = np.asarray(array)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def to_host(array: jax.Array) -> np.ndarray:
    """Return a whole array on the host. All processes must call this for an array that is sharded over processes."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(array, tiled=True)


def to_device(array: jax.Array) -> jax.Array:
    """Return a whole array, or whole random keys, on the default device of this process; see :func:`to_host`."""
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(to_device(jax.random.key_data(array)), impl=jax.random.key_impl(array))
    return jnp.asarray(to_host(array))


def gather_texts(text: str) -> list[str]:
    """Return the texts of all processes by process index. All processes must call this, which is a barrier.

    >>> gather_texts("one process")
    ['one process']
    """
    from jax.experimental import multihost_utils

    data = np.frombuffer(text.encode(), np.uint8)
    sizes = np.ravel(multihost_utils.process_allgather(np.asarray([data.size], np.int32)))
    filled = np.zeros(max(int(sizes.max()), 1), np.uint8)
    filled[: data.size] = data
    rows = np.reshape(multihost_utils.process_allgather(filled), (len(sizes), filled.size))
    return [row[:size].tobytes().decode() for row, size in zip(rows, sizes.tolist(), strict=True)]


def first_process(decision: bool) -> bool:
    """Return the decision of process 0. All processes must call this.

    >>> first_process(True)
    True
    """
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.int32(decision)))


class StopFlags:
    """Tell all processes that one of them wants to stop, at the same step and without blocking.

    Args:
        mesh: The mesh of the run.

    >>> flags = StopFlags(jax.make_mesh((1,), ("data",), devices=jax.devices()[:1]))
    >>> [flags.exchange(step == 1) for step in range(5)]
    [False, False, False, True, False]
    """

    def __init__(self, mesh: Mesh):
        self._sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._sum = jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))
        self._pending: deque[jax.Array] = deque()

    def exchange(self, flag: bool) -> bool:
        """Send the flag of this process, and return whether an earlier flag of any process was set."""
        flags = jax.make_array_from_callback(
            (self._sharding.mesh.size,), self._sharding, lambda index: np.full(1, flag, np.int32)
        )
        self._pending.append(self._sum(flags))
        return len(self._pending) > _LAG and bool(np.asarray(self._pending.popleft()))
