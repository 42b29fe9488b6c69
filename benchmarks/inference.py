"""Time the forward pass in evaluation mode, one call at a time, for batches of 1 and 64.

``python -m benchmarks.inference resnet18`` measures this network, ``all`` measures every trainable network, and without
names the main networks of ``benchmarks/sizes.py`` are measured. Variants and files are those of
``benchmarks.training``.
"""

import json
from collections.abc import Sequence
from dataclasses import replace

from benchmarks import report, rounds
from benchmarks.sizes import JUDGED, SIZES, get_size
from benchmarks.training import multiply_adds
from benchmarks.worker import FORMS


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of the command line."""
    parser = rounds.parser("inference", __doc__, list(FORMS))
    parser.add_argument("networks", nargs="*", help="names of networks, or all")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64])
    options = parser.parse_args(arguments)
    rounds.warn_if_busy()
    for name in list(SIZES) if options.networks == ["all"] else options.networks or JUDGED:
        for batch in options.batches:
            size, conditions = replace(get_size(name), batch=batch), rounds.conditions(options)
            print(f"{name}, {size.shown()}", flush=True)
            more = ("--mode", "inference", "--batch", str(batch))
            commands = {form: rounds.worker(form, name, options, *more) for form in options.forms}
            results = rounds.measure(commands, options.rounds, options.allocator)
            record = {"size": size.shown(), "batch": batch, "multiply_adds": multiply_adds(size), **results}
            rounds.save(options.out, "inference", f"{name} {batch}", {**record, "conditions": conditions})
            print(json.dumps(report.ratios(record)), flush=True)
            report.write(options.out)


if __name__ == "__main__":
    main()
