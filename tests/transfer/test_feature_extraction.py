"""Features are computed once for each image, and kept."""

import os

import keras
import numpy as np
import pytest

from keras_cnn_classics.transfer import FeatureExtraction, feature_extraction, responses
from tests.marks import slow_compiled
from tests.transfer.networks import X_OLD, Y_OLD, X, Y, network
from tests.transfer.test_recorded import data_set, dropping

tf = pytest.importorskip("tensorflow")


def extraction(cache, seed=0, **kwargs):
    found = FeatureExtraction(network(seed=seed, dropout=0.0), 3, cache=cache, **kwargs)
    found.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
    return found


def images_in(file):
    return len(responses._snapshot.read(file)["digests"])


@pytest.mark.parametrize("kind", [slow_compiled("array"), "dataset"])
def test_features_are_computed_once_and_kept(tmp_path, kind, monkeypatch):
    data = (X, Y) if kind == "array" else (data_set(reshuffle=False),)

    def trained(cache):
        found = extraction(cache)
        keras.utils.set_random_seed(2)
        found.fit(*data, epochs=3, verbose=0, shuffle=kind == "array")
        return found

    first = trained(tmp_path)
    files = list(tmp_path.iterdir())
    assert [file.suffix for file in files] == [".npz"]
    answering = responses.answering
    gone = lambda model: lambda images: pytest.fail("the features should be there")  # noqa: E731
    monkeypatch.setattr(responses, "answering", gone)
    second = trained(tmp_path)
    monkeypatch.setattr(responses, "answering", answering)
    through = trained(False)
    weights = first.network.get_layer("new_predictions").get_weights()
    for one in (second, through):
        found = one.network.get_layer("new_predictions").get_weights()
        for a, b in zip(weights, found, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow_compiled
def test_a_stale_or_damaged_cache(tmp_path):
    file = tmp_path / "features.npz"

    def fit(seed):
        extraction(file, seed).fit(X, Y, verbose=0)

    fit(0)
    fit(0)
    with pytest.raises(ValueError, match=r"features.npz holds the features of another network"):
        fit(1)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"holds no features, or is damaged.*delete it"):
        fit(0)


def test_a_cache_that_is_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "folder.npz").mkdir()
    for name, kind in (("notes.txt", "file"), ("folder.npz", "folder")):
        with pytest.raises(ValueError, match=rf"a folder, or .* Received: the {kind} .*{name}"):
            extraction(tmp_path / name).fit(X, Y, verbose=0)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_batches_that_leave_out_other_images_each_time(tmp_path):
    file = tmp_path / "f.npz"
    found = extraction(file)
    history = found.fit(dropping(), epochs=2, verbose=0, validation_data=dropping(9))
    assert np.isfinite(history.history["val_loss"]).all()
    assert 44 <= images_in(file) <= 46


@pytest.mark.slow_compiled
@pytest.mark.parametrize("kind", ["arrays", "data set"])
def test_weights_and_validation_data(kind):
    weights = np.linspace(0, 2, len(X)).astype("float32")
    whole = tf.data.Dataset.from_tensor_slices((X, Y, weights)).batch(12)
    validation = (-X, Y, weights) if kind == "data set" else whole
    logs = []
    for cache in (None, False):
        found = extraction(cache)
        options = {"validation_data": validation, "verbose": 0, "shuffle": False}
        if kind == "arrays":
            history = found.fit(X, Y, sample_weight=weights, batch_size=12, **options)
        else:
            history = found.fit(whole, **options)
        logs.append(history.history)
    for name, values in logs[0].items():
        np.testing.assert_allclose(values, logs[1][name], rtol=1e-4, err_msg=name)


@pytest.mark.slow_compiled
def test_nothing_of_no_use_is_kept(tmp_path, monkeypatch):
    file = tmp_path / "f.npz"
    found = extraction(file)
    found.fit(data_set(change=True), verbose=0, shuffle=False)
    assert not file.exists()
    found.fit(X, Y, verbose=0)
    assert images_in(file) == len(X)
    written = file.stat().st_mtime_ns
    found.fit(X[:20], Y[:20], verbose=0)
    assert file.stat().st_mtime_ns == written
    found.fit(X_OLD, Y_OLD % 3, verbose=0)
    assert images_in(file) == len(X) + len(X_OLD)
    monkeypatch.setattr(feature_extraction, "_LIMIT", 100)
    found.fit(-X[:20], Y[:20], verbose=0, validation_data=(X_OLD[:5], Y_OLD[:5] % 3))
    assert images_in(file) == 25


@pytest.mark.slow_compiled
def test_old_files_in_the_folder_of_keras_are_deleted(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for name in "ab":
        old = tmp_path / "features" / f"{name}.npz"
        old.parent.mkdir(exist_ok=True)
        old.write_bytes(bytes(50_000))
        os.utime(old, (0, ord(name)))
    monkeypatch.setattr(feature_extraction, "_LIMIT", 80_000)
    extraction(tmp_path / "features").fit(X[:40], Y[:40], verbose=0)
    assert len(list(old.parent.iterdir())) == 3  # a folder that is named is the user's own
    extraction(True).fit(X, Y, verbose=0)
    names = {file.name for file in old.parent.iterdir()}
    assert len(names) == 2
    assert "b.npz" in names


@pytest.mark.slow_compiled
def test_a_damaged_file_in_the_folder_of_keras_is_made_anew(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    extraction(True).fit(X, Y, verbose=0)
    (file,) = (tmp_path / "features").iterdir()
    file.write_bytes(b"damaged")
    extraction(True).fit(X, Y, verbose=0)
    assert "or is damaged" in caplog.text
    assert images_in(file) == len(X)


@pytest.mark.slow_compiled
def test_other_weights_have_other_features(tmp_path):
    file = str(tmp_path / "other.weights.h5")
    extraction(None, seed=1).save_weights(file)
    losses = []
    for one in (extraction(None), extraction(False)):
        one.fit(X, Y, verbose=0)
        one.load_weights(file)
        keras.utils.set_random_seed(2)
        losses += one.fit(X, Y, batch_size=len(X), verbose=0).history["loss"]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_a_task_may_have_any_name():
    model = network()
    first = FeatureExtraction(model, 3, "features", old_task="answers", cache=None)
    first.compile("sgd")
    first.fit(X, Y, verbose=0)
    found = first.predict(X, verbose=0)
    assert sorted(found) == ["answers", "features"]
    assert found["features"].shape == (len(X), 3)
    np.testing.assert_allclose(found["answers"], model.predict(X, verbose=0), atol=1e-6)
