"""The digits, TFDS sets, arguments and preprocessing."""

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from keras_cnn_classics.data import decode_image, fit_image, load, tfds_builders
from keras_cnn_classics.data.pipeline import Batching, _examples
from keras_cnn_classics.data.position import Position
from keras_cnn_classics.data.sources import Source, Stream, check_labels, narrowed, with_classes

DATA_DIR = os.environ.get("KCC_DATA_DIR")
needs_data = pytest.mark.skipif(not DATA_DIR, reason="KCC_DATA_DIR is not set")


def arrays(dataset):
    found = zip(*dataset.as_numpy_iterator(), strict=True)
    return tuple(np.concatenate(part) for part in found)


def test_digits_look_like_mnist():
    data = load("digits")
    assert data.class_names == tuple("0123456789")
    assert data.image_shape == (28, 28, 1)
    assert data.sizes == {"train": 1078, "validation": 120, "test": 599}
    images, labels = arrays(data.test)
    assert (images.dtype, labels.dtype) == (np.float32, np.int32)
    assert images.max() == 255
    assert images[:, :2].max() == images[:, -2:].max() == images[:, :, :2].max() == 0
    assert images[:, :, -2:].max() == 0
    assert set(np.bincount(labels)) <= {58, 59, 60, 61}
    everything = np.concatenate([images, arrays(data.train)[0], arrays(data.validation)[0]])
    assert len(np.unique(everything.reshape(1797, -1), axis=0)) == 1797


def test_digits_test_split_is_fixed_and_training_is_seeded():
    one, same = load("digits", seed=1), load("digits", seed=1)
    other = load("digits", seed=2, test=0.5)
    for x, y in zip(arrays(one.test), arrays(other.test), strict=True):
        np.testing.assert_array_equal(x, y)
    epochs = [[arrays(data.train)[0] for _ in range(2)] for data in (one, same, other)]
    np.testing.assert_array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0][0], epochs[0][1])
    assert not np.array_equal(epochs[0][0], epochs[2][0])
    np.testing.assert_array_equal(arrays(one.validation)[0], arrays(same.validation)[0])
    assert not np.array_equal(arrays(one.validation)[0], arrays(other.validation)[0])


def test_class_names_reorder_labels():
    reverse = load("digits", class_names="9876543210")
    assert reverse.class_names == tuple("9876543210")
    labels = arrays(load("digits").test)[1]
    np.testing.assert_array_equal(arrays(reverse.test)[1], 9 - labels)


def test_some_classes_only():
    images, labels = arrays(load("digits").test)
    data = load("digits", only=[7, "3", 4], class_names="437", validation=0)
    assert data.class_names == tuple("437")
    assert data.sizes == {"train": 362, "validation": 0, "test": 181}
    ours, ours_labels = arrays(data.test)
    chosen = np.isin(labels, (3, 4, 7))
    np.testing.assert_array_equal(ours, images[chosen])
    np.testing.assert_array_equal(np.array([4, 3, 7])[ours_labels], labels[chosen])


def test_some_classes_of_a_stream():
    import tensorflow as tf

    labels = np.array([2, 0, 1, 2, 1, 0], np.int32)
    stream = Stream(lambda: tf.data.Dataset.from_tensor_slices((np.arange(6), labels)), 6)
    source = narrowed(Source("s", ("a", "b", "c"), (1, 1, 1), stream), ["c", "b"])
    assert source.class_names == ("c", "b")
    assert len(source.train) == 4
    np.testing.assert_array_equal(source.train.labels, [0, 1, 0, 1])
    source = with_classes(source, ["b", "c"])
    found = [(int(i), int(label)) for i, label in _examples(source.train)]
    assert found == [(0, 1), (2, 0), (3, 1), (4, 0)]


def test_pad_and_channels():
    plain, _ = arrays(load("digits").test)
    padded, _ = arrays(load("digits", image_size=32, resize="pad", channels=3).test)
    assert padded.shape == (599, 32, 32, 3)
    np.testing.assert_array_equal(padded[:, 2:30, 2:30], np.repeat(plain, 3, -1))
    assert padded.sum() == 3 * plain.sum()


def test_fitting_by_the_batch_is_the_same(monkeypatch):
    from keras_cnn_classics.data import pipeline

    at_once, _ = arrays(load("digits", image_size=(20, 40)).test)
    monkeypatch.setattr(pipeline, "MEMORY_LIMIT", 0)
    by_batch, _ = arrays(load("digits", image_size=(20, 40)).test)
    assert by_batch.shape == (599, 20, 40, 1)
    np.testing.assert_array_equal(at_once, by_batch)


def test_preprocess():
    plain, _ = arrays(load("digits").test)
    lenet, _ = arrays(load("digits", preprocess="lenet").test)
    np.testing.assert_allclose(lenet, plain * (1.275 / 255) - 0.1, atol=1e-6)
    halved, _ = arrays(load("digits", preprocess=lambda x: x / 2).test)
    np.testing.assert_array_equal(halved, plain / 2)
    with pytest.raises(ValueError, match="`mode` must be one of"):
        load("digits", preprocess="lenett")


def test_channels_first():
    last, _ = arrays(load("digits", preprocess="caffe", channels=3).test)
    keras.config.set_image_data_format("channels_first")
    try:
        data = load("digits", preprocess="caffe", channels=3)
        first, _ = arrays(data.test)
    finally:
        keras.config.set_image_data_format("channels_last")
    assert data.image_shape == (3, 28, 28)
    np.testing.assert_array_equal(first, np.moveaxis(last, -1, 1))


def test_a_stream_is_selected_relabelled_and_shuffled(tmp_path):
    import tensorflow as tf

    encoded = []
    for number in range(20):
        path = tmp_path / "image.png"
        Image.new("RGB", (4 + number, 9), (number, 0, 0)).save(path)
        encoded.append(path.read_bytes())
    labels = np.arange(20) % 2
    stream = Stream(lambda: tf.data.Dataset.from_tensor_slices((encoded, labels)), 20)
    some = stream.select(np.arange(5, 20)).select(np.arange(10)).relabel(np.array([1, 0], np.int32))
    assert len(some) == 10
    batching = Batching((6, 6), 3, "stretch", 4, None)
    images, marks = arrays(batching.dataset(some))
    assert images[:, 0, 0, 0].tolist() == list(range(5, 15))
    assert marks.tolist() == [1 - number % 2 for number in range(5, 15)]
    assert len(batching.dataset(some)) == 3
    shuffled = [batching.training(some, 1, Position(3))() for _ in range(2)]
    orders = [[arrays(part)[0][:, 0, 0, 0].tolist() for _ in range(2)] for part in shuffled]
    assert orders[0] == orders[1]
    assert orders[0][0] != orders[0][1]
    assert sorted(orders[0][0]) == list(range(5, 15))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 1.0}, "`validation` must be at least 0 and below 1. Received: 1.0"),
        ({"test": -0.1}, "`test` must be"),
        ({"batch_size": 0}, "`batch_size` must be an integer, at least 1"),
        ({"seed": -1}, "`seed` must be an integer from 0"),
        ({"resize": "croop"}, "`resize` must be one of"),
        ({"on_bad_image": "ignore"}, "`on_bad_image` must be 'skip' or 'error'"),
        ({"channels": 4}, r"`channels` must be 1 \(grey\) or 3"),
        ({"image_size": (3,)}, "`image_size` must be"),
        ({"validation": 0.999}, "'0' of 'digits' has .* too few"),
        ({"class_names": "012345678"}, r"Unexpected: \['9'\]"),
        ({"only": ["ten"]}, r"`only` must have classes of 'digits', each once.*\['ten'\]"),
        ({"only": [3, "3"]}, "`only` must"),
        ({"only": "34"}, "`only` must"),
        ({"only": []}, "`only` must"),
        ({"only": [10]}, "number from 0 to 9"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        load("digits", **options)


def test_unknown_names_are_helped():
    with pytest.raises(ValueError, match=r"'mnits'.*Did you mean 'mnist'.*folder that exists"):
        load("mnits")
    with pytest.raises(ValueError, match="Did you mean 'digits'"):
        load("digit")


def test_names_come_before_folders_without_a_separator(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "digits" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (2, 2), i).save(tmp_path / "digits" / name / f"{i}.png")
    assert len(load("digits").class_names) == 10
    assert load("./digits", validation=0).class_names == ("a", "b")
    assert load(Path("digits"), validation=0).class_names == ("a", "b")
    (tmp_path / "digits").rename("letters")
    assert load("letters", validation=0).class_names == ("a", "b")


@pytest.mark.parametrize("way", ["offline", "no download", "no host"])
def test_unprepared_sets_fail_quickly_and_leave_nothing(tmp_path, monkeypatch, way):
    monkeypatch.setattr(tfds_builders, "_reachable", lambda host: False)
    if way == "offline":
        monkeypatch.setenv("KCC_OFFLINE", "1")
    start = time.monotonic()
    with pytest.raises(ConnectionError, match=r"'mnist' is not prepared in .*`data_dir`"):
        load("mnist", data_dir=tmp_path / "tfds", download=way != "no download")
    assert time.monotonic() - start < 10
    assert not list(tmp_path.iterdir())


def test_a_failed_download_leaves_only_what_was_there(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    others = tmp_path / "downloads" / "other.zip"
    others.parent.mkdir()
    others.write_text("of another set")
    monkeypatch.delenv("KCC_OFFLINE")

    def interrupted(self):
        (tmp_path / "downloads" / "half.zip").write_text("half")
        (tmp_path / "mnist" / "3.0.1.incomplete").mkdir(parents=True)
        raise OSError("the line is dead")

    monkeypatch.setattr(tfds_builders, "_reachable", lambda host: True)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", interrupted)
    with pytest.raises(ConnectionError, match="the line is dead"):
        load("mnist", data_dir=tmp_path)
    assert sorted(tmp_path.rglob("*")) == [others.parent, others]


def test_an_unreachable_host_is_found_out():
    # Port 9 of this machine refuses connections.
    assert not tfds_builders._reachable("http://127.0.0.1:9")


def test_tfds_names_that_cannot_be_used(tmp_path):
    with pytest.raises(
        ValueError, match=r"'image' .* and 'label'.*'iris' with 'features', 'label'"
    ):
        load("iris", data_dir=tmp_path)
    with pytest.raises(ValueError, match=r"TFDS cannot open 'mnist:9.9.9'"):
        load("mnist:9.9.9", data_dir=tmp_path)


def test_importing_is_light():
    code = (
        "import sys, keras_cnn_classics.data as data; data.load; "
        "print([m for m in ('tensorflow', 'keras', 'sklearn', 'PIL', 'tensorflow_datasets') "
        "if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.slow
@needs_data
def test_mnist(monkeypatch):
    options = {"data_dir": f"{DATA_DIR}/tfds", "batch_size": 1000, "download": False}
    data = load("mnist", **options)
    assert data.sizes == {"train": 54000, "validation": 6000, "test": 10000}
    assert data.class_names == tuple("0123456789")
    images, labels = arrays(data.test)
    assert images.shape == (10000, 28, 28, 1)
    assert labels.min() == 0
    assert labels.max() == 9
    # Read image by image, as sets are that do not fit into memory, it is the same.
    monkeypatch.setattr(tfds_builders, "MEMORY_LIMIT", 0)
    streamed = load("mnist:3.0.1", **options)
    pairs = ((data.test, streamed.test), (data.validation, streamed.validation))
    for in_memory, stream in pairs:
        for x, y in itertools.islice(zip(in_memory, stream, strict=True), 2):
            np.testing.assert_array_equal(x[0], y[0])
            np.testing.assert_array_equal(x[1], y[1])
    # Each training image comes once, and again where it came.
    batches = list(streamed.train.as_numpy_iterator())
    counted = np.bincount(np.concatenate([labels for _, labels in batches]))
    labels = np.concatenate([labels for _, labels in data.train.as_numpy_iterator()])
    np.testing.assert_array_equal(counted, np.bincount(labels))
    streamed.position.seek(0, 53)
    sought = list(streamed.train.skip(53).as_numpy_iterator())
    for one, other in zip(sought, batches[53:], strict=True):
        np.testing.assert_array_equal(one[0], other[0])


@needs_data
def test_flowers(tmp_path):
    flowers = Path(DATA_DIR) / "flowers5"
    for name in ("daisy", "rose"):
        (tmp_path / name).mkdir()
        for path in sorted((flowers / name).iterdir())[:10]:
            (tmp_path / name / path.name).symlink_to(path)
    data = load(tmp_path, image_size=64, batch_size=4)
    assert data.sizes == {"train": 14, "validation": 2, "test": 4}
    images, _ = arrays(data.test)
    possible = [fit_image(decode_image(path), 64) for path in tmp_path.glob("*/*")]
    assert all(any(np.array_equal(image, one) for one in possible) for image in images)


def test_labels_outside_the_classes_are_refused():
    labels = np.array([0, 2, -1, -1, 1], np.int32)
    with pytest.raises(ValueError, match=r"from 0 to 2. Received 2 others in the split 'test'"):
        check_labels(labels, ["a", "b", "c"], "test")
    assert check_labels(labels[:2], ["a", "b", "c"], "test").tolist() == [0, 2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch_size": 2.5}, "`batch_size` must be an integer"),
        ({"seed": None}, "`seed` must be an integer"),
        ({"validation": None}, "`validation` must be at least 0"),
        ({"preprocess": "foo"}, "`mode` must be one of"),
        ({"preprocess": "caffe"}, "for 3 channels"),
        ({"preprocess": 5}, "a function"),
        ({"source": None}, "`source` must be"),
        ({"source": ""}, "`source` must be"),
    ],
)
def test_arguments_of_another_kind(arguments, words):
    with pytest.raises(ValueError, match=words) as caught:
        load(**{"source": "digits", **arguments})
    assert "Received" in str(caught.value)
