"""Folders of images: layouts, splits, bad files."""

import logging
import os

import numpy as np
import pytest
from PIL import Image

from keras_cnn_classics.data import load
from keras_cnn_classics.data.images import fault


def fill(folder, count, start):
    """Images of one colour each; the red and green channels hold a number of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        Image.new("RGB", (8, 8), (number % 256, number // 256, 7)).save(folder / f"{number}.png")


def numbers(dataset):
    """The numbers of a split's images, in its order, and their labels."""
    found = [(images[:, 0, 0], labels) for images, labels in dataset.as_numpy_iterator()]
    pixels, labels = (np.concatenate(part) for part in zip(*found, strict=True))
    return (pixels[:, 0] + 256 * pixels[:, 1]).astype(int).tolist(), labels.tolist()


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(("cat", "ant", "bee")):
        fill(tmp_path / "animals" / name, 20, 100 * i)
    return tmp_path / "animals"


def small(folder, **options):
    return load(folder, image_size=8, batch_size=7, **options)


def test_splits_are_disjoint_complete_and_stratified(folder):
    data = small(folder)
    assert data.name == "animals"
    assert data.class_names == ("ant", "bee", "cat")
    assert data.image_shape == (8, 8, 3)
    assert data.sizes == {"train": 42, "validation": 6, "test": 12}
    parts = [numbers(part) for part in (data.train, data.validation, data.test)]
    every = sorted(number for found, _ in parts for number in found)
    assert every == [*range(20), *range(100, 120), *range(200, 220)]
    for found, labels in parts:
        assert labels == [(2, 0, 1)[number // 100] for number in found]
        assert len(set(np.bincount(labels))) == 1
    # Whatever order the file system lists them in, files are taken by name.
    found, labels = parts[2]
    pairs = list(zip(labels, map(str, found), strict=True))
    assert pairs == sorted(pairs)


def test_the_seed_decides_everything(folder):
    def run(seed):
        data = small(folder, seed=seed)
        return [numbers(data.train) for _ in range(2)], numbers(data.test), numbers(data.validation)

    first, again, other = run(3), run(3), run(4)
    assert first == again
    assert first[0][0] != first[0][1]
    assert sorted(first[0][0][0]) == sorted(first[0][1][0])
    assert set(first[1][0]) != set(other[1][0])


def test_no_fraction_no_split(folder):
    data = small(folder, validation=0, test=0)
    assert (data.validation, data.test) == (None, None)
    assert data.sizes == {"train": 60, "validation": 0, "test": 0}


@pytest.mark.parametrize("name", ["validation", "val"])
def test_own_splits(tmp_path, name):
    for i, split in enumerate(("train", name, "test")):
        for j, animal in enumerate(("ant", "bee")):
            fill(tmp_path / split / animal, 4, 100 * i + 10 * j)
    data = small(tmp_path)
    assert data.sizes == {"train": 8, "validation": 4 * 2, "test": 8}
    assert set(numbers(data.validation)[0]) == {*range(100, 104), *range(110, 114)}
    assert set(numbers(data.test)[0]) == {*range(200, 204), *range(210, 214)}
    fill(tmp_path / "test" / "wasp", 1, 0)
    with pytest.raises(ValueError, match="'wasp'"):
        small(tmp_path)


def test_a_lone_validation_split_serves_as_test(tmp_path):
    for i, split in enumerate(("train", "val")):
        for j, animal in enumerate(("ant", "bee")):
            fill(tmp_path / split / animal, 10, 100 * i + 10 * j)
    data = small(tmp_path)
    assert data.sizes == {"train": 18, "validation": 2, "test": 20}
    assert min(numbers(data.test)[0]) == 100


def test_a_class_may_be_called_train(tmp_path):
    for i, name in enumerate(("train", "tram")):
        fill(tmp_path / name, 5, 10 * i)
    assert small(tmp_path).class_names == ("train", "tram")


def test_class_names_give_the_labels(folder):
    data = small(folder, class_names=["bee", "cat", "ant"])
    assert data.class_names == ("bee", "cat", "ant")
    for part in (data.train, data.validation, data.test):
        found, labels = numbers(part)
        assert labels == [(1, 2, 0)[number // 100] for number in found]
    with pytest.raises(ValueError, match=r"Unexpected: \['cat'\]; missing: \['dog'\]"):
        small(folder, class_names=["ant", "bee", "dog"])


def test_bad_files_are_named_and_left_out(folder, caplog):
    (folder / "ant" / "text.jpg").write_text("no image")
    (folder / "ant" / "empty.png").write_bytes(b"")
    (folder / "bee" / "notes.txt").write_text("no image")
    (folder / "bee" / ".DS_Store").write_text("hidden")
    whole = (folder / "cat" / "1.png").read_bytes()
    (folder / "cat" / "cut.PNG").write_bytes(whole[: len(whole) // 2])
    with caplog.at_level(logging.WARNING, "keras_cnn_classics"):
        data = small(folder)
    assert len(caplog.records) == 1
    assert "4 bad image file(s)" in caplog.text
    names = [os.path.basename(path) for path in data.skipped]
    assert names == ["empty.png", "text.jpg", "notes.txt", "cut.PNG"]
    assert sum(data.sizes.values()) == 60
    with pytest.raises(ValueError, match=r"4 bad image file.*text\.jpg"):
        small(folder, on_bad_image="error")


def test_folder_errors(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*missing"):
        load(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match=r"no folder .*missing"):
        load(str(tmp_path / "missing"))
    bare = tmp_path / "bare"
    bare.mkdir()
    with pytest.raises(ValueError, match="one folder of images per class"):
        load(bare)
    fill(bare / "one", 3, 0)
    with pytest.raises(ValueError, match=r"at least two classes .*'one'"):
        load(bare)
    fill(bare / "two", 1, 0)
    with pytest.raises(ValueError, match="'two' of 'bare' has 1 image"):
        load(bare)
    (folder / "dog").mkdir()
    with pytest.raises(ValueError, match="dog' is empty"):
        load(folder)
    (folder / "dog" / "dog.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"No file of .*dog' can be read.*dog\.jpg"):
        load(folder)


def test_a_file_lost_during_training_is_named(folder):
    import tensorflow as tf

    data = small(folder, validation=0, test=0)
    (folder / "ant" / "100.png").unlink()
    with pytest.raises(tf.errors.OpError, match=r"ant/100\.png"):
        numbers(data.train)


def test_grey_and_default_size(folder):
    data = load(folder, channels=1)
    assert data.image_shape == (224, 224, 1)
    images, _ = next(data.test.as_numpy_iterator())
    assert images.shape[1:] == (224, 224, 1)
    assert images.dtype == np.float32


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a regular file" in fault(str(tmp_path / "pipe.png"))
