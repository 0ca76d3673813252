"""Runs: what is kept, what is measured, what is chosen."""

import json

import keras
import numpy as np
import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics.training import Checkpoints, losses, run
from keras_cnn_classics.training.recipes import Recipe, loss_for, recipe

SETTINGS = Recipe("adamw", 3e-3, 0.0, 64, 2, "pad", "a test")


@pytest.fixture(scope="module")
def digits():
    return kcc.data.load(
        "digits", image_size=32, batch_size=64, resize="pad", preprocess="lenet", validation=0.1
    )


def relu_lenet():
    keras.utils.set_random_seed(0)
    return kcc.LeNet5(activation="relu", subsampling="max", output="dense")


def test_the_learning_rate_falls_along_a_cosine():
    for name, kind in (("adamw", keras.optimizers.AdamW), ("sgd", keras.optimizers.SGD)):
        settings = Recipe(name, 0.2, 1e-4, 64, 10, "crop", "a test")
        optimizer = settings.make_optimizer(100)
        assert isinstance(optimizer, kind)
        assert optimizer.weight_decay == pytest.approx(1e-4)
        schedule = optimizer._learning_rate
        rates = [float(schedule(step)) for step in (0, 50, 100)]
        assert rates == pytest.approx([0.2, 0.1, 0.0], abs=1e-6)
    with pytest.raises(ValueError, match="Received: 'adam'"):
        Recipe("adam", 0.1, 0, 1, 1, "crop", "").make_optimizer(1)
    with pytest.raises(ValueError, match="Received: 0"):
        Recipe("sgd", 0, 0, 1, 1, "crop", "").make_optimizer(1)


def test_recipes_are_found_by_name_and_spec():
    assert recipe("lenet5") == recipe(kcc.LeNet5.spec)
    assert recipe("VGG16").optimizer == "sgd"


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


def test_the_test_split_is_asked_about_the_best_network(digits, tmp_path, monkeypatch):
    model = relu_lenet()
    model.compile("adam", loss_for(model), metrics=["accuracy"])
    model.fit(digits.train, epochs=4, verbose=0, shuffle=False)

    class Sabotage(Checkpoints):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            self.model.set_weights([np.zeros(w.shape) for w in self.model.weights])

    monkeypatch.setattr(run, "Checkpoints", Sabotage)
    settings = Recipe("adamw", 1e-9, 0.0, 64, 2, "pad", "a test")
    summary = run.train(model, digits, settings, tmp_path / "run", verbose=0)
    assert summary["best_epoch"] == 1
    assert summary["test"]["error_percent"] < 50  # zeros are wrong nine times in ten
    best = keras.saving.load_model(tmp_path / "run" / "best.keras")
    accuracy = best.evaluate(digits.validation, return_dict=True, verbose=0)["accuracy"]
    assert accuracy == pytest.approx(summary["best"]["val_accuracy"])


def test_a_diverged_run(digits, tmp_path):
    settings = Recipe("sgd", 1e30, 0.0, 64, 3, "pad", "a test")
    with pytest.raises(FloatingPointError, match=r"in epoch 1: lower the .* No network"):
        run.train(relu_lenet(), digits, settings, tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()


def test_a_run_replaces_another_only_when_asked(digits, tmp_path):
    run.train(relu_lenet(), digits, SETTINGS, tmp_path / "run", verbose=0)
    with pytest.raises(FileExistsError, match="holds a run already"):
        run.train(relu_lenet(), digits, SETTINGS, tmp_path / "run", verbose=0)
    events = set((tmp_path / "run").rglob("events*"))
    run.train(relu_lenet(), digits, SETTINGS, tmp_path / "run", overwrite=True, verbose=0)
    assert not events & set((tmp_path / "run").rglob("events*"))


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


def test_labels_without_an_output(digits):
    with pytest.raises(ValueError, match=r"go up to 9 \(10 classes in digits\).* has 7 outputs"):
        run.check_classes(kcc.LeNet5(classes=7), digits)
