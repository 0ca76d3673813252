"""Windows are drawn as the papers say, each from its seed alone."""

import keras
import numpy as np
import pytest

from keras_cnn_classics.data.augmentation import (
    PadAndCrop,
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    ScaleJitter,
    named,
)
from keras_cnn_classics.data.augmentation.crops import resized

tf = pytest.importorskip("tensorflow")


def windows(op, height, width, count=400):
    """The windows of many seeds, as columns: top, left, height, width."""
    draw = tf.function(lambda seed: op.window(height, width, seed))
    return np.array([draw(tf.constant([5, i])) for i in range(count)]).T


def ramp(height, width):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, 0 * rows], -1).astype(np.uint8)


def test_random_resized_crop_reaches_its_ranges_and_stays_inside():
    op = RandomResizedCrop(64, area=(0.2, 0.6), aspect=(0.5, 3.0))
    top, left, height, width = windows(op, 300, 400)
    assert min(top.min(), left.min()) >= 0
    assert (top + height).max() <= 300
    assert (left + width).max() <= 400
    area, aspect = height * width / 120_000, width / height
    assert 0.19 < area.min() < 0.22
    assert 0.55 < area.max() < 0.61
    assert 0.49 < aspect.min() < 0.55
    assert 2.6 < aspect.max() < 3.05
    # Anywhere: the share of the free space that lies above is even from 0 to 1.
    above = top[height < 200] / (300 - height[height < 200])
    np.testing.assert_allclose(np.quantile(above, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.1)


def test_the_aspect_is_even_on_a_logarithmic_scale():
    _, _, height, width = windows(RandomResizedCrop(8, area=(0.1, 0.1)), 1000, 1000)
    logs = np.log(width / height) / np.log(4 / 3)
    np.testing.assert_allclose(np.quantile(logs, [0.25, 0.5, 0.75]), [-0.5, 0, 0.5], atol=0.12)


def test_the_largest_allowed_window_of_an_image_too_long():
    for shape, expected in (((10, 900), (10, 20)), ((900, 10), (13, 10))):
        _, _, height, width = windows(RandomResizedCrop(8, (1, 1), (3 / 4, 2)), *shape, 20)
        assert {*zip(height, width, strict=True)} == {expected}


def test_scale_jitter_scales_the_shorter_side():
    _, left, height, width = windows(ScaleJitter((100, 200), (200, 400)), 300, 600)
    # At S = 200 the window is 150 of the 300 rows, at 400 it is 75, to a pixel.
    assert {*height} >= {75, 150}
    assert (height.min(), height.max()) == (75, 150)
    np.testing.assert_allclose(width, 2 * height, atol=1)
    assert (left + width).max() <= 600
    scales = 300 * 100 / height
    np.testing.assert_allclose(np.mean(scales), 300, atol=12)
    small = windows(ScaleJitter(64, (64, 64)), 32, 50, 30)
    assert {*small[2], *small[3]} == {32}


def test_random_crop_reaches_every_place_and_enlarges_what_is_small():
    top, left, height, width = windows(RandomCrop((6, 4)), 8, 5)
    assert {*top} == {0, 1, 2}
    assert {*left} == {0, 1}
    assert {*height, *width} == {6, 4}
    image = tf.constant(ramp(5, 9))
    result = RandomCrop(8)(image, tf.constant([1, 2])).numpy()
    assert result.shape == (8, 8, 3)
    assert result[..., 0].max() == 4


def test_a_crop_is_the_window_of_the_image():
    image = ramp(60, 80)
    op, seed = RandomCrop((20, 30)), tf.constant([3, 4])
    top, left, height, width = op.window(60, 80, seed).numpy()
    result = op(tf.constant(image), seed).numpy()
    np.testing.assert_array_equal(result, image[top : top + height, left : left + width])


def test_resizing_antialiases_below_one_half_only():
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[:, ::2] = 255
    assert np.ptp(resized(tf.constant(stripes), (20, 20)).numpy()[:, 2:-2].astype(int)) < 40
    assert np.ptp(resized(tf.constant(stripes), (60, 60)).numpy().astype(int)) > 200
    halves = resized(tf.constant(stripes), (32, 32)).numpy()
    assert {*halves.ravel()} == {128}  # the mean of two columns
    smooth = resized(tf.constant(ramp(40, 40)), (20, 10)).numpy()
    np.testing.assert_allclose(smooth[2:-2, 2:-2, 0].mean(1), np.arange(4.5, 36, 2), atol=0.6)
    np.testing.assert_allclose(smooth[2:-2, 2:-2, 1].mean(0), np.arange(9.5, 30, 4), atol=0.6)


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_pad_and_crop_is_a_shifted_image(mode):
    image = np.random.default_rng(0).integers(1, 256, (7, 9, 3), np.uint8)
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode)
    possible = [padded[i : i + 7, j : j + 9].tobytes() for i in range(5) for j in range(5)]
    draw = tf.function(lambda seed: PadAndCrop(2, mode)(tf.constant(image), seed))
    found = [draw(tf.constant([i, 7])).numpy() for i in range(200)]
    assert found[0].shape == image.shape
    assert {one.tobytes() for one in found} == set(possible)


def test_padding_with_a_colour():
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    padded = np.stack(
        [np.pad(image[..., c], 1, constant_values=fill) for c, fill in enumerate((125, 0, 255))], -1
    )
    possible = {padded[i : i + 5, j : j + 6].tobytes() for i in range(3) for j in range(3)}
    op = PadAndCrop(1, fill=(125, 0, 255))
    assert {op(image, tf.constant([i, 7])).numpy().tobytes() for i in range(80)} == possible
    grey = PadAndCrop(3, fill=9)(np.zeros((2, 2, 1), np.uint8), tf.constant([0, 1])).numpy()
    assert {*grey.ravel()} <= {0, 9}
    # The papers pad with zeros once the mean is subtracted: with the mean, before that.
    pad, _ = named("cifar", 32)
    black = np.zeros((32, 32, 3), np.uint8)
    found = np.concatenate([pad(black, tf.constant([i, 0])).numpy() for i in range(9)])
    assert {*map(tuple, found.reshape(-1, 3).tolist())} == {(0, 0, 0), (125, 123, 114)}


@pytest.mark.parametrize(
    "op", [RandomFlip(), PadAndCrop(1), RandomCrop(2), RandomResizedCrop(2), ScaleJitter(2, (2, 4))]
)
@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 4, 4, 3), "u1"), np.zeros((4, 4, 3), "f4"), np.zeros((4, 4), "u1")]
)
def test_images_of_another_kind_are_refused(op, wrong):
    with pytest.raises(ValueError, match=f"{type(op).__name__} takes one image of uint8.*Received"):
        op(wrong, tf.constant([0, 0]))


def test_half_of_the_images_are_flipped():
    image = ramp(4, 6)
    draw = tf.function(lambda seed: RandomFlip()(tf.constant(image), seed))
    found = [draw(tf.constant([i, 7])).numpy()[0, 0, 1] for i in range(200)]
    assert {*found} == {0, 5}
    assert 80 < found.count(5) < 120
    flipped = draw(tf.constant([found.index(5), 7])).numpy()
    np.testing.assert_array_equal(flipped, image[:, ::-1])


def test_the_seed_decides_alone():
    image = tf.constant(ramp(40, 50))
    for op in (RandomResizedCrop(16), ScaleJitter(16, (20, 40)), PadAndCrop(4), RandomCrop(9)):
        first = op(image, tf.constant([1, 2])).numpy()
        keras.utils.set_random_seed(77)
        np.testing.assert_array_equal(op(image, tf.constant([1, 2])), first)
        others = [op(image, tf.constant([1, i])).numpy() for i in range(3, 7)]
        assert any(not np.array_equal(first, other) for other in others)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomResizedCrop(0), "`size` must be"),
        (lambda: RandomResizedCrop(8, area=(0.5, 1.5)), "`area` must be a number, .* to 1"),
        (lambda: RandomResizedCrop(8, area=(0, 1)), "`area` must be a number, from 1e-06"),
        (lambda: RandomResizedCrop(8, area=0.5), r"`area` must be \(least, greatest\)"),
        (lambda: RandomResizedCrop(8, aspect=(2, 1)), r"`aspect` must be \(least, greatest\)"),
        (lambda: RandomResizedCrop(8, aspect=("1", 2)), "`aspect` must be a number"),
        (lambda: ScaleJitter(224, (200, 300)), "`shorter` must be a number, at least 224"),
        (lambda: PadAndCrop(1, fill=(0, 0, 256)), "`fill` must be a number"),
        (lambda: PadAndCrop(1, fill=(1, 2, 3))(tf.zeros((4, 9, 1), tf.uint8), [0, 0]), "one for e"),
        (lambda: PadAndCrop(-1), "`padding` must be pixels"),
        (lambda: PadAndCrop(2, "zeros"), "`mode` must be 'constant' or 'reflect'"),
        (lambda: PadAndCrop(4, "reflect")(tf.zeros((4, 9, 1), tf.uint8), [0, 0]), "below the im"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "Received" in str(caught.value)
