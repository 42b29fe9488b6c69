"""Fine-tune a network from a PyTorch checkpoint that was trained for other classes.

    python examples/fine_tune.py checkpoint.pt --arch lenet_batchnorm --dataset mnist

The file may be a state dict, or a checkpoint that contains one. First only the new layers are trained, then all layers
with a lower learning rate.
"""

import argparse
import functools

import flaxnets
from flaxnets import nn, optim
from flaxnets.data import fit_images, load
from flaxnets.registry import get_entry
from flaxnets.training import Batches, EarlyStopping, Engine, fit
from flaxnets.weights import load_fitting_weights, save_weights


def main(checkpoint: str, arch: str, dataset: str, epochs: int) -> tuple[dict, dict]:
    data = load(dataset)
    transform = functools.partial(fit_images, input_shape=get_entry(arch).input_shape)
    train, test = Batches(data.train, 64, transform), Batches(data.test, transform=transform)
    model = flaxnets.create_model(arch, **data.model_options)

    # The names are PyTorch's. Arrays of other shapes, such as those of the last layer, keep their initial values.
    fitted = load_fitting_weights(model, checkpoint)
    print(*fitted.lines(), sep="\n")

    for name, parameter in model.named_parameters():
        parameter.requires_grad = name not in fitted.loaded
    engine = Engine(model, optim.Adam(1e-3), nn.CrossEntropyLoss())
    head = fit(engine, train, test, epochs=1)[-1]
    print(f"new layers trained: accuracy {head['test_accuracy']:.1%}")

    model.requires_grad_(True)
    engine = Engine(model, optim.AdamW(1e-4), nn.CrossEntropyLoss())
    whole = fit(engine, train, test, epochs=epochs, callbacks=[EarlyStopping(patience=3)])[-1]
    print(f"all layers trained: accuracy {whole['test_accuracy']:.1%}")

    save_weights(model, "fine_tuned.safetensors")
    return head, whole


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--arch", default="lenet_batchnorm")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--epochs", type=int, default=5)
    main(**vars(parser.parse_args()))
