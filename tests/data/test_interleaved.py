"""Batches of several tasks in turn."""

import keras
import numpy as np
import pytest

from keras_cnn_classics.data.batches.interleaved import interleaved
from tests.transfer.networks import X_OLD, Y_OLD, X, Y

OLD, NEW = (X_OLD, Y_OLD, None), (X, Y, None)
HOT = np.eye(3, dtype="float32")[Y]


def data_set(*arrays, batch=10, remainder=True):
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices(arrays)
    return data.batch(batch, drop_remainder=not remainder), None, None


def parts(batch):
    """The images, labels and weights of a batch, and its task."""
    x, y, w = batch
    (task,) = (task for task, weights in w.items() if np.asarray(weights).any())
    assert np.asarray(x).dtype == keras.config.floatx()
    assert {len(x)} == {len(one) for part in (y, w) for one in part.values()}
    return task, np.asarray(x), np.asarray(y[task]), np.asarray(w[task])


def same(one, other):
    np.testing.assert_array_equal(np.sort(one.ravel()), np.sort(other.ravel()))


@pytest.mark.parametrize("kind", ["arrays", "data sets"])
def test_tasks_take_turns(kind):
    if kind == "arrays":
        batches = interleaved({"old": OLD, "new": NEW}, 10, seed=4)
        found = [batches[i] for i in range(len(batches))]
    else:  # the old one in batches of another size
        sources = {"old": data_set(X_OLD, Y_OLD, batch=7), "new": data_set(X, Y)}
        batches = interleaved(sources, 32)
        found = list(batches)
        assert len(batches) == len(found)
    tasks, images, labels, weights = zip(*(parts(batch) for batch in found), strict=True)
    assert tasks == ("old", "new") * 5
    # As many images of each as the new one has, in batches of the same size.
    assert [len(one) for one in images] == [10] * 8 + [8] * 2
    same(np.concatenate(images[1::2]), X)
    assert all((one == 1).all() for one in weights)
    pairs = {x.tobytes(): y for x, y in zip([*X, *X_OLD], [*Y, *Y_OLD], strict=True)}
    for x, y in zip(images, labels, strict=True):
        assert [pairs[one.tobytes()] for one in x] == y.tolist()
    if kind == "arrays":
        batches.epoch = 1
        after = [parts(batches[i])[1] for i in range(len(batches))]
        assert not np.array_equal(images[1], after[1])
        # 48 images of the 40 old ones were shown, and the next epoch goes on where it ended.
        same(np.concatenate(images[::2])[:40], X_OLD)
        same(np.concatenate([*images[::2], *after[::2]])[40:80], X_OLD)


@pytest.mark.parametrize("kind", ["arrays", "data sets"])
def test_labels_have_the_forms_of_their_tasks(kind):
    several = np.stack([Y_OLD > 1, Y_OLD > 2, Y_OLD > 0, Y_OLD > 2], 1).astype("float32")
    if kind == "arrays":
        sources = {"a": (X_OLD, several, None), "b": (X_OLD, Y_OLD[:, None], None)}
        sources["new"] = (X, HOT, None)
    else:
        sources = {"a": data_set(X_OLD, several), "b": data_set(X_OLD, Y_OLD[:, None])}
        sources["new"] = data_set(X, HOT)
    batches = interleaved(sources, 10)
    found = [parts(batches[i]) for i in range(3)] if kind == "arrays" else None
    found = found or [parts(batch) for batch in batches.take(3)]
    for (_, _, labels, _), expected in zip(found, (several, Y_OLD[:, None], HOT), strict=True):
        np.testing.assert_array_equal(labels, expected[:10])


@pytest.mark.parametrize("kind", ["arrays", "data sets"])
@pytest.mark.parametrize("labels", [Y, Y[:, None], HOT], ids=["numbers", "column", "one-hot"])
def test_classes_of_the_last_task_have_weights(kind, labels):
    make = data_set if kind == "data sets" else lambda x, y: (x, y, None)
    sources = {"old": make(X_OLD, Y_OLD), "new": make(X, labels)}
    batches = interleaved(sources, 10, class_weight={0: 100, 2: 0.5})
    found = [parts(batches[i]) for i in range(2)] if kind == "arrays" else None
    (_, _, _, old), (_, _, _, new) = found or [parts(batch) for batch in batches.take(2)]
    assert (old == 1).all()
    np.testing.assert_array_equal(new, np.array([100, 1, 0.5], "float32")[Y[:10]])


@pytest.mark.parametrize("kind", ["arrays", "data sets"])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_images_have_weights(kind, shape):
    weights = np.linspace(1, 2, 48).reshape(shape)
    sources = {"old": (X_OLD, Y_OLD, None), "new": (X, Y, weights)}
    if kind == "data sets":
        sources = {"old": data_set(X_OLD, Y_OLD), "new": data_set(X, Y, weights)}
    batches = interleaved(sources, 10)
    batch = batches[1] if kind == "arrays" else list(batches.take(2))[1]
    np.testing.assert_allclose(parts(batch)[3], weights.ravel()[:10], rtol=1e-6)
    with pytest.raises(ValueError, match="class_weight or sample weights, and not both"):
        interleaved(sources, 10, class_weight={0: 1.0})


def test_steps_of_arrays():
    batches = interleaved({"old": OLD, "new": NEW}, 10, steps=3)
    assert len(batches) == 6
    shown = []
    for batches.epoch in range(2):
        shown += [parts(batches[i])[1] for i in (1, 3, 5)]
    np.testing.assert_array_equal(np.concatenate(shown), np.concatenate([X, X[:12]]))


def test_data_sets_without_an_end():
    pytest.importorskip("tensorflow")
    old, new = data_set(X_OLD, Y_OLD)[0].repeat(), data_set(X, Y)[0].repeat()
    sources = {"old": (old, None, None), "new": (new, None, None)}
    with pytest.raises(ValueError, match="no end: give steps_per_epoch, or leave their repeat"):
        interleaved(sources, 10)
    tasks = [parts(batch)[0] for batch in interleaved(sources, 10, steps=6).take(12)]
    assert tasks == ["old", "new"] * 6
    sources["new"] = data_set(X, Y)  # an end of the new ones is enough
    assert len(list(interleaved(sources, 10))) == 10


def test_batches_of_any_size():
    """Also those that are larger than the first."""
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices((X, Y)).filter(lambda x, y: True)
    uneven = data.take(4).batch(4).concatenate(data.skip(4).batch(22))
    sources = {"old": data_set(X_OLD, Y_OLD), "new": (uneven, None, None)}
    found = [parts(batch) for batch in interleaved(sources, 10)]
    assert [len(images) for _, images, *_ in found] == [4, 4, 22, 22, 22, 22]


def test_sources_that_do_not_fit():
    with pytest.raises(ValueError, match="images of 'old' need labels"):
        interleaved({"old": (X_OLD, None, None), "new": NEW}, 10)
    with pytest.raises(ValueError, match=r"each of the 48 images of 'new'.*\(47,\)"):
        interleaved({"old": OLD, "new": (X, Y, np.ones(47))}, 10)


def test_data_sets_that_do_not_fit():
    tf = pytest.importorskip("tensorflow")
    good = data_set(X, Y)
    with pytest.raises(ValueError, match=r"all be arrays.*Received: ndarray, .*BatchDataset"):
        interleaved({"old": OLD, "new": good}, 10)
    with pytest.raises(ValueError, match="'old' must give labels and weights itself"):
        interleaved({"old": (good[0], Y, None), "new": good}, 10)
    with pytest.raises(ValueError, match=r"'new' must give \(images, labels\)"):
        interleaved({"old": good, "new": (good[0].map(lambda x, y: x), None, None)}, 10)
    nothing = tf.data.Dataset.from_tensor_slices((X, Y)).filter(lambda x, y: False).batch(10)
    with pytest.raises(ValueError, match=r"new images to learn from\. Received: none"):
        interleaved({"old": good, "new": (nothing, None, None)}, 10)
