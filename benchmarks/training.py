"""Times training steps: torch eager in both memory formats, torch.compile, plain NNX and flaxnets, interleaved.

``python -m benchmarks.training resnet18 lenet`` measures these two, ``all`` every network that trains, and without
names those that speed is judged by. What was found goes into ``docs/speed.json`` network by network, and
``docs/speed.md`` and ``docs/speed.png`` are made of it.
"""

import json
import os
from collections.abc import Sequence

from benchmarks import report, rounds
from benchmarks.sizes import JUDGED, SIZES, Size, get_size
from benchmarks.worker import FORMS


def multiply_adds(size: Size) -> int:
    """Multiply-adds of one forward pass of a batch, counted from shapes by ``flaxnets.summary``."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    from flax import nnx

    import flaxnets

    inputs = jax.eval_shape(lambda: size.data()[0])
    model = nnx.eval_shape(lambda: flaxnets.create_model(size.network, rngs=nnx.Rngs(0), **size.options))
    return flaxnets.summary(model, inputs).multiply_adds


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures what the command line says."""
    parser = rounds.parser("training", __doc__, list(FORMS))
    parser.add_argument("networks", nargs="*", help="names, or all")
    options = parser.parse_args(arguments)
    rounds.warn_if_busy()
    for name in list(SIZES) if options.networks == ["all"] else options.networks or JUDGED:
        size, conditions = get_size(name), rounds.conditions(options)
        print(f"{name}, {size.shown()}", flush=True)
        commands = {form: rounds.worker(form, name, options) for form in options.forms}
        found = rounds.measure(commands, options.rounds, options.allocator, options.threads)
        record = {"size": size.shown(), "batch": size.batch, "multiply_adds": multiply_adds(size), **found}
        rounds.save(options.out, "training", name, {**record, "conditions": conditions})
        print(json.dumps(report.ratios(record)), flush=True)
        report.write(options.out)


if __name__ == "__main__":
    main()
