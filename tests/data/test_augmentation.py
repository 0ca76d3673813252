"""Augmentation against Pillow, SciPy and NumPy, and the contract that all operations keep."""

import colorsys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage, stats

from keras_cnn_classics.data import augmentation as ops
from keras_cnn_classics.data import load
from keras_cnn_classics.data.augmentation import colour, filters, mixing, randaugment

GREY_TOO = (
    ops.ColourJitter(0.5, 0.3, 0.0),
    ops.Gamma((0.5, 2.0)),
    ops.Noise((5.0, 30.0)),
    ops.Affine(0.2, 0.3, 0.2, 0.4, rotation=20.0, fill=7),
    ops.Elastic(40.0, 3.0, fill=9),
    ops.GaussianBlur((0.5, 3.0)),
    ops.Sharpen((0.0, 4.0)),
    ops.Emboss((0.1, 1.5)),
    ops.Cutout(9, fill=77),
    ops.CoarseDropout(0.5, cells=5, fill=1),
    ops.RandAugment(3, 7, 10, fill=3),
    ops.Sometimes(ops.Gamma((2.0, 3.0)), 0.7),
)
RGB = (
    ops.ColourJitter(0.3, 0.2, 0.6, 0.1),
    ops.PCANoise(std=0.5),
    ops.Photometric(0.4),
    ops.Cutout(11, fill=(1, 2, 3)),
)


def kind(operation):
    return type(operation).__name__


def seed(*numbers):
    return tf.constant(numbers or (3, 14), tf.int32)


@pytest.fixture(scope="module")
def image():
    """A rough picture that is not square, with no black or white to hide an overflow."""
    y, x = np.mgrid[:37, :53]
    ramps = np.stack([4 * x, 6 * y, 2 * (x + y)], -1)
    rough = ramps + np.random.default_rng(0).integers(0, 40, ramps.shape)
    return np.clip(rough, 0, 230).astype(np.uint8)


@pytest.fixture(scope="module")
def digit():
    return next(load("digits").test.as_numpy_iterator())[0][5].astype(np.uint8)


def mapped(operation, images, seeds):
    """What a parallel `tf.data` map gives."""
    data = tf.data.Dataset.from_tensor_slices((images, seeds))
    return np.stack(list(data.map(operation, num_parallel_calls=4).as_numpy_iterator()))


def many(operation, image, count):
    """The results of as many seeds."""
    seeds = np.arange(2 * count, dtype=np.int32).reshape(-1, 2)
    return mapped(operation, np.repeat(image[None], count, 0), seeds)


def same_pixels(got, expected, share=0.0):
    """All pixels are equal but for a share of them, which rounding at a tie may move."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    assert got.dtype == np.uint8
    assert (got != expected).mean() <= share


@pytest.mark.parametrize("operation", GREY_TOO + RGB, ids=kind)
def test_contract(operation, image):
    # Two epochs with the same seeds, in one map.
    seeds = np.stack([np.full(48, 5), np.arange(48) % 24], 1).astype(np.int32)
    found, again = np.split(mapped(operation, np.repeat(image[None], 48, 0), seeds), 2)
    assert found.shape[1:] == image.shape
    assert found.dtype == np.uint8
    # Each image has draws of its own, whatever thread it is in, and they can be repeated.
    assert len(np.unique(found.reshape(24, -1), axis=0)) > 8
    np.testing.assert_array_equal(found, again)
    for i in (0, 23):
        np.testing.assert_array_equal(operation(image, seeds[i]), found[i])
    # The same where the size is not known before the image comes.
    spec = tf.TensorSpec((None, None, 3), tf.uint8)
    anywhere = tf.function(operation, input_signature=[spec, tf.TensorSpec((2,), tf.int32)])
    same_pixels(anywhere(image, seeds[1]), found[1], 0.001)


@pytest.mark.parametrize("operation", GREY_TOO, ids=kind)
def test_grey_digits(operation, digit):
    assert digit.shape == (28, 28, 1)
    results = [operation(digit, seed(i, 0)).numpy() for i in range(4)]
    assert all(result.shape == digit.shape for result in results)
    assert any((result != digit).any() for result in results)
    # A grey image is treated as an RGB image of that grey is.
    if kind(operation) not in ("Noise", "RandAugment", "ColourJitter"):
        grey = operation(np.repeat(digit, 3, -1), seed(1, 0)).numpy()
        np.testing.assert_array_equal(grey, np.repeat(results[1], 3, -1))


@pytest.mark.parametrize("operation", [ops.PCANoise(), ops.Photometric(), ops.ColourJitter()])
def test_colour_needs_colours(operation, digit):
    with pytest.raises(ValueError, match=r"3 channels|no saturation"):
        operation(digit, seed())


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4, 3), "float32"), np.zeros((4, 4), "uint8"), np.zeros((4, 4, 2), "u1")]
)
def test_images_of_another_kind_are_refused(wrong):
    with pytest.raises(ValueError, match=r"Gamma takes (one|an) image.*Received"):
        ops.Gamma()(wrong, seed())


@pytest.mark.parametrize(
    "make",
    [
        lambda: ops.ColourJitter(brightness=1.5),
        lambda: ops.ColourJitter(hue=0.7),
        lambda: ops.PCANoise(std=-0.1),
        lambda: ops.Photometric(2.0),
        lambda: ops.ColourStatistics((1.0, 2.0), ((1.0,) * 3,) * 3),
        lambda: ops.Gamma(2.0),
        lambda: ops.Gamma((2.0, 1.0)),
        lambda: ops.Gamma((0.0, 1.0)),
        lambda: ops.Noise((-1.0, 2.0)),
        lambda: ops.Affine(translation=-0.1),
        lambda: ops.Affine(fill=256),
        lambda: ops.Elastic(sigma=0.0),
        lambda: ops.Elastic(alpha=float("nan")),
        lambda: ops.GaussianBlur((0.0, 1.0)),
        lambda: ops.Sharpen(("1", "2")),
        lambda: ops.Emboss((0.1, float("inf"))),
        lambda: ops.Cutout(0),
        lambda: ops.Cutout(4, fill=(1, 2, 300)),
        lambda: ops.CoarseDropout(1.5),
        lambda: ops.CoarseDropout(cells=2.5),
        lambda: ops.RandAugment(0),
        lambda: ops.RandAugment(2, 11),
        lambda: ops.MixUp(0.0),
        lambda: ops.CutMix(-1.0),
        lambda: ops.Sometimes(ops.Gamma(), 1.1),
        lambda: ops.Sometimes(ops.MixUp()),
        lambda: ops.apply(np.zeros((4, 4, 3), "u1"), [ops.MixUp()], seed()),
        lambda: ops.named("elastik", 28),
        lambda: ops.Cutout(4, fill=(1, 2))(np.zeros((4, 4, 3), "u1"), seed()),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="Received"):
        make()


def test_numbers_of_numpy_are_numbers(image):
    noise = ops.Noise((np.float32(2), np.int64(3)))
    assert noise(image, seed()).shape == image.shape
    assert ops.Cutout(np.int64(4))(image, seed()).shape == image.shape


def test_apply_gives_each_operation_its_own_seed(image):
    noise = ops.Noise((20.0, 20.0))
    once = ops.apply(image, [noise], seed()).numpy().astype(int) - image
    both = ops.apply(image, [noise, noise], seed()).numpy().astype(int) - image
    inside = (image > 100) & (image < 150)
    assert np.std(once[inside]) == pytest.approx(20, rel=0.1)
    assert np.std(both[inside]) == pytest.approx(20 * np.sqrt(2), rel=0.1)  # not 40
    assert ops.apply(image, [], seed()) is image


def test_sometimes(image):
    invert = ops.Sometimes(ops.Gamma((2.0, 2.0)), 0.25)
    changed = mapped(
        invert, np.repeat(image[None], 400, 0), np.arange(800, dtype="i4").reshape(-1, 2)
    )
    share = (changed != image).any((1, 2, 3)).mean()
    assert share == pytest.approx(0.25, abs=0.07)


FACTORS = (0.0, 0.3, 0.77, 1.0, 1.4, 2.5)


@pytest.mark.parametrize(
    ("ours", "pillow"),
    [
        (colour.brightness, ImageEnhance.Brightness),
        (colour.contrast, ImageEnhance.Contrast),
        (colour.saturation, ImageEnhance.Color),
        (filters.sharpness, ImageEnhance.Sharpness),
    ],
)
def test_enhancements_are_pillows(ours, pillow, image):
    for factor in FACTORS:
        expected = pillow(Image.fromarray(image)).enhance(factor)
        same_pixels(ours(tf.constant(image), factor), expected, 0.001)


def test_hue(image):
    def turned(pixel):
        h, s, v = colorsys.rgb_to_hsv(*pixel / 255)
        return np.floor(255 * np.array(colorsys.hsv_to_rgb((h - 0.2) % 1, s, v)) + 0.5)

    expected = np.apply_along_axis(turned, -1, image)
    same_pixels(colour.hue(tf.constant(image), -0.2), expected, 0.001)


def test_colour_jitter_draws_orders_and_factors():
    """A grey pixel under brightness and contrast: the order shows, and so does the range."""
    jitter = ops.ColourJitter(0.5, 0.5, 0.0)
    flat = np.repeat(np.array([[[40], [200]]], np.uint8), 3, -1)
    found = many(jitter, flat, 600)[..., 0].reshape(600, 2)
    # Contrast keeps the mean and brightness scales it, but for what is cut off.
    means = found.mean(1) / 120
    assert 0.49 < means.min() < 0.53  # fractions are cut off
    assert 1.3 < means.max() <= 1.5
    brighter_first = 0
    for i in range(200):
        order, draws = tf.random.stateless_uniform((2, 2), seed(2 * i, 2 * i + 1)).numpy()
        picture = Image.fromarray(flat)
        for at in np.argsort(order):
            enhance = (ImageEnhance.Brightness, ImageEnhance.Contrast)[at]
            picture = enhance(picture).enhance(1 + 0.5 * (2 * draws[at] - 1))
        assert np.abs(found[i] - np.asarray(picture)[0, :, 0].astype(int)).max() <= 1
        brighter_first += order[0] < order[1]
    assert 70 < brighter_first < 130


def test_colour_statistics_are_numpys(image):
    pixels = image.reshape(-1, 3) / 255
    values, vectors = np.linalg.eigh(np.cov(pixels.T, bias=True))
    data = tf.data.Dataset.from_tensor_slices((image[None], [1])).batch(1)
    for source in (image, [image[:20], image[20:]], data):
        found = ops.ColourStatistics.of(source)
        np.testing.assert_allclose(found.eigenvalues, values[::-1], rtol=1e-6, atol=1e-12)
        alike = np.abs(np.sum(np.array(found.eigenvectors) * vectors.T[::-1], axis=1))
        np.testing.assert_allclose(alike, 1, rtol=1e-6)
    for wrong in (image - 300.0, image[..., :1], []):
        with pytest.raises(ValueError, match="Received"):
            ops.ColourStatistics.of(wrong)


def test_colour_statistics_of_a_data_set(tmp_path, image):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.fromarray(np.roll(image, i, 1)).save(tmp_path / name / f"{i}.png")
    options = {"image_size": 16, "batch_size": 3, "test": 0, "validation": 0}
    plain = load(tmp_path, **options)
    every = np.concatenate([x for x, _ in plain.train.as_numpy_iterator()]).reshape(-1, 3) / 255
    # Neither what changes the pixels on their way nor the place of a run takes part in it.
    data = load(tmp_path, augment=[ops.Noise((99, 99)), ops.MixUp()], preprocess="unit", **options)
    data.position.seek(3, 1)
    found = ops.ColourStatistics.of(data)
    np.testing.assert_allclose(sum(found.eigenvalues), every.var(0).sum(), rtol=1e-5)
    assert (data.position.epoch, data.position.step) == (3, 1)


def test_colour_statistics_of_a_data_set_with_channels_first(tmp_path, image, monkeypatch):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.fromarray(image).save(tmp_path / name / "1.png")
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    data = load(tmp_path, image_size=image.shape[:2], test=0, validation=0)
    assert data.image_shape[0] == 3
    found = ops.ColourStatistics.of(data).eigenvalues
    np.testing.assert_allclose(found, ops.ColourStatistics.of(image).eigenvalues, rtol=1e-5)


def test_imagenet_colours():
    known = ops.IMAGENET_COLOURS
    vectors = np.array(known.eigenvectors)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=5e-4)
    deviations = np.sqrt(np.array(known.eigenvalues) @ vectors**2)
    np.testing.assert_allclose(deviations, [0.284, 0.276, 0.290], atol=5e-4)


def test_pca_noise_is_one_colour_along_the_components():
    statistics = ops.ColourStatistics((0.5, 0.1, 0.0), ((0.6, 0.8, 0), (-0.8, 0.6, 0), (0, 0, 1)))
    noise = ops.PCANoise(statistics, std=0.2)
    grey = np.full((5, 6, 3), 128, np.uint8)
    count = 2000
    found = many(noise, grey, count).astype(int) - 128
    assert (found == found[:, :1, :1]).all()
    assert (found[..., 2] == 0).all()
    shifts = found[:, 0, 0, :2] @ np.array([[0.6, -0.8], [0.8, 0.6]]) / 255
    np.testing.assert_allclose(shifts.std(0), [0.5 * 0.2, 0.1 * 0.2], rtol=0.06)
    np.testing.assert_allclose(shifts.mean(0), 0, atol=0.01)


def test_gamma(image):
    same_pixels(ops.Gamma((0.5, 0.5))(image, seed()), np.rint(255 * np.sqrt(image / 255)))
    middle = np.full((1, 1, 1), 128, np.uint8)
    found = [ops.Gamma((0.5, 2.0))(middle, seed(i, 1)).numpy().item() for i in range(200)]
    exponents = np.log(np.array(found) / 255) / np.log(128 / 255)
    assert exponents.min() < 0.53
    assert exponents.max() > 1.9
    assert np.median(np.log(exponents)) == pytest.approx(0, abs=0.15)


def test_noise():
    grey = np.full((64, 64, 3), 128, np.uint8)
    found = ops.Noise((12.0, 12.0))(grey, seed()).numpy().astype(float)
    assert found.std() == pytest.approx(12, rel=0.05)
    assert found.mean() == pytest.approx(128, abs=0.5)
    assert abs(np.corrcoef(found[..., 0].ravel(), found[..., 1].ravel())[0, 1]) < 0.05
    strengths = [ops.Noise((2.0, 30.0))(grey, seed(i, 0)).numpy().std() for i in range(30)]
    assert min(strengths) < 6
    assert max(strengths) > 25


def interpolated(image, y, x, fill):
    """SciPy's bilinear interpolation, channel by channel."""
    parts = [
        ndimage.map_coordinates(
            part.astype(float), [y, x], order=1, mode="grid-constant", cval=fill
        )
        for part in np.moveaxis(image, -1, 0)
    ]
    return np.floor(np.stack(parts, -1) + 0.5)


def test_affine(image):
    """Against the composition of the five maps, inverted by NumPy."""
    operation = ops.Affine(0.2, 0.3, 0.25, 0.4, rotation=35.0, fill=9)
    for i in range(4):
        d = tf.random.stateless_uniform((6,), seed(7, i), -1.0, 1.0).numpy().astype(float)
        scale, squeeze, angle = 1.3 ** d[2], 1.25 ** d[3], np.deg2rad(35) * d[5]
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shear = np.array([[1, 0.4 * d[4]], [0, 1]])
        inverse = np.linalg.inv(turn @ shear @ np.diag([scale * squeeze, scale / squeeze]))
        y, x = np.mgrid[:37, :53].astype(float)
        moved = np.stack([x - 26 - 0.2 * d[0] * 53, y - 18 - 0.2 * d[1] * 37])
        x, y = np.einsum("ij,jhw->ihw", inverse, moved)
        expected = interpolated(image, y + 18, x + 26, 9)
        found = operation(image, seed(7, i)).numpy()
        assert np.abs(found - expected).max() <= 1  # float32 coordinates
        same_pixels(found, expected, 0.01)
    still = ops.Affine(0, 0, 0, 0)(image, seed())
    np.testing.assert_array_equal(still, image)


def test_elastic(image):
    operation = ops.Elastic(40.0, 3.0, fill=9)
    noise = tf.random.stateless_uniform((2, 37, 53), seed(), -1.0, 1.0).numpy().astype(float)
    field = [40 * ndimage.gaussian_filter(n, 3, mode="constant", truncate=20) for n in noise]
    y, x = np.mgrid[:37, :53]
    expected = interpolated(image, y + field[0], x + field[1], 9)
    same_pixels(operation(image, seed()), expected, 0.001)
    wide = np.concatenate(
        [
            ndimage.gaussian_filter(np.random.default_rng(i).uniform(-1, 1, (200, 200)), 4)
            for i in range(5)
        ]
    )
    assert wide.std() == pytest.approx(0.16 / 4, rel=0.05)  # as the docstring says
    np.testing.assert_array_equal(ops.Elastic(0.0)(image, seed()), image)


def test_blur(image):
    found = ops.GaussianBlur((1.5, 1.5))(image, seed())

    def blurred(x):
        return ndimage.gaussian_filter(x, (1.5, 1.5, 0), mode="constant", truncate=9)

    expected = blurred(image.astype(float)) / blurred(np.ones(image.shape))
    same_pixels(found, np.floor(expected + 0.5), 0.001)
    np.testing.assert_array_equal(ops.GaussianBlur((0.01, 0.01))(image, seed()), image)


def test_emboss_and_sharpen(image):
    s = 0.613
    kernel = np.array([[-s, -s, 0], [-s, 1, s], [0, s, s]])
    parts = [ndimage.correlate(part.astype(float), kernel) for part in np.moveaxis(image, -1, 0)]
    expected = np.clip(np.floor(np.stack(parts, -1) + 0.5), 0, 255)
    expected[[0, -1]], expected[:, [0, -1]] = image[[0, -1]], image[:, [0, -1]]
    same_pixels(ops.Emboss((s, s))(image, seed()), expected, 0.001)
    sharp = ImageEnhance.Sharpness(Image.fromarray(image)).enhance(2.5)
    same_pixels(ops.Sharpen((2.5, 2.5))(image, seed()), sharp, 0.001)
    tiny = image[:2, :2]
    np.testing.assert_array_equal(ops.Emboss()(tiny, seed()), tiny)


def test_cutout():
    dark = np.zeros((12, 16, 3), np.uint8)
    count = 2000
    found = many(ops.Cutout(6, fill=(7, 8, 9)), dark, count)
    masks = found[..., 0] > 0
    assert set(map(tuple, found[masks])) == {(7, 8, 9)}
    areas = masks.sum((1, 2))
    assert areas.max() == 36
    assert areas.min() == 3 * 3  # the centre on the corner; half of an even square is outside
    rows, columns = masks.any(2), masks.any(1)
    assert (areas == rows.sum(1) * columns.sum(1)).all()  # always one rectangle
    # The share of uncut squares: the centre 3 from the one side and 2 from the other.
    assert (areas == 36).mean() == pytest.approx(7 / 12 * 11 / 16, abs=0.04)


def test_coarse_dropout():
    light = np.full((20, 30, 1), 200, np.uint8)
    count = 300
    found = many(ops.CoarseDropout(0.6, cells=5, fill=3), light, count)
    cells = found.reshape(count, 5, 4, 5, 6)
    assert (cells == cells[:, :, :1, :, :1]).all()
    shares = (found == 3).mean((1, 2, 3))
    assert shares.mean() == pytest.approx(0.3, abs=0.03)
    assert shares.max() > 0.5
    odd = ops.CoarseDropout(1.0, cells=8)(np.full((5, 3, 3), 9, np.uint8), seed())
    assert odd.shape == (5, 3, 3)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_mixup(dtype):
    values = np.array([0, 60, 120, 180, 240], dtype)
    images = np.ones((5, 4, 6, 3), dtype) * values[:, None, None, None]
    labels = tf.one_hot(range(5), 5)
    shares = []
    for i in range(20):
        mixed, marks = ops.MixUp(1.0)(images, labels, seed(i, 2))
        assert mixed.dtype == dtype
        np.testing.assert_allclose(np.sum(marks, 1), 1, rtol=1e-6)
        expected = marks.numpy() @ values
        atol = 0.5 + 1e-4 if dtype == "uint8" else 1e-4
        np.testing.assert_allclose(mixed[:, 2, 3, 1], expected, atol=atol)
        shares += np.diag(marks).tolist()
    assert min(shares) < 0.1  # a share for each image, between 0 and 1
    assert len(set(shares)) > 70


def test_cutmix():
    images = np.ones((6, 30, 20, 1), np.uint8) * np.arange(6, dtype=np.uint8)[:, None, None, None]
    labels = tf.one_hot(range(6), 6)
    own, cut = [], 0
    for i in range(40):
        mixed, marks = ops.CutMix()(images, labels, seed(i, 3))
        mixed, marks = mixed.numpy(), marks.numpy()
        counts = np.stack([(mixed == k).mean((1, 2, 3)) for k in range(6)], 1)
        np.testing.assert_allclose(marks, counts, atol=1e-6)
        own += np.diag(marks).tolist()
        for k in range(6):
            rows, columns = np.nonzero(mixed[k, ..., 0] != k)
            if len(rows):
                sides = np.ptp(rows) + 1, np.ptp(columns) + 1
                assert len(rows) == sides[0] * sides[1]
                # A rectangle that is not cut off has the image's aspect.
                inside = rows.min() > 0 and rows.max() < 29 and columns.min() > 0
                if inside and columns.max() < 19:
                    cut += 1
                    assert abs(sides[0] / 30 - sides[1] / 20) < 1 / 20 + 1e-6
    assert cut > 10
    assert min(own) < 0.2
    assert max(own) == 1


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_beta(alpha):
    draws = mixing.beta(seed(), alpha, 4000).numpy()
    assert stats.kstest(draws, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_beta_of_a_small_alpha_is_finite():
    draws = mixing.beta(seed(), 0.001, 1000).numpy()
    assert np.isin(np.round(draws, 3), (0, 1)).mean() > 0.97
    assert draws.mean() == pytest.approx(0.5, abs=0.05)


def test_mixers_want_batches_with_one_hot_labels(image):
    for images, labels in ((image, tf.eye(3)), (image[None], [1]), (image[None], [[1]])):
        with pytest.raises(ValueError, match=r"one-hot labels.*Received"):
            ops.CutMix()(images, labels, seed())


def pillow_twin(name, picture, strength, fill):
    """The operation of that name by Pillow."""
    fill = (fill,) * 3
    width, height = picture.size

    def affine(*matrix):
        return picture.transform(picture.size, Image.Transform.AFFINE, matrix, fillcolor=fill)

    enhance = {"color": "Color", "contrast": "Contrast", "brightness": "Brightness"}
    enhance["sharpness"] = "Sharpness"
    if name in enhance:
        return getattr(ImageEnhance, enhance[name])(picture).enhance(1 + 0.9 * strength)
    shift = 150 / 331 * strength
    return {
        "identity": lambda: picture,
        "autocontrast": lambda: ImageOps.autocontrast(picture),
        "equalize": lambda: ImageOps.equalize(picture),
        "rotate": lambda: picture.rotate(30 * strength, fillcolor=fill),
        "solarize": lambda: ImageOps.solarize(picture, int(256 * (1 - abs(strength)))),
        "posterize": lambda: ImageOps.posterize(picture, 8 - round(4 * abs(strength))),
        "shear_x": lambda: affine(1, 0.3 * strength, 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, 0.3 * strength, 1, 0),
        "translate_x": lambda: affine(1, 0, shift * width, 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, shift * height),
    }[name]()


@pytest.mark.parametrize("name", randaugment.OPERATIONS)
def test_randaugment_operations_are_pillows(name, image):
    for strength in (0.71, -0.43, 0.0):
        for picture in (image, image // 5 + 40, image[:5, :7]):
            found = randaugment.OPERATIONS[name](tf.constant(picture), tf.constant(strength), 77)
            expected = pillow_twin(name, Image.fromarray(picture), strength, 77)
            same_pixels(found, expected, 0.01)


def test_flat_images_stay(image):
    for value in (0, 130, 255):
        flat = tf.fill((6, 7, 3), tf.constant(value, tf.uint8))
        for change in (randaugment.autocontrast, randaugment.equalize):
            np.testing.assert_array_equal(change(flat), flat)


def test_randaugment_draws_all_operations_in_both_directions(image):
    operation = ops.RandAugment(1, 6, 12, fill=31)
    count = 700
    found = many(operation, image, count)
    twins = {}
    for name, change in randaugment.OPERATIONS.items():
        for strength in (-0.5, 0.5):
            twin = change(tf.constant(image), tf.constant(strength), 31).numpy().tobytes()
            twins.setdefault(twin, (name, strength))
    counts = dict.fromkeys(twins.values(), 0)
    for result in found:
        counts[twins[result.tobytes()]] += 1
    one_way = {"identity", "autocontrast", "equalize", "solarize", "posterize"}
    assert len(counts) == 14 + 9
    for (name, _), times in counts.items():
        expected = count / 14 / (1 if name in one_way else 2)
        assert expected / 2 < times < 2 * expected, name


def test_randaugment_applies_several(image):
    """With two operations, the result is that of the second one on that of the first."""
    changes = list(randaugment.OPERATIONS.values())
    which, sign = tf.unstack(tf.random.split(seed(), 2))
    drawn = tf.random.stateless_uniform([2], which, 0, 14, tf.int32).numpy()
    signs = np.where(tf.random.stateless_uniform([2], sign) < 0.5, -0.9, 0.9)
    expected = tf.constant(image)
    for i in range(2):
        expected = changes[drawn[i]](expected, tf.constant(signs[i], tf.float32), 128)
    np.testing.assert_array_equal(ops.RandAugment()(image, seed()), expected)


def test_every_name_gives_operations(image):
    photograph = np.asarray(Image.fromarray(image).resize((80, 72)))
    for name in ops.AUGMENTATIONS:
        operations = ops.named(name, (24, 32))
        if operations[0].__class__.__name__ in ("MixUp", "CutMix"):
            mixed, _ = operations[0](image[None], [[1.0, 0.0]], seed())
            assert mixed.shape == (1, 37, 53, 3)
        else:
            result = ops.apply(photograph, operations, seed())
            assert tuple(result.shape) in ((24, 32, 3), photograph.shape)
    both = ops.named(["cutmix", "flip"], 24)
    assert [type(operation).__name__ for operation in both] == ["RandomFlip", "CutMix"]
    with pytest.raises(ValueError, match="Did you mean 'elastic'"):
        ops.named("elastik", 24)
