"""Layers of Keras and KerasCV as operations: draws, seeds, refusals."""

import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_cnn_classics.data import augmentation as ops

layers = keras.layers


@pytest.fixture(scope="module")
def kcv():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("keras_cv", reason="the extra keras-cv is not installed")
    return module.layers


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 32, 3)).astype(np.uint8)


def check_operation(operation, image, shape=None):
    """Equal images through a parallel map, with the seeds of epochs 1, 1 and 2."""

    def one(i):
        epoch = tf.gather([1, 1, 2], i // 12)
        return operation(image, tf.random.experimental.stateless_fold_in([0, epoch], i % 12))

    data = tf.data.Dataset.range(36).map(one, num_parallel_calls=4)
    first, again, other = np.split(np.stack(list(data.as_numpy_iterator())), 3)
    assert first.dtype == np.uint8
    assert first.shape[1:] == (shape or image.shape)
    np.testing.assert_array_equal(first, again)  # repeatable, whatever the threads do
    assert not np.array_equal(first, other)  # fresh in another epoch
    assert len(np.unique(first.reshape(12, -1), axis=0)) > 4  # each image has its own draws
    seed = tf.random.experimental.stateless_fold_in([0, 1], np.int64(1))
    np.testing.assert_array_equal(operation(image, seed), first[1])


def check_mixer(operation):
    assert operation.mixes
    images = np.zeros((6, 16, 16, 3), np.uint8)
    images += np.arange(0, 240, 40, dtype=np.uint8)[:, None, None, None]
    one_hot = tf.one_hot(range(6), 6)
    results = [operation(images, one_hot, tf.constant(seed)) for seed in ([1, 2], [1, 2], [3, 4])]
    mixed, labels = (np.stack(part) for part in zip(*results, strict=True))
    assert mixed.dtype == np.uint8
    np.testing.assert_allclose(labels.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(mixed[0], mixed[1])
    np.testing.assert_array_equal(labels[0], labels[1])
    assert not np.array_equal(mixed[0], mixed[2])
    return mixed, labels


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.RandomRotation(0.2),
        lambda: layers.RandomTranslation(0.2, 0.3, seed=7),
        lambda: layers.RandomBrightness(0.4),
        lambda: layers.RandomColorJitter((0, 255), 0.4, 0.4, 0.4, 0.1),
        lambda: layers.Pipeline([layers.RandomFlip(), layers.RandomContrast(0.5)]),
        lambda: keras.Sequential([layers.RandomFlip(), layers.RandomZoom(0.3)]),
    ],
)
def test_layers_of_keras(make, image):
    check_operation(ops.from_layer(make()), image)


def test_layers_that_change_the_size(image):
    check_operation(ops.from_layer(layers.RandomCrop(20, 24)), image, (20, 24, 3))


def test_rounds_to_whole_pixels(image):
    operation = ops.from_layer(layers.RandomBrightness((0.2, 0.2)))
    expected = np.clip(image + 0.2 * 255, 0, 255)
    np.testing.assert_array_equal(operation(image, [0, 0]), np.floor(expected + 0.5))


def test_is_traced_once_for_all_seeds(image):
    operation = ops.from_layer(layers.RandomFlip())
    before = operation.traced.experimental_get_tracing_count()
    for i in range(5):
        operation(image, [i, 0])
    assert operation.traced.experimental_get_tracing_count() == before + 1


def test_mixers_of_keras():
    mixed, labels = check_mixer(ops.from_layer(layers.MixUp(0.8)))
    # The pixels of image k are 40 k, so they tell the shares.
    np.testing.assert_allclose(mixed[:, :, 3, 3, 0], labels @ np.arange(0, 240, 40), atol=0.51)
    check_mixer(ops.from_layer(layers.CutMix()))
    with pytest.raises(ValueError, match=r"MixUp takes a batch .* one-hot labels"):
        ops.from_layer(layers.MixUp())(np.zeros((2, 8, 8, 3), "u1"), [0, 1], [0, 0])


class Custom(layers.Layer):
    """A layer made of one function of an image."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs, training=False):
        return self.function(inputs)


def stateful(x):
    return x + tf.random.truncated_normal(tf.shape(x))


def binomial(x):
    counts = tf.random.get_global_generator().binomial([], 9.0, 0.5)
    return x + tf.cast(counts, tf.float32)


def within_numpy(x):
    return tf.numpy_function(lambda y: y + np.random.default_rng().random(), [x], tf.float32)


def by_numpy(x):
    return x + np.random.uniform()  # noqa: NPY002


def looping(x):
    def turn(y):
        return [y + tf.random.uniform([])]

    return tf.while_loop(lambda _: True, turn, [x], maximum_iterations=2)[0]


def ragged(x):
    return tf.RaggedTensor.from_tensor(x)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda: "flip", "takes a layer of Keras or KerasCV"),
        (lambda: layers.Rescaling(1 / 255), "pixels from 0 to 255"),
        (lambda: layers.RandomFlip(data_format="channels_first"), "channels_last"),
        (lambda: layers.Conv2D(4, 3), r"Conv2D cannot augment.*fails on a sample: .*ndim=4"),
        (lambda: Custom(stateful), "no seed reaches the numbers .*TruncatedNormal"),
        (lambda: Custom(binomial), "no seed reaches the numbers .*StatefulRandomBinomial"),
        (lambda: Custom(tf.image.random_flip_left_right), "no seed reaches .*RandomUniform"),
        (lambda: Custom(within_numpy), "no seed reaches the numbers .*PyFunc"),
        (lambda: Custom(by_numpy), "draws by NumPy, once"),
        (lambda: Custom(looping), "draws in a loop"),
        (lambda: Custom(ragged), "ragged"),
        (lambda: layers.Pipeline([layers.RandomFlip(), layers.MixUp()]), "operations on one image"),
    ],
)
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the layers of the test call TensorFlow"
)
def test_refusals(layer, words):
    with pytest.raises(ValueError, match=words) as error:
        ops.from_layer(layer())
    assert "Received" in str(error.value)
    assert len(str(error.value)) < 500


def test_draws_are_given_back_and_other_threads_keep_theirs(image):
    before = tf.random.uniform, tf.random.shuffle, keras.random.SeedGenerator.next
    elsewhere = []

    class Nosy(layers.RandomBrightness):
        def call(self, inputs, training=False):
            thread = threading.Thread(target=lambda: elsewhere.append(tf.random.uniform([3])))
            thread.start()
            thread.join()
            return super().call(inputs, training=training)

    check_operation(ops.from_layer(Nosy(0.5)), image)
    assert isinstance(elsewhere[0].numpy(), np.ndarray)  # no tensor of the graph in the making
    with pytest.raises(ValueError, match="fails on a sample"):
        ops.from_layer(layers.Conv2D(4, 3))
    assert before == (tf.random.uniform, tf.random.shuffle, keras.random.SeedGenerator.next)


def test_layers_are_traced_one_after_the_other():
    before = tf.random.uniform, keras.random.SeedGenerator.next
    inside, most = [], []

    class Slow(layers.RandomBrightness):
        def call(self, inputs, training=False):
            inside.append(self)
            most.append(len(inside))
            time.sleep(0.1)
            inside.remove(self)
            return super().call(inputs, training=training)

    slow = [Slow(0.5) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(ops.from_layer, slow))
    assert max(most) == 1
    assert before == (tf.random.uniform, keras.random.SeedGenerator.next)


def fake_kcv_layer():
    """A layer that comes from where KerasCV's come from, for where that is not installed."""
    kind = type("RandomHue", (layers.Layer,), {"call": lambda self, inputs: inputs})
    kind.__module__ = "keras_cv.src.layers.preprocessing.random_hue"
    return kind(name="hue")


def test_a_layer_of_kerascv_in_a_model_is_refused():
    inner = keras.Sequential([layers.Input((8, 8, 3)), fake_kcv_layer()])
    model = keras.Sequential([layers.Input((8, 8, 3)), inner, layers.Flatten()])
    with pytest.raises(ValueError, match=r"'hue' \(RandomHue\).*`training`.*from_layer"):
        ops.check_model(model)
    ops.check_model(keras.Sequential([layers.Input((8, 8, 3)), layers.RandomFlip()]))


@pytest.mark.parametrize(
    "make",
    [
        lambda kcv: kcv.RandAugment((0, 255)),
        lambda kcv: kcv.RandomBrightness(0.4),
        lambda kcv: kcv.RandomColorJitter((0, 255), 0.4, 0.4, 0.4, 0.4),
        lambda kcv: kcv.Augmenter([kcv.RandomFlip(), kcv.RandomHue(0.5, (0, 255))]),
        lambda kcv: kcv.RandomChoice([kcv.GridMask(), kcv.RandomShear(0.4, 0.4)]),
    ],
)
def test_layers_of_kerascv(kcv, make, image):
    check_operation(ops.from_layer(make(kcv)), image)


def test_random_crop_of_kerascv(kcv, image):
    crop = kcv.RandomCropAndResize((24, 20), (0.1, 1.0), (0.75, 1.33))
    check_operation(ops.from_layer(crop), image, (24, 20, 3))


def test_mixers_of_kerascv(kcv):
    for layer in (kcv.MixUp(), kcv.Mosaic()):
        check_mixer(ops.from_layer(layer))


def test_refusals_of_kerascv(kcv):
    flip = kcv.RandomFlip()
    for layer, words in (
        (kcv.RandomAspectRatio((0.5, 2.0)), "ragged"),
        (kcv.CutMix(), "wrong by 0.16 on average"),
        (kcv.AugMix((0, 255)), "draws in a loop"),
        (kcv.FourierMix(), "draws in a loop"),
        (kcv.RandAugment((0, 1)), "pixels from 0 to 255"),
        (kcv.RandomJpegQuality((50, 90)), "pixels from 0 to 255"),
        (kcv.RepeatedAugmentation([flip]), "batched mode"),
        (kcv.RandomApply(flip), "RandomApply cannot augment"),
        (kcv.Augmenter([flip, kcv.MixUp()]), "operations on one image"),
    ):
        with pytest.raises(ValueError, match=words):
            ops.from_layer(layer)
    model = keras.Sequential([layers.Input((8, 8, 3)), flip])
    with pytest.raises(ValueError, match="RandomFlip"):
        ops.check_model(model)
