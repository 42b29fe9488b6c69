"""Time training steps: torch eager in both memory formats, torch.compile, plain NNX and flaxnets, interleaved.

``python -m benchmarks.training resnet18 lenet`` measures these two networks, ``all`` every trainable network, and
``small`` the six networks of ``small_flaxnets.py``. Without names, the main networks of ``benchmarks/sizes.py`` are
measured. ``--compute-dtype bfloat16`` computes in bfloat16, in PyTorch with autocast. The results are written to
``docs/speed.json`` after each network, and ``docs/speed.md`` and ``docs/speed.png`` are generated from this file.
"""

import json
import os
from collections.abc import Sequence

from benchmarks import report, rounds
from benchmarks.sizes import JUDGED, SIZES, SMALL, Size, get_size
from benchmarks.worker import FORMS


def multiply_adds(size: Size) -> int:
    """Return the multiply-adds of one forward pass of a batch, counted from shapes by ``flaxnets.summary``."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    from flax import nnx

    import flaxnets
    from benchmarks.jax_forms import create

    inputs = jax.eval_shape(lambda: size.data()[0])
    model = nnx.eval_shape(lambda: create(size))
    return flaxnets.summary(model, inputs).multiply_adds


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of the command line."""
    parser = rounds.parser("training", __doc__, list(FORMS))
    parser.add_argument("networks", nargs="*", help="names of networks, all, or small")
    parser.add_argument("--compute-dtype", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args(arguments)
    rounds.warn_if_busy()
    groups = {(): JUDGED, ("all",): list(SIZES), ("small",): SMALL}
    dtype = options.compute_dtype
    for name in groups.get(tuple(options.networks), options.networks):
        size, conditions = get_size(name), rounds.conditions(options)
        print(f"{name}, {size.shown()}, {dtype}", flush=True)
        commands = {form: rounds.worker(form, name, options, "--compute-dtype", dtype) for form in options.forms}
        results = rounds.measure(commands, options.rounds, options.allocator, options.threads)
        record = {"size": size.shown(), "batch": size.batch, "multiply_adds": multiply_adds(size), **results}
        key = name if dtype == "float32" else f"{name} {dtype}"
        rounds.save(options.out, "training", key, {**record, "conditions": conditions})
        print(json.dumps(report.ratios(record)), flush=True)
        report.write(options.out)


if __name__ == "__main__":
    main()
