"""Time training steps for different batch sizes, depths and sequence lengths.

``python -m benchmarks.scaling batch lenet`` measures one sweep. Without names, all sweeps of :data:`SWEEPS` are
measured. Variants and files are those of ``benchmarks.training``.
"""

import json
from collections.abc import Sequence

from benchmarks import report, rounds
from benchmarks.worker import FORMS

# For each varied quantity: the networks, and the values of the quantity.
SWEEPS: dict[str, dict[str, tuple[int, ...]]] = {
    "batch": {
        "mlp": (64, 128, 256, 512, 1024),
        "lenet": (32, 64, 128, 256, 512),
        "resnet18": (4, 8, 16, 32, 64),
        "lstm_lm": (8, 16, 32, 64, 128),
    },
    "depth": {"resnet18": (1, 2, 3, 4)},  # residual units per stage, with a batch of 8
    "length": {name: (16, 32, 64, 128, 256) for name in ("rnn_lm", "gru_lm", "lstm_lm")},
}
# torch.compile would compile for minutes at each value.
DEFAULT_FORMS = [form for form in FORMS if form != "torch_compile"]


def varied(what: str, value: int) -> list[str]:
    """Return the options of the worker for one value."""
    if what == "depth":
        return ["--batch", "8", "--options", json.dumps({"num_residuals": value})]
    return ["--batch" if what == "batch" else "--shape", str(value)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of the command line."""
    parser = rounds.parser("scaling", __doc__, list(FORMS))
    parser.set_defaults(forms=DEFAULT_FORMS)
    parser.add_argument("what", nargs="?", choices=SWEEPS, help="the varied quantity (default: all)")
    parser.add_argument("networks", nargs="*")
    options = parser.parse_args(arguments)
    rounds.warn_if_busy()
    for what in [options.what] if options.what else SWEEPS:
        for name in options.networks or SWEEPS[what]:
            if name not in SWEEPS[what]:
                parser.error(f"no sweep over the {what} of {name!r}. Expected one of: {', '.join(SWEEPS[what])}")
            values, conditions = SWEEPS[what][name], rounds.conditions(options)
            print(f"{name}, {what} {values}", flush=True)
            commands = {
                f"{form} {value}": rounds.worker(form, name, options, *varied(what, value))
                for value in values
                for form in options.forms
            }
            results = rounds.measure(commands, options.rounds, options.allocator)["forms"]
            forms = {form: {str(value): results[f"{form} {value}"] for value in values} for form in options.forms}
            record = {"forms": forms, "values": values, "conditions": conditions}
            rounds.save(options.out, "scaling", f"{name} {what}", record)
            report.write(options.out)


if __name__ == "__main__":
    main()
