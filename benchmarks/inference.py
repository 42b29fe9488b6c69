"""Times the forward pass in evaluation mode, one at a time, for batches of 1 and 64.

``python -m benchmarks.inference resnet18`` measures this network, ``all`` every one that trains, and without names
those that speed is judged by. Forms and files are those of ``benchmarks.training``.
"""

import json
from collections.abc import Sequence
from dataclasses import replace

from benchmarks import report, rounds
from benchmarks.sizes import JUDGED, SIZES, get_size
from benchmarks.training import multiply_adds
from benchmarks.worker import FORMS


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures what the command line says."""
    parser = rounds.parser("inference", __doc__, list(FORMS))
    parser.add_argument("networks", nargs="*", help="names, or all")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64])
    options = parser.parse_args(arguments)
    rounds.warn_if_busy()
    for name in list(SIZES) if options.networks == ["all"] else options.networks or JUDGED:
        for batch in options.batches:
            size, conditions = replace(get_size(name), batch=batch), rounds.conditions(options)
            print(f"{name}, {size.shown()}", flush=True)
            more = ("--mode", "inference", "--batch", str(batch))
            commands = {form: rounds.worker(form, name, options, *more) for form in options.forms}
            found = rounds.measure(commands, options.rounds, options.allocator)
            record = {"size": size.shown(), "batch": batch, "multiply_adds": multiply_adds(size), **found}
            rounds.save(options.out, "inference", f"{name} {batch}", {**record, "conditions": conditions})
            print(json.dumps(report.ratios(record)), flush=True)
            report.write(options.out)


if __name__ == "__main__":
    main()
