"""Time the steps of ``flaxnets.training.fit`` on a perceptron of one unit, and print one line of JSON."""

import argparse
import itertools
import json
import os
import time

from benchmarks.worker import limit_threads

STEPS = 200  # steps per timed sample


def seconds_a_step(samples: int) -> list[float]:
    """Return the mean seconds per step of each sample of :data:`STEPS` steps. The first epoch warms up."""
    import jax
    import numpy as np

    import flaxnets
    from flaxnets.data import Split
    from flaxnets.training import Batches, Callback, Engine, Loop, classification, fit, make_optimizer

    steps = STEPS * samples
    split = Split(np.zeros((steps, 1), np.float32), np.zeros(steps, np.int32))
    times: list[float] = []

    class Clock(Callback):
        def on_step(self, loop: Loop) -> None:
            if loop.epoch == 2 and loop.step % STEPS == 0:
                jax.block_until_ready(loop.metrics)
                times.append(time.perf_counter())

    model = flaxnets.create_model("mlp", num_inputs=1, num_hiddens=1)
    optimizer = make_optimizer("sgd", 0.01, 2 * steps)
    engine, test = Engine(model, optimizer, classification), Split(split.inputs[:1], split.targets[:1])
    fit(engine, Batches(split, 1), Batches(test), epochs=2, callbacks=[Clock()])
    return [(after - before) / STEPS for before, after in itertools.pairwise(times)]


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit_loop", description=__doc__)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    limit_threads(options.threads)
    print(json.dumps({"seconds": seconds_a_step(options.samples)}))


if __name__ == "__main__":
    main()
