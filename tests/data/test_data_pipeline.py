"""The training stream: order, augmentation and place depend on the seed and the epoch alone."""

import dataclasses
import io
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from keras_cnn_classics.data import decode_image, fit_image, load
from keras_cnn_classics.data import pipeline as pipeline_module
from keras_cnn_classics.data.augmentation import (
    PadAndCrop,
    PCANoise,
    RandomCrop,
    RandomResizedCrop,
)
from keras_cnn_classics.data.augmentation.crops import resized
from keras_cnn_classics.data.decoding import decode_window
from keras_cnn_classics.data.pipeline import Batching
from keras_cnn_classics.data.position import Position
from keras_cnn_classics.data.sources import Arrays, Files, Stream

tf = pytest.importorskip("tensorflow")

COUNT, BATCH = 22, 4  # five batches and a half


@dataclasses.dataclass(frozen=True)
class Noise:
    """Adds a draw to the green channel."""

    def __call__(self, image, seed):
        noise = tf.random.stateless_uniform(image.shape[:2], seed, 0, 255, tf.int32)
        return tf.stack([image[..., 0], tf.cast(noise, tf.uint8), image[..., 2]], -1)


@dataclasses.dataclass(frozen=True)
class Blend:
    """A mixer: each image with the one after it, by a share for the whole batch."""

    mixes = True

    def __call__(self, images, labels, seed):
        share = tf.random.stateless_uniform((), seed)

        def blend(x):
            return share * x + (1 - share) * tf.roll(x, 1, 0)

        return blend(images), blend(labels)


def encoded(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The same images, of the numbers from 0 in red, as arrays, files and a stream."""
    folder, labels = tmp_path_factory.mktemp("images"), np.arange(COUNT, dtype=np.int32) % 3
    pixels = np.zeros((COUNT, 8, 8, 3), np.uint8)
    pixels[..., 0] = np.arange(COUNT)[:, None, None]
    contents = [encoded(Image.fromarray(image)) for image in pixels]
    paths = [folder / f"{i}.png" for i in range(COUNT)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    paths = np.array([str(path) for path in paths], object)
    return {
        "arrays": Arrays(pixels, labels),
        "files": Files(paths, labels),
        "stream": Stream(lambda: tf.data.Dataset.from_tensor_slices((contents, labels)), COUNT),
    }


def opened(images, ops=(Noise(),), seed=3, **options):
    """A position, and the training batches of it."""
    settings = {"size": (8, 8), "channels": 3, "resize": "crop", "batch_size": BATCH}
    batching = Batching(**settings, preprocess=None, augment=ops, classes=options.pop("classes", 3))
    position = Position(-(-len(images) // BATCH))
    return position, batching.training(images, seed, position)(**options)


def run(dataset, count=None):
    return list((dataset if count is None else dataset.take(count)).as_numpy_iterator())


def numbers(batches):
    return np.concatenate([images[:, 0, 0, 0] for images, _ in batches]).astype(int).tolist()


def assert_equal(some, others):
    for one, other in zip(some, others, strict=True):
        for x, y in zip(one, other, strict=True):
            np.testing.assert_array_equal(x, y)


KINDS = pytest.mark.parametrize("kind", ["arrays", "files", "stream"])


@KINDS
def test_an_epoch_is_decided_by_the_seed_and_its_number(sources, kind, monkeypatch):
    position, train = opened(sources[kind])
    assert len(train) == 6
    epochs = [run(train) for _ in range(3)]
    assert position.epoch == 3
    for epoch in epochs:
        assert sorted(numbers(epoch)) == list(range(COUNT))
        labels = np.concatenate([labels for _, labels in epoch])
        assert labels.argmax(-1).tolist() == [number % 3 for number in numbers(epoch)]
        assert [len(images) for images, _ in epoch] == [4, 4, 4, 4, 4, 2]
    assert len({tuple(numbers(epoch)) for epoch in epochs}) == 3
    # Neither the global seed nor the number of threads has a say.
    keras.utils.set_random_seed(77)
    monkeypatch.setattr(tf.data, "AUTOTUNE", 1)
    again_position, again = opened(sources[kind])
    again_position.seek(2)
    assert_equal(run(again), epochs[2])
    assert numbers(run(opened(sources[kind], seed=2**32 - 1)[1])) != numbers(epochs[0])


@KINDS
@pytest.mark.parametrize("ops", [(Noise(), Blend()), (RandomCrop(8), Noise(), Blend())])
def test_a_sought_epoch_is_blank_and_then_the_same(sources, kind, ops):
    position, train = opened(sources[kind], ops)
    epochs = [run(train) for _ in range(2)]
    position.seek(1, 3)
    sought = run(train)
    for images, labels in sought[:3]:
        assert (images.shape, images.dtype) == ((BATCH, 8, 8, 3), np.float32)
        assert (labels.shape, labels.dtype) == ((BATCH, 3), np.float32)
        assert not images.any()
        assert not labels.any()
    assert_equal(sought[3:], epochs[1][3:])
    assert (position.epoch, position.step) == (2, 0)


def test_blanks_decode_nothing(sources, monkeypatch):
    def fail(*_):
        raise AssertionError

    monkeypatch.setattr(pipeline_module, "decode_image", fail)
    position, train = opened(sources["files"])
    position.seek(0, 6)
    assert len(run(train)) == 6
    position.seek(0, 5)
    with pytest.raises(tf.errors.OpError, match="AssertionError"):
        run(train)


def test_a_held_position_stays_for_one_iterator_more(sources):
    position, train = opened(sources["arrays"])
    position.seek(1, hold=True)
    run(train, 1)
    assert position.epoch == 1
    held = run(train)
    assert position.epoch == 2
    position.seek(1)
    assert_equal(run(train), held)
    assert position.epoch == 2


@KINDS
def test_endless_goes_on_from_the_position(sources, kind):
    ops = (Noise(), Blend())
    position, train = opened(sources[kind], ops)
    epochs = [run(train) for _ in range(3)]
    position, endless = opened(sources[kind], ops, endless=True)
    position.seek(1, 2)
    batches = run(endless, 10)
    assert not any(images.any() for images, _ in batches[:2])
    assert_equal(batches[2:], [*epochs[1][2:5], *epochs[2][:5]])
    assert (position.epoch, position.step) == (1, 2)
    assert endless.cardinality() == tf.data.INFINITE_CARDINALITY


@KINDS
def test_workers_share_each_batch(sources, kind):
    whole = run(opened(sources[kind], endless=True)[1], 7)
    parts = [run(opened(sources[kind], endless=True, worker=i, workers=2)[1], 7) for i in range(2)]
    joined = [
        tuple(np.concatenate(both) for both in zip(*pair, strict=True))
        for pair in zip(*parts, strict=True)
    ]
    assert_equal(joined, whole)


def test_every_image_and_operation_draws_for_itself():
    images = Arrays(np.zeros((6, 8, 8, 3), np.uint8), np.zeros(6, np.int32))
    batches = run(opened(images, (Noise(),))[1])
    drawn = np.concatenate([images[..., 1] for images, _ in batches])
    assert len(np.unique(drawn.reshape(6, -1), axis=0)) == 6
    # After another operation, the draws are others.
    later = run(opened(images, (PadAndCrop(0), Noise()))[1])
    assert not np.array_equal(drawn[:4], later[0][0][..., 1])


def test_labels_of_a_mixer(sources):
    plain = run(opened(sources["arrays"], (PadAndCrop(0),))[1])
    mixed = run(opened(sources["arrays"], (PadAndCrop(0), Blend()))[1])
    shares = []
    for (x, y), (images, labels) in zip(plain, mixed, strict=True):
        share = (images - np.roll(x, 1, 0))[0, 0, 0, 0] / (x - np.roll(x, 1, 0))[0, 0, 0, 0]
        np.testing.assert_allclose(images, share * x + (1 - share) * np.roll(x, 1, 0), atol=1e-4)
        np.testing.assert_allclose(labels, share * y + (1 - share) * np.roll(y, 1, 0), atol=1e-4)
        shares.append(share)
    assert np.ptp(shares) > 0.1


def test_positions_out_of_range():
    position = Position(6)
    for arguments, name in (((-1,), "epoch"), ((0, 7), "step"), ((0, -1), "step"), ((0.5,), "ep")):
        with pytest.raises(ValueError, match=f"`{name}.*Received"):
            position.seek(*arguments)


# The whole of `load`.


def digits(**options):
    return load("digits", batch_size=50, **options)


def test_fit_goes_through_the_epochs_in_order():
    data = digits(preprocess="unit", augment=[PadAndCrop(2, "reflect")], one_hot=True)
    assert (len(data.train), data.steps, data.position.batches) == (22, 21, 22)

    def model():
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
        network = keras.Sequential([keras.Input((28, 28, 1)), *layers])
        network.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
        return network

    class Seek(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            data.position.seek(epoch, hold=True)

    fitted, by_hand = model(), model()
    history = fitted.fit(data.train, epochs=2, callbacks=[Seek()], shuffle=False, verbose=0)
    assert history.params["steps"] == 22
    data.position.seek(0)
    for _ in range(2):
        for x, y in data.train.as_numpy_iterator():
            by_hand.train_on_batch(x, y)
    for one, other in zip(fitted.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    data.position.seek(0)
    history = fitted.fit(
        data.endless(), steps_per_epoch=data.steps, epochs=2, shuffle=False, verbose=0
    )
    assert len(history.history["loss"]) == 2


def test_one_hot_labels_in_every_split():
    plain, hot = digits(), digits(one_hot=True)
    for split in ("train", "validation", "test"):
        labels = [np.concatenate([y for _, y in run(getattr(d, split))]) for d in (plain, hot)]
        assert (labels[0].dtype, labels[1].dtype) == (np.int32, np.float32)
        np.testing.assert_array_equal(labels[1], np.eye(10)[labels[0]])
    assert digits(augment=[Blend()]).test.element_spec[1].shape[1:] == (10,)


def test_the_images_of_the_other_splits_are_as_they_are():
    plain, changed = digits(), digits(augment=[PadAndCrop(4)])
    assert_equal(run(plain.validation), run(changed.validation))
    first, second = run(plain.train), run(changed.train)
    np.testing.assert_array_equal(first[0][1], second[0][1])
    assert not np.array_equal(first[0][0], second[0][0])


def test_arrays_too_large_to_fit_at_once(monkeypatch):
    options = {"image_size": 20, "channels": 3}
    for ops in ([PadAndCrop(2)], [RandomResizedCrop(20)]):
        at_once = run(digits(augment=ops, **options).train, 2)
        monkeypatch.setattr(pipeline_module, "MEMORY_LIMIT", 0)
        assert_equal(run(digits(augment=ops, **options).train, 2), at_once)
        monkeypatch.undo()


def test_channels_first():
    options = {"augment": [RandomResizedCrop(20)], "image_size": 20, "channels": 3}
    last = run(digits(**options).train, 2)
    keras.config.set_image_data_format("channels_first")
    try:
        data = digits(**options)
        first = run(data.train, 2)
        data.position.seek(0, 1)
        blank, _ = run(data.train, 1)[0]
    finally:
        keras.config.set_image_data_format("channels_last")
    assert blank.shape == (50, 3, 20, 20)
    for (x, _), (y, _) in zip(last, first, strict=True):
        np.testing.assert_array_equal(np.moveaxis(x, -1, 1), y)


def test_the_shorter_side_is_scaled_before_the_centre_is_taken(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    image = np.asarray(Image.fromarray(image).resize((180, 120), Image.Resampling.BICUBIC))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.fromarray(image).save(tmp_path / name / f"{i}.png")
    data = load(tmp_path, image_size=(20, 28), resize_side=32, validation=0, test=0.5)
    scaled = Image.fromarray(image).resize((48, 32), Image.Resampling.BILINEAR)
    centre = np.asarray(scaled)[6:26, 10:38]
    x, _ = run(data.test)[0]
    np.testing.assert_allclose(x[0], centre, atol=1)
    np.testing.assert_array_equal(x[0], fit_image(image, (20, 28), resize_side=32))
    np.testing.assert_array_equal(run(data.train)[0][0][0], x[0])
    same = fit_image(image[:32, :32], 32, resize_side=64)
    assert not np.array_equal(same, image[:32, :32])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": ["flip"]}, "`augment` must have operations of"),
        ({"augment": [Blend(), Noise()]}, "`augment` must have operations for single images first"),
        ({"augment": [Noise(), RandomCrop(28)]}, "`augment` must have the operation that chooses"),
        (
            {"augment": [RandomCrop(24)]},
            r"images of 28 x 28 pixels .*\(24, 24, 1\)",
        ),
        ({"resize_side": 27}, "`resize_side` must be an integer, at least .* 28. Received: 27"),
        ({"resize_side": 32, "resize": "pad"}, "`resize_side` is for resize='crop' only"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        digits(**options)


def test_wrong_shares():
    data = digits()
    for arguments in ((0, 3), (2, 2), (-1, 2)):
        with pytest.raises(ValueError, match="divisor of the batch size 50"):
            data.endless(*arguments)
    with pytest.raises(ValueError, match="at most the 1078 training images"):
        load("digits", batch_size=2000).endless()


# Decoding.


def photograph(height, width, channels=3):
    small = np.random.default_rng(0).integers(0, 256, (9, 12, channels), np.uint8)
    image = Image.fromarray(small if channels > 1 else small[..., 0])
    return image.resize((width, height), Image.Resampling.BICUBIC)


def decoded(content, place, size, channels=3):
    return decode_window(
        tf.constant(content),
        channels,
        lambda height, width: tf.constant(place),
        size,
        lambda: tf.numpy_function(lambda x: decode_image(bytes(x), channels), [content], tf.uint8),
    ).numpy()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(photograph(90, 120), "JPEG", exif=exif)


def upright():
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    return encoded(photograph(90, 120), "JPEG", exif=exif)


KINDS_OF_FILE = (
    "jpeg progressive grey-jpeg exif turned cmyk png grey-png palette alpha transparent 16-bit "
    "gif bmp webp tiff"
)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "content",
    [
        encoded(photograph(90, 120), "JPEG", quality=90),
        encoded(photograph(90, 120), "JPEG", progressive=True, subsampling=0),
        encoded(photograph(90, 120, 1), "JPEG"),
        upright(),
        turned(),
        encoded(photograph(90, 120).convert("CMYK"), "JPEG"),
        encoded(photograph(90, 120)),
        encoded(photograph(90, 120, 1)),
        encoded(photograph(90, 120).convert("P")),
        encoded(photograph(90, 120, 4)),
        encoded(photograph(90, 120), transparency=(0, 0, 0)),
        encoded(Image.fromarray(np.arange(10800, dtype=np.uint16).reshape(90, 120) * 6)),
        encoded(photograph(90, 120), "GIF"),
        encoded(photograph(90, 120), "BMP"),
        encoded(photograph(90, 120), "WEBP", lossless=True),
        encoded(photograph(90, 120), "TIFF"),
    ],
    ids=KINDS_OF_FILE.split(),
)
def test_whole_images_and_windows_are_those_of_pillow(content, channels):
    image = decode_image(content, channels)
    height, width = image.shape[:2]
    # Grey from JPEG is its own luma, without the way through rounded and clipped colours.
    exact = 4 if channels == 1 and content[:2] == b"\xff\xd8" else 0
    whole = decoded(content, (0, 0, height, width), (height, width), channels)
    np.testing.assert_allclose(whole.astype(int), image, atol=exact)
    part = decoded(content, (13, 25, 40, 51), (40, 51), channels)
    np.testing.assert_allclose(part[1:-1, 1:-1].astype(int), image[14:52, 26:75], atol=exact)
    np.testing.assert_allclose(part.astype(int), image[13:53, 25:76], atol=20)
    shrunk = decoded(content, (10, 20, 60, 48), (35, 30), channels)
    expected = resized(tf.constant(image[10:70, 20:68]), (35, 30)).numpy()
    np.testing.assert_allclose(shrunk[1:-1, 1:-1].astype(int), expected[1:-1, 1:-1], atol=3)


@pytest.mark.parametrize("ratio", [2, 4, 8])
def test_the_decoder_shrinks_large_windows(ratio):
    content = encoded(photograph(900, 1200), "JPEG", quality=95)
    size = (800 // ratio - 5, 800 // ratio - 5)
    found = decoded(content, (40, 80, 800, 800), size)
    image = decode_image(content)[40:840, 80:880]
    expected = resized(tf.constant(image), size).numpy()
    np.testing.assert_allclose(found.astype(int), expected, atol=6)


def test_a_broken_image_is_an_error():
    content = encoded(photograph(90, 120), "JPEG")
    for broken in (
        content[: len(content) // 2],
        b"",
        b"\xff\xd8\xff",
        b"text",
        b"\x89PNG\r\n\x1a\n",
    ):
        with pytest.raises((tf.errors.OpError, ValueError)):
            decoded(broken, (0, 0, 90, 120), (9, 9))


# Under `tf.distribute`.

MIRRORED = """
import numpy as np
import tensorflow as tf
from keras_cnn_classics.data import load
from keras_cnn_classics.data.augmentation import PadAndCrop

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"])
with strategy.scope():
    data = load("digits", batch_size=500, augment=[PadAndCrop(2)])
data.position.seek(3, 1)
plain = data.endless().take(6).as_numpy_iterator()
shared = strategy.experimental_distribute_dataset(data.endless())
for (x, y), batch in zip(plain, shared):
    parts = [tf.concat(strategy.experimental_local_results(one), 0) for one in batch]
    np.testing.assert_array_equal(parts[0], x)
    np.testing.assert_array_equal(parts[1], y)
print("equal")
"""


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="`tf.distribute` is for it")
def test_mirrored_replicas_share_each_batch():
    done = subprocess.run([sys.executable, "-c", MIRRORED], capture_output=True, text=True)
    assert done.stdout.strip() == "equal", done.stderr[-2000:]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augment": [PCANoise()]}, r"^PCANoise takes an image with 3 channels"),
        (
            {"image_size": 64, "augment": [RandomResizedCrop(32)]},
            r"^`augment` must give images of 64 x 64 pixels",
        ),
    ],
)
def test_what_an_operation_says_is_said_plainly(settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        load("digits", **settings)
    assert "in user code" not in str(caught.value)
