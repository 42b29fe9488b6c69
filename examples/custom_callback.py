"""Write your own callbacks for flaxnets.training.fit.

    python examples/custom_callback.py

One callback writes the loss to a CSV file every few steps. The other one saves the best weights, and ends the run when
the accuracy reaches a target.
"""

import functools
from pathlib import Path

import flaxnets
from flaxnets import nn, optim
from flaxnets.data import fit_images, load
from flaxnets.training import Batches, Callback, Engine, Loop, fit
from flaxnets.weights import save_weights


class CsvLog(Callback):
    """Write the loss of a batch every few steps."""

    def __init__(self, path: str | Path, every: int = 10):
        self.path = Path(path)
        self.every = every  # fit calls on_step after these steps, even if one execution takes several steps

    def on_start(self, loop: Loop) -> None:
        self.path.write_text("step,loss\n")

    def on_step(self, loop: Loop) -> None:
        if loop.step % self.every == 0:
            # Reading a metric waits for the device, so read metrics rarely.
            loss = loop.metrics["loss"].sum() / loop.metrics["count"].sum()
            with self.path.open("a") as file:
                file.write(f"{loop.updates},{loss:.4f}\n")


class StopAtAccuracy(Callback):
    """Save the weights of the best epoch, and end the run at a target."""

    def __init__(self, target: float, path: str | Path):
        self.target, self.path, self.best = target, path, 0.0

    def on_epoch(self, loop: Loop, record: dict) -> None:
        print(f"epoch {record['epoch']}: accuracy {record['test_accuracy']:.1%}")
        if record["test_accuracy"] > self.best:
            self.best = record["test_accuracy"]
            save_weights(loop.engine.model, self.path)
        if self.best >= self.target:
            loop.stop(f"accuracy {self.best:.1%} reached")

    def on_end(self, loop: Loop) -> None:
        print(loop.stop_reason or f"{loop.epochs} epochs are over")


def main(target: float = 0.95, epochs: int = 10) -> list[dict]:
    data = load("digits")
    transform = functools.partial(fit_images, input_shape=(1, 28, 28))
    engine = Engine(flaxnets.create_model("mlp"), optim.SGD(0.1, momentum=0.9), nn.CrossEntropyLoss())
    train, test = Batches(data.train, 32, transform), Batches(data.test, transform=transform)
    callbacks = [CsvLog("loss.csv"), StopAtAccuracy(target, "best.safetensors")]
    return fit(engine, train, test, epochs=epochs, callbacks=callbacks)


if __name__ == "__main__":
    main()
