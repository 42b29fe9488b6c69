"""Times training steps: torch eager in both memory formats, torch.compile, plain NNX and flaxnets, interleaved.

``python -m benchmarks.training resnet18 lenet`` measures these two, ``all`` every network that trains, ``small`` six
small ones of other kinds of convolutions, and without names those that speed is judged by. ``--compute-dtype bfloat16``
computes in bfloat16, PyTorch by autocast. What was found goes into ``docs/speed.json`` network by network, and
``docs/speed.md`` and ``docs/speed.png`` are made of it.
"""

import json
import os
from collections.abc import Sequence

from benchmarks import report, rounds
from benchmarks.sizes import JUDGED, SIZES, SMALL, Size, get_size
from benchmarks.worker import FORMS


def multiply_adds(size: Size) -> int:
    """Multiply-adds of one forward pass of a batch, counted from shapes by ``flaxnets.summary``."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    from flax import nnx

    import flaxnets
    from benchmarks.jax_forms import create

    inputs = jax.eval_shape(lambda: size.data()[0])
    model = nnx.eval_shape(lambda: create(size))
    return flaxnets.summary(model, inputs).multiply_adds


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures what the command line says."""
    parser = rounds.parser("training", __doc__, list(FORMS))
    parser.add_argument("networks", nargs="*", help="names, all, or small")
    parser.add_argument("--compute-dtype", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args(arguments)
    rounds.warn_if_busy()
    groups = {(): JUDGED, ("all",): list(SIZES), ("small",): SMALL}
    dtype = options.compute_dtype
    for name in groups.get(tuple(options.networks), options.networks):
        size, conditions = get_size(name), rounds.conditions(options)
        print(f"{name}, {size.shown()}, {dtype}", flush=True)
        commands = {form: rounds.worker(form, name, options, "--compute-dtype", dtype) for form in options.forms}
        found = rounds.measure(commands, options.rounds, options.allocator, options.threads)
        record = {"size": size.shown(), "batch": size.batch, "multiply_adds": multiply_adds(size), **found}
        key = name if dtype == "float32" else f"{name} {dtype}"
        rounds.save(options.out, "training", key, {**record, "conditions": conditions})
        print(json.dumps(report.ratios(record)), flush=True)
        report.write(options.out)


if __name__ == "__main__":
    main()
