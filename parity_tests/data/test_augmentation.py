"""Tests of augmentation against plain NumPy, and of the targets that it makes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxnets.data import Augmentation, Split, channel_statistics, fit_images
from flaxnets.nn import functional as F
from flaxnets.training import classification

N, CLASSES, SHAPE = 16, 5, (3, 9, 12)


def as_float(images):
    return images.astype(jnp.float32)


@pytest.fixture
def batch(rng) -> tuple[np.ndarray, np.ndarray]:
    return rng.integers(1, 256, (N, *SHAPE)).astype(np.uint8), rng.integers(0, CLASSES, N).astype(np.int32)


def run(augmentation, batch, seed=0, transform=as_float, **options):
    call = jax.jit(functools.partial(augmentation, transform=transform, num_classes=CLASSES, **options))
    inputs, targets = call(*batch, jax.random.key(seed))
    return np.asarray(inputs), np.asarray(targets)


def test_by_default_nothing_changes(batch):
    inputs, targets = run(Augmentation(), batch)
    np.testing.assert_array_equal(inputs, batch[0])
    np.testing.assert_array_equal(targets, batch[1])
    assert targets.dtype == np.int32


@pytest.mark.parametrize(("probability", "flipped"), [(1.0, N), (0.5, None), (0.0, 0)])
def test_a_flip_mirrors_left_and_right(probability, flipped, batch):
    inputs, _ = run(Augmentation(flip=probability), batch)
    mirrored = [(image == original[..., ::-1]).all() for image, original in zip(inputs, batch[0], strict=True)]
    kept = [(image == original).all() for image, original in zip(inputs, batch[0], strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert sum(mirrored) == flipped if flipped is not None else 0 < sum(mirrored) < N


def test_a_padded_crop_is_a_window_of_the_padded_image(batch):
    padding, (_, h, w) = 2, SHAPE
    padded = np.pad(batch[0], ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    found = []
    for seed in range(4):
        inputs, _ = run(Augmentation(crop_padding=padding), batch, seed)
        for image, wide in zip(inputs, padded, strict=True):
            offsets = [(i, j) for i in range(5) for j in range(5) if (image == wide[:, i : i + h, j : j + w]).all()]
            assert len(offsets) == 1
            found += offsets
    assert {i for i, _ in found} == {j for _, j in found} == set(range(5))


def test_a_resized_crop_is_a_part_of_at_least_that_area():
    """Check crops of an image with linear values: the crop stays linear, and its slopes tell the size of the crop."""
    h, w = 40, 50
    image = np.stack([np.broadcast_to(np.arange(w) * 5, (h, w)), np.broadcast_to(np.arange(h)[:, None] * 6, (h, w))])
    inputs, _ = run(Augmentation(crop_area=0.25), (np.repeat(image[None], N, 0).astype(np.uint8), np.zeros(N, int)))
    inner = inputs[:, :, 4:-4, 4:-4]
    columns = (inner[:, 0, :, -1] - inner[:, 0, :, 0]).mean(1) / (w - 9) / 5
    rows = (inner[:, 1, -1] - inner[:, 1, 0]).mean(1) / (h - 9) / 6
    areas = columns * rows
    assert areas.min() > 0.24
    assert areas.max() < 1.01
    assert areas.std() > 0.1
    straight = inner[:, 0, :1, :1] + columns[:, None, None] * 5 * np.arange(w - 8)
    np.testing.assert_allclose(inner[:, 0], np.broadcast_to(straight, inner[:, 0].shape), atol=1.3)
    assert np.ptp(inner[:, 0, 0, 0]) > 5  # the crops have different corners
    ratios = columns * w / (rows * h)
    whole = (columns > 0.99) | (rows > 0.99)  # cutting a side to the size of the image changes the aspect ratio
    assert ((ratios[~whole] > 0.74) & (ratios[~whole] < 1.35)).all()


@pytest.mark.parametrize(("probability", "erased"), [(1.0, N), (0.5, None)])
def test_what_is_erased_is_a_rectangle_of_zeros(probability, erased, batch):
    inputs, _ = run(Augmentation(erase=probability), batch)
    zero = inputs == 0
    assert (zero.all(1) == zero.any(1)).all()  # erased in all channels
    np.testing.assert_array_equal(np.where(zero, batch[0], inputs), batch[0])
    shares = []
    for mask in zero[:, 0]:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
            shares.append(mask.mean())
    assert len(shares) == erased if erased is not None else 0 < len(shares) < N
    assert 0 < min(shares) < max(shares) < 0.45


def test_mixed_images_and_targets_have_the_same_shares(batch):
    inputs, targets = run(Augmentation(mixup=0.8), batch)
    images, one_hot = batch[0].astype(float), np.eye(CLASSES)[batch[1]]
    (share,), *_ = np.linalg.lstsq((images - images[::-1]).reshape(-1, 1), (inputs - images[::-1]).ravel())
    assert 0 < share < 1
    np.testing.assert_allclose(inputs, share * images + (1 - share) * images[::-1], atol=1e-3)
    np.testing.assert_allclose(targets, share * one_hot + (1 - share) * one_hot[::-1], atol=1e-5)
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
    assert targets.dtype == np.float32


ALL = Augmentation(crop_area=0.5, crop_padding=2, flip=0.5, erase=0.5, mixup=1.0)


def test_the_key_alone_decides(batch):
    (inputs, targets), again, other = (run(ALL, batch, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(inputs, again[0])
    np.testing.assert_array_equal(targets, again[1])
    assert (inputs != other[0]).any()
    assert (targets != other[1]).any()


def test_files_that_were_cropped_and_flipped_are_not_again(batch):
    inputs, _ = run(Augmentation(crop_area=0.5, crop_padding=2, flip=1.0), batch, geometric=False)
    np.testing.assert_array_equal(inputs, batch[0])


def test_double_precision_draws_the_same(batch):
    single, targets = run(ALL, batch)
    with jax.enable_x64(True):
        inputs, same_targets = run(ALL, batch, transform=lambda images: images.astype(jnp.float64))
    assert (single.dtype, inputs.dtype, same_targets.dtype) == (np.float32, np.float64, np.float32)
    np.testing.assert_allclose(single, inputs, rtol=1e-5)
    np.testing.assert_array_equal(targets, same_targets)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_area": 0.0}, "crop_area must be above 0 and at most 1, got 0.0"),
        ({"crop_area": 1.5}, "crop_area must be above 0 and at most 1, got 1.5"),
        ({"crop_padding": -1}, "crop_padding must be 0 or more pixels, got -1"),
        ({"flip": 1.1}, "flip must be a probability, got 1.1"),
        ({"erase": -0.1}, "erase must be a probability, got -0.1"),
        ({"mixup": float("inf")}, "mixup must be 0 or more, got inf"),
        ({"mixup": float("nan")}, "mixup must be 0 or more, got nan"),
    ],
)
def test_what_is_no_augmentation_raises(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)


def test_vectors_have_no_rectangles(batch):
    with pytest.raises(ValueError, match=r"erase needs images \(n, c, h, w\), .* of shape \(16, 324\)"):
        run(Augmentation(erase=1.0), batch, transform=functools.partial(fit_images, input_shape=(324,)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_probabilities_are_targets_as_classes_are(smoothing, rng):
    logits, labels = rng.normal(size=(N, CLASSES)).astype(np.float32), rng.integers(0, CLASSES, N)
    weights, one_hot = rng.random(N).astype(np.float32), np.eye(CLASSES, dtype=np.float32)[labels]
    hard, soft = (
        classification(jnp.array(logits), jnp.array(targets), jnp.array(weights), label_smoothing=smoothing)
        for targets in (labels, one_hot)
    )
    assert hard.keys() == soft.keys()
    for name in hard:
        np.testing.assert_allclose(hard[name], soft[name], rtol=1e-6)
    mixed = 0.3 * one_hot + 0.7 * one_hot[::-1]
    sums = classification(jnp.array(logits), jnp.array(mixed), jnp.ones(N), label_smoothing=smoothing)
    expected = F.cross_entropy(jnp.array(logits), jnp.array(mixed), reduction="sum", label_smoothing=smoothing)
    np.testing.assert_allclose(sums["loss"], expected, rtol=1e-6)
    assert int(sums["correct"]) == (logits.argmax(1) == labels[::-1]).sum()


@pytest.mark.parametrize("input_shape", [(3, 9, 12), (1, 9, 12), (324,)])
def test_images_are_normalised_by_the_channels_that_are_stored(input_shape, batch):
    mean, std = channel_statistics(Split(*batch))
    x = np.asarray(fit_images(batch[0], input_shape, mean, std))
    expected = (batch[0] / 255 - np.reshape(mean, (1, 3, 1, 1))) / np.reshape(std, (1, 3, 1, 1))
    np.testing.assert_allclose(expected.mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(expected.std((0, 2, 3)), 1, rtol=1e-6)
    expected = expected.mean(1, keepdims=True) if input_shape[0] == 1 else expected
    np.testing.assert_allclose(x, expected.reshape(N, *input_shape), atol=1e-5)


def test_statistics_are_of_evenly_spaced_images():
    images = np.zeros((5000, 1, 1, 1), np.uint8)
    images[2500:] = 200
    mean, std = channel_statistics(Split(images, np.zeros(5000)))
    np.testing.assert_allclose((*mean, *std), (100 / 255, 100 / 255))
    assert channel_statistics(Split(images[:9], np.zeros(9))) == ((0.0,), (1 / 255,))


@pytest.mark.parametrize("name", ["mean", "std"])
def test_a_value_for_each_channel_is_needed(name, batch):
    with pytest.raises(ValueError, match=rf"images of 3 channels need a {name} of each, got \(0\.5,\)"):
        fit_images(batch[0], SHAPE, **{name: (0.5,)})
