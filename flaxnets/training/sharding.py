"""The devices of a run: a mesh, and the rules that place states and batches on it."""

import dataclasses
import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ("data", "model")

# These backends call libraries for whole arrays on one device, and do not work on a mesh.
SINGLE_DEVICE_BACKENDS = ("onednn", "cudnn")

Statistics = Literal["global", "device"]


@dataclasses.dataclass(frozen=True)
class Rule:
    """How the arrays of parameters are sharded over the axis ``model``.

    Attributes:
        pattern: Shell pattern of parameter names, such as ``*.weight``.
        least: Arrays with fewer elements are replicated.
        axis: Array axis to shard; None for the longest axis that the mesh axis divides.

    >>> Rule("*", least=1024).axis is None
    True
    """

    pattern: str
    least: int = 0
    axis: int | None = None


# The first rule that matches a name decides. Small arrays, such as biases, cost more to gather than to store.
RULES: tuple[Rule, ...] = (Rule("*", least=2**12),)


def parse_mesh(text: str) -> dict[str, int]:
    """Return the sizes of the axes that a text names.

    Args:
        text: Such as ``data=4,model=2``.

    Raises:
        ValueError: For an unknown or repeated axis, or a size that is not a positive integer.

    >>> parse_mesh("data=4,model=2")
    {'data': 4, 'model': 2}
    """
    sizes: dict[str, int] = {}
    for part in text.split(","):
        name, _, size = part.partition("=")
        if name not in AXES or name in sizes or not size.isdecimal() or int(size) < 1:
            raise ValueError(
                f"mesh {text!r}: {part!r}. Expected sizes of the axes data and model. Fix: data=8 or data=4,model=2"
            )
        sizes[name] = int(size)
    return sizes


def make_mesh(sizes: Mapping[str, int] | str, devices: Sequence[Any] | None = None) -> Mesh:
    """Return a mesh with the axes ``data`` and ``model``.

    Args:
        sizes: Sizes of the axes, or a text as in :func:`parse_mesh`; an axis that is left out has size 1.
        devices: The devices; all devices by default.

    Raises:
        ValueError: If the sizes do not multiply to the number of devices.

    >>> dict(make_mesh({"data": 1}, jax.devices()[:1]).shape)
    {'data': 1, 'model': 1}
    """
    named = parse_mesh(sizes) if isinstance(sizes, str) else dict(sizes)
    shape = tuple(named.get(axis, 1) for axis in AXES)
    devices = jax.devices() if devices is None else list(devices)
    if math.prod(shape) != len(devices):
        words = ",".join(f"{axis}={size}" for axis, size in named.items())
        raise ValueError(
            f"mesh {words}: {math.prod(shape)} devices. Expected {len(devices)}, the number of devices here. "
            f"Fix: data={len(devices)}"
        )
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


class Sharding:
    """Place states and batches on a mesh.

    Parameters, their optimizer slots and their moving averages are sharded over ``model`` as the rules say. The first
    axis of a batch is sharded over all devices if their number divides the batch, and over ``data`` otherwise. All
    else is replicated. A step gathers each parameter where it is used, and reduces each gradient to the parameter's
    shards (FSDP).

    Args:
        mesh: A mesh of :func:`make_mesh`.
        rules: Rules for parameters; the first that matches a name decides, and a name without a rule is replicated.
        batch_statistics: Examples over which batch normalisation computes its statistics in training: ``"global"`` for
            the whole batch, as torch's ``SyncBatchNorm``; ``"device"`` for the examples of each device, as torch's
            ``DistributedDataParallel`` without it. Running statistics then follow the mean over the devices.

    Raises:
        ValueError: For a mesh with other axes, or other ``batch_statistics``.

    >>> Sharding(make_mesh({"data": 1}, jax.devices()[:1])).spec("fc.weight", (64, 128)) == PartitionSpec()
    True
    """

    def __init__(self, mesh: Mesh, rules: Sequence[Rule] = RULES, batch_statistics: Statistics = "global"):
        if mesh.axis_names != AXES:
            raise ValueError(
                f"a mesh with the axes {mesh.axis_names}. Expected {AXES}. Fix: make_mesh('data=4,model=2')"
            )
        if batch_statistics not in get_args(Statistics):
            raise ValueError(f"batch_statistics={batch_statistics!r}. Expected 'global' or 'device'")
        self.mesh, self.rules, self.batch_statistics = mesh, tuple(rules), batch_statistics
        self.replicated = NamedSharding(mesh, PartitionSpec())

    @property
    def has_many_processes(self) -> bool:
        """Whether the mesh has devices of other processes, so that every process must take the same steps."""
        return not self.replicated.is_fully_addressable

    def batch_axes(self, size: int) -> tuple[str, ...]:
        """Return the axes of the mesh that a batch of this size is sharded over."""
        return AXES if size % self.mesh.size == 0 else AXES[:1]

    def parts(self, size: int) -> int:
        """Return the number of parts of a batch that batch normalisation normalises each by its own statistics."""
        if self.batch_statistics == "global":
            return 1
        return math.prod(self.mesh.shape[axis] for axis in self.batch_axes(size))

    def gather(self, params: Any) -> Any:
        """Return parameters inside a compiled step that are whole on each device; each is gathered where it is used."""
        return jax.lax.with_sharding_constraint(params, self.replicated)

    def scatter(self, tree: Any) -> Any:
        """Return parameters or gradients inside a compiled step in the shards of the parameters."""

        def place(path: tuple[Any, ...], leaf: Any) -> jax.Array:
            sharding = NamedSharding(self.mesh, self.spec(_name(path), leaf.shape))
            return jax.lax.with_sharding_constraint(leaf, sharding)

        return jax.tree_util.tree_map_with_path(place, tree)

    def spec(self, name: str, shape: Sequence[int]) -> PartitionSpec:
        """Return how the parameter of this name and shape is sharded."""
        size = self.mesh.shape["model"]
        rule = next((rule for rule in self.rules if fnmatch.fnmatchcase(name, rule.pattern)), None)
        if rule is None or size == 1 or math.prod(shape) < rule.least:
            return PartitionSpec()
        axes = range(len(shape)) if rule.axis is None else [rule.axis]
        fitting = [axis for axis in axes if axis < len(shape) and shape[axis] % size == 0]
        if not fitting:
            return PartitionSpec()
        longest = max(fitting, key=lambda axis: shape[axis])
        return PartitionSpec(*[None] * longest, "model")

    def state(self, state: Any) -> Any:
        """Return the shardings of a :class:`flaxnets.training.TrainState`.

        Args:
            state: The state, or its shapes.
        """
        flat, _ = jax.tree_util.tree_flatten_with_path(state.params)
        parameters = {path: (leaf.shape, self.spec(_name(path), leaf.shape)) for path, leaf in flat}

        def sharding(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
            # The path of a slot or an average ends with the path of its parameter.
            for start in range(len(path)):
                shape, spec = parameters.get(path[start:], (None, None))
                if spec is not None and leaf.shape == shape:
                    return NamedSharding(self.mesh, spec)
            return self.replicated

        return jax.tree_util.tree_map_with_path(sharding, state)

    def local_rows(self, size: int) -> np.ndarray:
        """Return the indices of the rows of a batch that this process computes, in ascending order.

        Args:
            size: Number of examples of the whole batch.

        Raises:
            ValueError: If the axis ``data`` does not divide it.
        """
        self.check(size)
        sharding = NamedSharding(self.mesh, PartitionSpec(self.batch_axes(size)))
        is_local = np.zeros(size, bool)
        for index in sharding.addressable_devices_indices_map((size,)).values():
            is_local[index] = True
        return np.flatnonzero(is_local)

    def batch(self, arrays: Any, size: int, axis: int = 0) -> Any:
        """Place the arrays of a batch.

        Args:
            arrays: The rows of this process, as arrays on the host.
            size: Number of examples of the whole batch.
            axis: Position of the batch axis.
        """
        sharding = NamedSharding(self.mesh, PartitionSpec(*[None] * axis, self.batch_axes(size)))

        def place(array: Any) -> jax.Array:
            shape = (*array.shape[:axis], size, *array.shape[axis + 1 :])
            return jax.make_array_from_process_local_data(sharding, np.asarray(array), shape)

        return jax.tree.map(place, arrays)

    def check(self, size: int) -> None:
        """Check that a batch of this size can be sharded.

        Raises:
            ValueError: If the axis ``data`` does not divide it.
        """
        count = self.mesh.shape["data"]
        if size % count:
            raise ValueError(
                f"a batch of {size} examples on a mesh with data={count}. Expected a multiple of {count}. "
                f"Fix: a batch of {max(size // count, 1) * count}"
            )


def _name(path: tuple[Any, ...]) -> str:
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    return name.removesuffix(".value")


def as_sharding(mesh: Sharding | Mesh | Mapping[str, int] | str | None) -> Sharding | None:
    """Return the placement on a mesh, or on a mesh of these sizes.

    >>> as_sharding(None) is None
    True
    """
    if mesh is None or isinstance(mesh, Sharding):
        return mesh
    return Sharding(mesh if isinstance(mesh, Mesh) else make_mesh(mesh))
