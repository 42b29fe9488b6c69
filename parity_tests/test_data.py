"""Datasets and the way from stored images to a network's input."""

import jax
import numpy as np
import pytest

from flaxnets.data import fit_images, list_datasets, load


@pytest.mark.parametrize(
    ("name", "train", "test", "shape"), [("mnist", 4000, 1000, (1, 28, 28)), ("digits", 1437, 360, (1, 8, 8))]
)
def test_a_dataset_is_split_by_class_and_always_the_same_way(name, train, test, shape):
    data, again = load(name), load(name)
    assert data.train.inputs.shape == (train, *shape)
    assert data.test.inputs.shape == (test, *shape)
    assert data.num_classes == 10
    assert data.train.inputs.dtype == np.uint8
    assert 250 < data.train.inputs.max() <= 255
    for part, other in ((data.train, again.train), (data.test, again.test)):
        np.testing.assert_array_equal(part.inputs, other.inputs)
        share = np.bincount(part.targets) / len(part)
        np.testing.assert_allclose(share, np.bincount(data.train.targets) / train, atol=0.01)
    images = {image.tobytes() for image in data.test.inputs}
    assert not images & {image.tobytes() for image in data.train.inputs}


def test_an_unknown_dataset_raises():
    with pytest.raises(ValueError, match="unknown dataset 'minst'; known: digits, mnist"):
        load("minst")
    assert list_datasets() == ["digits", "mnist"]


@pytest.mark.parametrize(
    ("images", "shape"),
    [((2, 1, 28, 28), (1, 96, 96)), ((2, 3, 28, 28), (1, 28, 28)), ((2, 1, 8, 8), (3, 5, 5)), ((2, 1, 2, 3), (6,))],
)
def test_images_take_the_networks_shape_and_stay_between_0_and_1(images, shape, rng):
    pixels = rng.integers(0, 256, images).astype(np.uint8)
    x = jax.jit(fit_images, static_argnums=1)(pixels, shape)
    assert x.shape == (2, *shape)
    assert x.min() >= 0
    assert x.max() <= 1
    np.testing.assert_allclose(x.mean(), pixels.mean() / 255, atol=0.1)


def test_images_of_the_right_shape_are_only_scaled(rng):
    pixels = rng.integers(0, 256, (2, 1, 4, 4)).astype(np.uint8)
    np.testing.assert_allclose(fit_images(pixels, (1, 4, 4)), pixels / 255, rtol=1e-6)


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 5), ()])
def test_images_that_cannot_fit_raise(shape):
    with pytest.raises(ValueError, match=r"images of shape \(1, 4, 4\) cannot be made to fit"):
        fit_images(np.zeros((2, 1, 4, 4), np.uint8), shape)
