"""Train a classifier on a folder of images, with one folder for each class inside it.

    python examples/train_on_folder.py photos --epochs 20

Writes ``classifier.safetensors``, which PyTorch can load, too.
"""

import argparse
import functools

import flaxnets
from flaxnets import nn, optim
from flaxnets.data import Augmentation, fit_images, load
from flaxnets.training import Batches, Engine, ProgressBar, StepOptions, fit, predict
from flaxnets.weights import save_weights


def main(folder: str, arch: str, size: int, epochs: int, batch_size: int = 32) -> list[dict]:
    data = load(f"folder:{folder}")
    assert data.classes is not None
    print(f"{len(data.train)} images of {', '.join(data.classes)} for training, {len(data.test)} for evaluation")

    # Images are decoded in threads while the device works. Only training images are augmented.
    shape = (3, size, size)
    augmentation = Augmentation(crop_area=0.5, flip=0.5)
    transform = functools.partial(fit_images, input_shape=shape)
    train = Batches(data.train.decoded(shape, augmentation), batch_size, transform)
    test = Batches(data.test.decoded(shape), batch_size, transform)

    model = flaxnets.create_model(arch, in_channels=3, num_classes=len(data.classes))
    schedule = optim.lr_scheduler.OneCycleLR(1e-3, total_steps=epochs * train.steps)
    optimizer = optim.AdamW(schedule, weight_decay=0.05)
    engine = Engine(model, optimizer, nn.CrossEntropyLoss(), StepOptions(ema_decay=0.99))

    records = fit(engine, train, test, epochs=epochs, callbacks=[ProgressBar()])
    save_weights(model, "classifier.safetensors")

    logits = predict(model, data.test.decoded(shape), transform=transform)
    for path, index in zip(data.test.paths[:5], logits.argmax(axis=1), strict=False):
        print(f"{path}: {data.classes[index]}")
    return records


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=10)
    main(**vars(parser.parse_args()))
