"""The contact sheet: what stands where, and what is refused."""

import numpy as np
import pytest
import tensorflow as tf

from keras_cnn_classics.data import contact_sheet, load

GAP, LINE = 4, 14


def test_cells_stand_row_by_row():
    images = np.random.default_rng(0).integers(0, 256, (7, 70, 90, 3)).astype(np.uint8)
    sheet = np.asarray(contact_sheet(images, 2, 3))
    assert sheet.shape == (2 * 74 + GAP, 3 * 94 + GAP, 3)
    for i in range(6):
        top, left = GAP + i // 3 * 74, GAP + i % 3 * 94
        np.testing.assert_array_equal(sheet[top : top + 70, left : left + 90], images[i])
    assert (sheet[:GAP] == 255).all()
    few = np.asarray(contact_sheet(images[:1], 1, 2))
    assert (few[:, 94 + GAP :] == 255).all()


def test_small_and_uneven_images():
    """They are enlarged by a whole number, grey is shown as RGB, and each is centred."""
    grey, tall = np.full((16, 8, 1), 9, np.uint8), np.full((20, 4, 1), 77, np.float32)
    sheet = np.asarray(contact_sheet([grey, tall], 1, 2))
    assert sheet.shape == (20 * 4 + 2 * GAP, 2 * (8 * 4 + GAP) + GAP, 3)
    cell = sheet[GAP : GAP + 80, GAP : GAP + 32]
    assert (cell[8:72] == 9).all()
    assert (cell[:8] == 0).all()
    second = sheet[GAP : GAP + 80, 2 * GAP + 32 : -GAP]
    assert (second[:, 8:24] == 77).all()
    assert (second[:, :8] == 0).all()


def test_classes_are_written_below():
    data = load("digits", batch_size=4)
    sheet = np.asarray(contact_sheet(data.test, 2, 5, data.class_names))
    assert sheet.shape[0] == 2 * (28 * 3 + LINE + GAP) + GAP
    text = sheet[GAP + 84 : GAP + 84 + LINE, GAP : GAP + 84]
    assert (text < 128).any()
    # A mixed label is written with its two greatest shares: longer than one class.
    image = np.zeros((1, 200, 200, 3), np.uint8)

    def ink(label):
        sheet = contact_sheet([(image, np.array([label]))], 1, 1, ("cat", "dog", "cow"))
        return (np.asarray(sheet)[GAP + 200 : -GAP] < 128).sum()

    assert ink(2) == ink([0, 0, 1])
    assert ink([0.3, 0.7, 0.0]) > ink([0, 1, 0])


def test_only_what_is_shown_is_read():
    seen = []

    def images():
        for i in range(100):
            seen.append(i)
            yield np.zeros((8, 8, 3), np.uint8)

    contact_sheet(images(), 2, 2)
    assert len(seen) == 4
    contact_sheet(tf.data.Dataset.from_tensors(tf.zeros((8, 8, 3), tf.uint8)).repeat(), 1, 1)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([], "at least one image"),
        (np.zeros((2, 8, 8, 3)) - 1, "before they are preprocessed"),
        (np.full((2, 8, 8, 3), 0.5), "before they are preprocessed"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"\[4\] channels"),
        (np.zeros((8, 8), np.uint8), "Received: shape"),
    ],
)
def test_refusals(images, words):
    with pytest.raises(ValueError, match=words):
        contact_sheet(images, 2, 2)


def test_an_empty_grid_is_refused():
    with pytest.raises(ValueError, match="rows=0"):
        contact_sheet(np.zeros((2, 8, 8, 3), np.uint8), 0, 2)
