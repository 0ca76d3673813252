"""Runs: what is kept, what is measured, what is chosen."""

import contextlib
import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics.training import Checkpoints, Recipe, loss_for, losses, run

SETTINGS = Recipe("a test", "adamw", 3e-3, 0.0, 64, 2, "pad", "a test")


@pytest.fixture(scope="module")
def digits():
    return kcc.data.load(
        "digits", image_size=32, batch_size=64, resize="pad", preprocess="lenet", validation=0.1
    )


def relu_lenet():
    keras.utils.set_random_seed(0)
    return kcc.LeNet5(activation="relu", subsampling="max", output="dense")


def test_the_loss_fits_the_output():
    entropy = keras.losses.SparseCategoricalCrossentropy
    distances = loss_for(kcc.LeNet5(classifier_activation=None))
    assert isinstance(distances, losses.MaximumAPosteriori)
    for model, logits in (
        (kcc.LeNet5(), False),  # a softmax hides the distances
        (kcc.LeNet5(output="dense"), False),
        (kcc.LeNet5(output="dense", classifier_activation=None), True),
    ):
        loss = loss_for(model)
        assert isinstance(loss, entropy)
        assert loss.get_config()["from_logits"] is logits


def marked(folder, name):
    return float(keras.saving.load_model(folder / name).get_weights()[0].ravel()[0])


def test_the_best_epoch_is_kept(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    checkpoints = Checkpoints(tmp_path)
    checkpoints.set_model(model)
    for epoch, accuracy in enumerate((0.5, 0.9, 0.9, 0.7)):
        model.set_weights([np.full((1, 1), float(epoch))])
        checkpoints.on_epoch_end(epoch, {"loss": 1.0, "val_accuracy": accuracy})
    assert checkpoints.best_epoch == 2
    assert marked(tmp_path, "best.keras") == 1.0
    assert marked(tmp_path, "last.keras") == 3.0
    model.set_weights([np.full((1, 1), np.nan)])
    checkpoints.on_epoch_end(4, {"loss": float("nan"), "val_accuracy": 1.0})
    assert marked(tmp_path, "best.keras") == 1.0
    assert marked(tmp_path, "last.keras") == 3.0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.keras", "last.keras"]


def test_without_validation_the_last_epoch_is_the_best(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    checkpoints = Checkpoints(tmp_path)
    checkpoints.set_model(model)
    for epoch in range(3):
        model.set_weights([np.full((1, 1), float(epoch))])
        checkpoints.on_epoch_end(epoch, {"loss": 1.0})
    assert checkpoints.best_epoch == 3
    assert marked(tmp_path, "best.keras") == 2.0


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    checkpoints = Checkpoints(tmp_path)
    checkpoints.set_model(model)

    def fill_the_disk(path):
        path.write_text("half")
        raise OSError("no space left")

    monkeypatch.setattr(model, "save", fill_the_disk)
    with pytest.raises(OSError, match="no space left"):
        checkpoints.save("last.keras")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow_compiled
def test_the_test_split_is_asked_about_the_best_network(digits, tmp_path, monkeypatch):
    model = relu_lenet()
    model.compile("adam", loss_for(model), metrics=["accuracy"])
    model.fit(digits.train, epochs=4, verbose=0, shuffle=False)

    class Sabotage(Checkpoints):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            self.model.set_weights([np.zeros(w.shape) for w in self.model.weights])

    monkeypatch.setattr(run, "Checkpoints", Sabotage)
    settings = Recipe("a test", "adamw", 1e-9, 0.0, 64, 2, "pad", "a test")
    summary = run.train(model, digits, settings, tmp_path / "run", verbose=0)
    assert summary["best_epoch"] == 1
    assert summary["test"]["error_percent"] < 50  # zeros are wrong nine times in ten
    best = keras.saving.load_model(tmp_path / "run" / "best.keras")
    accuracy = best.evaluate(digits.validation, return_dict=True, verbose=0)["accuracy"]
    assert accuracy == pytest.approx(summary["best"]["val_accuracy"])


def test_a_diverged_run(digits, tmp_path):
    settings = Recipe("a test", "sgd", 1e30, 0.0, 64, 3, "pad", "a test")
    with pytest.raises(FloatingPointError, match=r"in epoch 1, step 2, at .* No network"):
        run.train(relu_lenet(), digits, settings, tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow_compiled
def test_a_run_replaces_another_only_when_asked(digits, tmp_path):
    run.train(relu_lenet(), digits, SETTINGS, tmp_path / "run", verbose=0)
    with pytest.raises(FileExistsError, match="holds a run already"):
        run.train(relu_lenet(), digits, SETTINGS, tmp_path / "run", verbose=0)
    events = set((tmp_path / "run").rglob("events*"))
    run.train(relu_lenet(), digits, SETTINGS, tmp_path / "run", overwrite=True, verbose=0)
    assert not events & set((tmp_path / "run").rglob("events*"))


@pytest.mark.slow_compiled
def test_an_interruption_of_the_closing_test(digits, tmp_path, monkeypatch):
    model = relu_lenet()

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    fit, last = model.fit, {}

    def fit_then_interrupt(*args, **kwargs):
        fit(*args, **kwargs)
        last["content"] = (tmp_path / "run" / "last.keras").read_bytes()
        monkeypatch.setattr(model, "evaluate", interrupted)

    monkeypatch.setattr(model, "fit", fit_then_interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.train(model, digits, SETTINGS, tmp_path / "run", facts={"model": "LeNet5"}, verbose=0)
    assert (tmp_path / "run" / "last.keras").read_bytes() == last["content"]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["interrupted"]
    assert summary["epochs"] == 2
    assert summary["model"] == "LeNet5"


def test_a_folder_is_checked_without_a_trace(tmp_path):
    assert run.check_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert not list(tmp_path.iterdir())


def test_a_folder_is_checked_by_many_at_once(tmp_path, monkeypatch):
    folder = tmp_path / "a" / "b"
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(run.check_folder, [folder] * 400)) == {folder}
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "a"):
        with pytest.raises(OSError, match="Not a directory"):
            run.check_folder(place)
    (tmp_path / run.HISTORY).touch()
    with pytest.raises(FileExistsError):
        run.check_folder(tmp_path)
    # A worker does not take what the chief has just begun for another run.
    cluster = {"worker": ["a:1", "b:1"]}
    for index in (0, 1):
        config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(config))
        with contextlib.nullcontext() if index else pytest.raises(FileExistsError):
            run.check_folder(tmp_path)


def test_labels_without_an_output(digits):
    with pytest.raises(ValueError, match=r"go up to 9 \(10 classes in digits\).* has 7 outputs"):
        run.check_classes(kcc.LeNet5(classes=7), digits)


@pytest.mark.slow_compiled
def test_a_killed_run_goes_on(digits, tmp_path, monkeypatch):
    settings = dataclasses.replace(SETTINGS, epochs=3)
    options = {"verbose": 0, "save_freq": 5}
    whole = run.train(relu_lenet(), digits, settings, tmp_path / "whole", **options)

    class Kill(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.epoch == 1 and batch == 7:
                raise RuntimeError("killed")

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

    model = relu_lenet()
    fit = model.fit
    monkeypatch.setattr(
        model, "fit", lambda *a, callbacks, **k: fit(*a, callbacks=[Kill(), *callbacks], **k)
    )
    with pytest.raises(RuntimeError, match="killed"):
        run.train(model, digits, settings, tmp_path / "part", **options)
    with pytest.raises(ValueError, match=r"begun with another recipe"):
        run.train(relu_lenet(), digits, SETTINGS, tmp_path / "part", resume=True, **options)
    again = run.train(relu_lenet(), digits, settings, tmp_path / "part", resume=True, **options)
    assert not (tmp_path / "part" / "state").exists()
    table = "history.csv"
    assert (tmp_path / "part" / table).read_text() == (tmp_path / "whole" / table).read_text()
    for name in ("best", "best_epoch", "epochs", "test", "finished"):
        assert again[name] == whole[name]
    for one in ("last.keras", "best.keras"):
        nets = [keras.saving.load_model(tmp_path / part / one) for part in ("whole", "part")]
        for ours, theirs in zip(*(net.get_weights() for net in nets), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    model = relu_lenet()
    assert run.train(model, digits, settings, tmp_path / "part", resume=True, **options) == again
    np.testing.assert_array_equal(model.get_weights()[0], nets[0].get_weights()[0])


@pytest.mark.slow_compiled
def test_a_checkpoint_has_the_average(digits, tmp_path):
    settings = dataclasses.replace(SETTINGS, average="polyak")
    summary = run.train(relu_lenet(), digits, settings, tmp_path, verbose=0)
    best = keras.saving.load_model(tmp_path / "best.keras")
    accuracy = best.evaluate(digits.validation, return_dict=True, verbose=0)["accuracy"]
    assert accuracy == pytest.approx(summary["best"]["val_accuracy"])
