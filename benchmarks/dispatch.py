"""Measure the overhead of a training step in microseconds, on networks with almost no arithmetic.

``python -m benchmarks.dispatch`` times two networks. For a perceptron of one unit the whole step is overhead; it is
also timed in ``fit``, the loop around the step. A ResNet-18 with one channel has many arrays and operations. The
results are written to the files of ``benchmarks.training``.
"""

import json
from collections.abc import Sequence

from benchmarks import report, rounds
from benchmarks.worker import FORMS

NETWORKS = {
    "mlp": ("--batch", "1", "--shape", "1", "1", "1", "--options", '{"num_inputs": 1, "num_hiddens": 1}'),
    "resnet18": ("--batch", "1", "--shape", "1", "64", "64", "--options", '{"num_channels": [1, 1, 1, 1]}'),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of the command line."""
    parser = rounds.parser("dispatch", __doc__, list(FORMS))
    parser.add_argument("networks", nargs="*", choices=[[], *NETWORKS])
    options = parser.parse_args(arguments)
    rounds.warn_if_busy()
    for name in options.networks or NETWORKS:
        conditions = rounds.conditions(options)
        print(name, flush=True)
        commands = {form: rounds.worker(form, name, options, *NETWORKS[name]) for form in options.forms}
        if name == "mlp":
            commands["fit"] = ["-m", "benchmarks.fit_loop", "--threads", str(options.threads)]
        results = rounds.measure(commands, options.rounds, options.allocator)
        rounds.save(options.out, "dispatch", name, {**results, "conditions": conditions})
        print(json.dumps({form: report.microseconds(row) for form, row in results["forms"].items()}), flush=True)
        report.write(options.out)


if __name__ == "__main__":
    main()
