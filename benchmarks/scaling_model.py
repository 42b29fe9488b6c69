"""Predict what a training step computes and communicates on many devices, and check the prediction.

``python -m benchmarks.scaling_model`` prints the bytes, operations and times of each network on 8, 64 and 1,024
devices. ``check`` compiles steps for 1, 2, 4 and 8 devices of this CPU, reads the collectives from the compiled
program, and compares their bytes with the prediction. ``--out docs`` writes both tables into ``docs/scaling.md``.
"""

import argparse
import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

import flaxnets
from flaxnets import nn, optim, summary
from flaxnets.data import Split
from flaxnets.registry import get_entry, list_models
from flaxnets.state import named_modules
from flaxnets.training import TASKS, Batches, Engine, Rule, Sharding, StepOptions, make_mesh

DEVICES = (8, 64, 1024)
# A training step computes the forward pass once and two products for each of its products in the backward pass.
PASSES = 3
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_TYPES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
_COLLECTIVE = re.compile(rf"= (\(.*?\)|\S+) ({'|'.join(_TYPES)})(?:-start)?\(")
_SHAPE = re.compile(r"([a-z]+\d*)\[([\d,]*)\]")
_BITS = {"pred": 8, "f8e4m3fn": 8}


@dataclasses.dataclass(frozen=True)
class Hardware:
    """The rates of a device and its network.

    Attributes:
        flops: Operations per second of bfloat16 products, as the vendor states.
        utilization: Fraction of ``flops`` that a convolutional network reaches.
        bandwidth: Bytes per second that a device sends within a group, in each direction.
        group: Number of devices in a group.
        outside: Bytes per second that a device sends to other groups.
        latency: Seconds of one hop of a small message.
    """

    flops: float
    utilization: float
    bandwidth: float
    group: int
    outside: float
    latency: float

    def all_reduce(self, size: float, devices: int) -> float:
        """Return the seconds of an all-reduce: rings for the bytes, a tree for the latency.

        Beyond a group, each device reduces its share of the bytes over the groups.
        """
        inside = min(devices, self.group)
        groups = devices / inside
        seconds = 2 * (inside - 1) / inside * size / self.bandwidth
        seconds += 2 * (groups - 1) / groups * size / inside / self.outside
        return seconds + 2 * math.ceil(math.log2(devices)) * self.latency


# H100 SXM: NVLink 450 GB/s in each direction among 8, one 400 Gbit/s card for each beyond. TPU v5p: one axis of its
# torus, two links of 90 GB/s.
HARDWARE = {
    "H100": Hardware(989e12, 0.4, 450e9, 8, 50e9, 5e-6),
    "TPU v5p": Hardware(459e12, 0.4, 180e9, 8960, 180e9, 1e-6),
}


@dataclasses.dataclass(frozen=True)
class Volume:
    """The bytes that a step communicates on each device.

    Attributes:
        gradients: Of the all-reduce of gradients.
        statistics: Of the all-reduces of batch normalisation.
        metrics: Of the all-reduce of the loss and the metrics.
        gathered: Of the all-gathers of parameters.
        normalizations: Number of layers of batch normalisation.
    """

    gradients: int
    statistics: int
    metrics: int
    gathered: int = 0
    normalizations: int = 0

    @property
    def reduced(self) -> int:
        """Bytes of all all-reduces."""
        return self.gradients + self.statistics + self.metrics


def predict_volume(model: nnx.Module, metrics: int, sharding: Sharding | None = None) -> Volume:
    """Predict the communication of a step with ``backend="plain"`` and ``nonfinite="ignore"``.

    Args:
        model: The network.
        metrics: Number of metrics, each of 4 bytes.
        sharding: The mesh; without one, a mesh without an axis ``model``.
    """
    layers = [layer for _, layer in named_modules(model) if isinstance(layer, NORMS)]
    # The mean and the variance. The two sums of the backward pass are the gradients of weight and bias. On CPUs, all
    # four sums over vectors have a second row.
    rows = [(6 if isinstance(layer, nn.BatchNorm1d) else 2) * 4 * layer.num_features for layer in layers]
    parameters = [(name, parameter.get_value()) for name, parameter in flaxnets.named_parameters(model)]
    sizes = {name: math.prod(array.shape) * array.dtype.itemsize for name, array in parameters}
    gathered = 0
    if sharding is not None:
        gathered = sum(sizes[name] for name, array in parameters if any(sharding.spec(name, array.shape)))
    return Volume(sum(sizes.values()), sum(rows), 4 * metrics, gathered, len(layers))


def collectives(text: str) -> dict[str, list[int]]:
    """Return the bytes of the results of each collective in a compiled program, by type.

    >>> collectives("%a = (f32[2,3]{1,0}, pred[]) all-reduce(%b, %c), channel_id=1")
    {'all-reduce': [24, 1]}
    """
    sizes_by_type: dict[str, list[int]] = {}
    for shapes, name in _COLLECTIVE.findall(text):
        for dtype, sizes in _SHAPE.findall(shapes):
            bits = _BITS.get(dtype) or int(re.sub(r"\D", "", dtype))
            elements = math.prod(int(size) for size in sizes.split(",")) if sizes else 1
            sizes_by_type.setdefault(name, []).append(elements * bits // 8)
    return sizes_by_type


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of a training step of a network.

    Attributes:
        batch: Examples per step on each device.
        flops: Floating-point operations of the step on each device.
        volume: Bytes that the step communicates.
        example: Bytes of one example, which the host sends to the device.
    """

    batch: int
    flops: float
    volume: Volume
    example: int

    def compute(self, hardware: Hardware) -> float:
        """Return the seconds of computation."""
        return self.flops / (hardware.flops * hardware.utilization)

    def communicate(self, hardware: Hardware, devices: int) -> float:
        """Return the seconds of communication, if no computation hides it."""
        volume = self.volume
        # The variance waits for the mean, and both sums of the backward pass are one message.
        messages = 3 * volume.normalizations
        statistics = messages * hardware.all_reduce(volume.statistics / max(messages, 1), devices)
        return hardware.all_reduce(volume.gradients + volume.metrics, devices) + statistics

    def efficiency(self, hardware: Hardware, devices: int) -> float:
        """Return the speed of each device relative to a single device without communication."""
        compute = self.compute(hardware)
        return compute / (compute + self.communicate(hardware, devices))

    def batch_for(self, hardware: Hardware, devices: int, efficiency: float = 0.9) -> int:
        """Return the batch per device with which a step reaches this efficiency."""
        return math.ceil(
            efficiency / (1 - efficiency) * self.communicate(hardware, devices) * self.batch / self.compute(hardware)
        )


def predict_cost(name: str, batch: int | None = None) -> Cost:
    """Predict the cost of a training step of a registered network.

    Args:
        name: The network.
        batch: Examples per device. Default: the batch of the network's recipe.
    """
    entry = get_entry(name)
    batch = batch or entry.recipe.batch_size or 128
    model = nnx.eval_shape(lambda: flaxnets.create_model(name))
    table = summary(model, TASKS[entry.task].example_inputs(entry.input_shape, batch))
    volume = predict_volume(model, 4 if entry.task == "language" else 3)
    return Cost(batch, PASSES * 2 * table.multiply_adds, volume, 4 * math.prod(entry.input_shape))


# For each network: options that make it small enough to compile in seconds, and the shape of an example.
CHECKED: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "mlp": ({}, (1, 28, 28)),
    "lenet": ({}, (1, 28, 28)),
    "lenet_batchnorm": ({}, (1, 28, 28)),
    "resnet18": ({"num_channels": (8, 8, 16, 16), "num_classes": 10}, (1, 64, 64)),
    "densenet": (
        {"num_channels": 8, "growth_rate": 4, "num_convs_in_dense_blocks": (2, 2), "num_classes": 10}, (1, 32, 32),
    ),
}  # fmt: skip
MESHES = ("data=1", "data=2", "data=4", "data=8", "data=1,model=2", "data=2,model=4")


def check(name: str, mesh: str, batch: int = 16) -> tuple[Volume, dict[str, int]]:
    """Return the predicted volume of a small network, and the bytes by collective in the compiled step."""
    options, shape = CHECKED[name]
    sizes = [int(size) for size in re.findall(r"\d+", mesh)]
    sharding = Sharding(make_mesh(mesh, jax.devices()[: math.prod(sizes)]), (Rule("*", least=64),))
    model = flaxnets.create_model(name, **options, rngs=nnx.Rngs(0))
    engine = Engine(
        model, optim.SGD(0.1, momentum=0.9), TASKS["classification"].objective,
        StepOptions(backend="plain", nonfinite="ignore"), sharding,
    )  # fmt: skip
    data = Split(np.zeros((batch, *shape), np.float32), np.zeros(batch, np.int32))
    compiled = engine.compile(engine.init(), Batches(data, batch, sharding=sharding).example())
    bytes_by_type = collectives(compiled.step.as_text())
    return predict_volume(model, 3, sharding), {name: sum(sizes) for name, sizes in bytes_by_type.items()}


def check_rows(names: Sequence[str]) -> list[str]:
    """Return the lines of a table of predicted and compiled bytes of small networks.

    Raises:
        AssertionError: If a prediction is not exact.
    """
    columns = ["network, mesh", "gradients", "statistics", "metrics", "all-reduce, compiled"]
    columns += ["sharded parameters", "all-gather, compiled"]
    rows = []
    for name in names:
        for mesh in MESHES:
            volume, compiled = check(name, mesh)
            if mesh == "data=1":
                assert not compiled, (name, compiled)
                continue
            reduced, gathered = compiled.pop("all-reduce"), compiled.pop("all-gather", 0)
            cells = volume.gradients, volume.statistics, volume.metrics, reduced, volume.gathered, gathered
            rows.append([f"`{name}`, `{mesh}`", *(f"{cell:,}" for cell in cells)])
            assert (reduced, gathered, compiled) == (volume.reduced, volume.gathered, {}), (name, mesh)
    return table(columns, rows)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table whose first column is text and whose others are numbers."""
    lines = [f"| {' | '.join(columns)} |", f"|---{'|---:' * (len(columns) - 1)}|"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def number(value: float) -> str:
    """Return a number with three digits.

    >>> number(1234.5), number(0.012345)
    ('1,234', '0.0123')
    """
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def cost_rows(names: Sequence[str]) -> list[str]:
    """Return the lines of tables of predicted costs: of networks, and of their times on each hardware."""
    costs: dict[Cost, str] = {}
    for name in names:
        costs.setdefault(predict_cost(name), name)  # some networks differ only in the names of their layers
    columns = ["network", "batch", "GFLOP", "gradients, MB", "statistics, KB", "messages of statistics", "input, MB"]
    rows = []
    for cost, name in costs.items():
        volume, sizes = cost.volume, (cost.flops / 1e9, cost.volume.gradients / 1e6, cost.volume.statistics / 1e3)
        cells = [*(number(size) for size in sizes), f"{3 * volume.normalizations}"]
        rows.append([f"`{name}`", f"{cost.batch}", *cells, number(cost.batch * cost.example / 1e6)])
    lines = ["A step on each device:", "", *table(columns, rows)]
    for words, hardware in HARDWARE.items():
        columns = ["network", "computation", *(f"communication on {devices:,}" for devices in DEVICES)]
        columns += [*(f"efficiency on {devices:,}" for devices in DEVICES), "batch for 90 %", "input, GB/s"]
        rows = [[f"`{name}`", *_times(cost, hardware)] for cost, name in costs.items()]
        lines += ["", f"{words}, times in ms:", "", *table(columns, rows)]
    return lines


def _times(cost: Cost, hardware: Hardware) -> list[str]:
    most = DEVICES[-1]
    seconds = cost.compute(hardware) + cost.communicate(hardware, most)
    return [
        number(1e3 * cost.compute(hardware)),
        *(number(1e3 * cost.communicate(hardware, devices)) for devices in DEVICES),
        *(f"{cost.efficiency(hardware, devices):.0%}" for devices in DEVICES),
        f"{cost.batch_for(hardware, most):,}",
        number(most * cost.batch * cost.example / seconds / 1e9),
    ]


def write(page: Path, section: str, lines: Sequence[str]) -> None:
    """Replace the table between the comments ``<!-- section -->`` and ``<!-- end of section -->`` of a page."""
    before, start, rest = page.read_text().partition(f"<!-- {section} -->\n")
    _, end, after = rest.partition(f"<!-- end of {section} -->")
    if not end:
        raise ValueError(f"{page}: no comments around the section {section!r}")
    page.write_text(before + start + "\n".join(lines) + "\n" + end + after)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling_model", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("costs", "check"), help="the tables (default: both)")
    parser.add_argument("networks", nargs="*", help="names of networks (default: all)")
    parser.add_argument("--out", type=Path, help="folder of scaling.md (default: only print the tables)")
    options = parser.parse_args(arguments)
    jax.config.update("jax_num_cpu_devices", 8)
    trained = [name for name in list_models() if get_entry(name).task in TASKS]
    for section, rows, known in (("costs", cost_rows, trained), ("check", check_rows, list(CHECKED))):
        if options.what in (None, section):
            lines = rows(options.networks or known)
            print(*lines, sep="\n", flush=True)
            if options.out:
                write(options.out / "scaling.md", section, lines)


if __name__ == "__main__":
    main()
