"""Fine-tuning in one call."""

import csv
import json

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.datasets import load_digits

import keras_cnn_classics as kcc
from keras_cnn_classics import transfer
from keras_cnn_classics.training._callback import Callback

DIGITS = load_digits()
PIXELS = (DIGITS.images[..., None] / 16).astype("float32")
NEW = DIGITS.target >= 5
IMAGES, LABELS = PIXELS[NEW][:240], DIGITS.target[NEW][:240] - 5
TEST = PIXELS[NEW][240:400], DIGITS.target[NEW][240:400] - 5
OLD = PIXELS[~NEW][:200], DIGITS.target[~NEW][:200]
FAST = {"verbose": 0, "warmup_epochs": 2, "epochs": 4}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1998)
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(16, 3, activation="relu", name="block1_conv")(inputs)
    x = layers.Flatten(name="flatten")(layers.MaxPooling2D(name="block1_pool")(x))
    x = layers.Dense(32, "relu", name="fc1")(x)
    network = keras.Model(inputs, layers.Dense(5, "softmax", name="predictions")(x), name="net")
    network.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    network.fit(*OLD, 32, 15, verbose=0)
    return network


def adam():
    return keras.optimizers.Adam(1e-3)


@pytest.mark.slow_compiled
def test_both_stages_and_what_they_leave(model, tmp_path, capsys):
    before = model.get_weights()
    run = tmp_path / "run"
    result = transfer.fit_two_stage(
        model,
        5,
        (IMAGES, LABELS),
        run,
        test=TEST,
        old_data=OLD,
        optimizer=keras.optimizers.Adam(5e-3),
        batch_size=16,
        warmup_rate=2,
        train_from="fc1",
        **{**FAST, "verbose": 2},
    )
    told = capsys.readouterr().out
    head, rest = 32 * 5 + 5, 144 * 32 + 32
    assert f"Warm-up: {head:,} weights learn" in told
    assert f"Fine-tuning: {head + rest:,} weights learn" in told

    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    frozen = result.model.get_layer("block1_conv").get_weights()
    for a, b in zip(frozen, model.get_layer("block1_conv").get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert result.history["epoch"] == [0, 1, 2, 3]
    np.testing.assert_allclose(result.history["learning_rate"], [1e-2, 1e-2, 5e-3, 5e-3])
    accuracies = result.history["val_accuracy"]
    assert result.best_epoch == 1 + int(np.argmax(accuracies))
    assert result.before["new"] < 0.5 < 0.7 < result.after["new"]
    right = result.model.predict(TEST[0], verbose=0)["new"].argmax(-1) == TEST[1]
    assert result.after["new"] == right.mean()
    assert result.before["old"] == transfer.accuracies(model, {"old": OLD})["old"] > 0.9

    assert {one.name for one in run.iterdir()} == {
        "best.keras",
        "last.keras",
        "history.csv",
        "summary.json",
    }
    loaded = keras.saving.load_model(run / "best.keras")
    assert all(layer.trainable for layer in loaded.layers)
    for a, b in zip(loaded.get_weights(), result.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with (run / "history.csv").open() as file:
        assert [float(row["val_accuracy"]) for row in csv.DictReader(file)] == accuracies
    assert json.loads((run / "summary.json").read_text())["after"] == result.after


class Killed(Callback):
    """Ends the run in an epoch, once."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise SystemError("the power is gone")


@pytest.mark.slow_compiled
@pytest.mark.parametrize(
    "epoch",
    [
        pytest.param(1, id="in the first", marks=pytest.mark.slow),
        pytest.param(2, id="between"),
        pytest.param(3, id="in the second", marks=pytest.mark.slow),
    ],
)
def test_the_same_call_goes_on_to_the_same_weights(model, tmp_path, epoch):
    def run(folder, killed=99):
        keras.utils.set_random_seed(7)
        return transfer.fit_two_stage(
            model,
            5,
            (IMAGES, LABELS),
            tmp_path / folder,
            optimizer=adam(),
            patience=3,
            callbacks=[Killed(killed)],
            **FAST,
        )

    whole = run("whole")
    with pytest.raises(SystemError):
        run("cut", epoch)
    assert not json.loads((tmp_path / "cut/summary.json").read_text())["finished"]
    cut = run("cut")
    for a, b in zip(whole.model.get_weights(), cut.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert cut.history == whole.history
    assert (cut.best_epoch, cut.before, cut.after) == (
        whole.best_epoch,
        whole.before,
        whole.after,
    )


@pytest.mark.slow_compiled
def test_a_finished_run_is_read_and_another_one_refused(model, tmp_path):
    def run(**more):
        data = (IMAGES[:64], LABELS[:64])
        return transfer.fit_two_stage(model, 5, data, tmp_path, **{**FAST, "epochs": 3, **more})

    first = run()
    stamp = (tmp_path / "best.keras").stat().st_mtime_ns
    again = run(callbacks=[Killed(0)])
    assert (tmp_path / "best.keras").stat().st_mtime_ns == stamp
    assert (again.history, again.after) == (first.history, first.after)
    for a, b in zip(first.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="another options"):
        run(train_from="fc1")
    with pytest.raises(ValueError, match="another epochs"):
        run(epochs=4)
    with pytest.raises(ValueError, match="another data, held_out"):
        transfer.fit_two_stage(
            model, 5, (IMAGES[:64] + 1, LABELS[:64]), tmp_path, **{**FAST, "epochs": 3}
        )
    with pytest.raises(ValueError, match="another old_data"):
        run(old_data=OLD)
    assert len(run(epochs=4, overwrite=True).history["epoch"]) == 4
    (tmp_path / "best.keras").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"best\.keras is damaged .*overwrite=True"):
        run(epochs=4)
    (tmp_path / "best.keras").unlink()
    with pytest.raises(FileNotFoundError, match=r"best\.keras is gone"):
        run(epochs=4)


@pytest.mark.slow_compiled
def test_data_of_load_and_their_class_names(model, tmp_path):
    data = kcc.data.load("digits", image_size=8, batch_size=256, validation=0.2)
    result = transfer.fit_two_stage(
        model, None, data, tmp_path, epochs=2, warmup_epochs=1, task="digits", verbose=0
    )
    assert result.model.output["digits"].shape == (None, 10)
    assert result.after == transfer.accuracies(result.model, {"digits": data.test})
    with pytest.raises(ValueError, match="leave `validation` and `test` out"):
        transfer.fit_two_stage(model, None, data, tmp_path / "b", validation=0.1)


@pytest.mark.slow_compiled
def test_a_data_set_without_validation_keeps_the_last_epoch(model, tmp_path):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(64)
    result = transfer.fit_two_stage(
        model,
        5,
        data,
        tmp_path,
        class_weight=transfer.class_weights(LABELS),
        **FAST,
    )
    assert result.best_epoch == 4
    assert result.before == result.after == {}
    with pytest.raises(ValueError, match="give `validation`"):
        transfer.fit_two_stage(model, 5, data, tmp_path / "b", patience=2)
    with pytest.raises(ValueError, match="held out of arrays only"):
        transfer.fit_two_stage(model, 5, data, tmp_path / "b", validation=0.5)


@pytest.mark.slow_compiled
def test_several_labels(model, tmp_path):
    several = np.stack([LABELS % 2, LABELS > 2], 1)
    result = transfer.fit_two_stage(
        model,
        2,
        (IMAGES, several),
        tmp_path,
        validation=(IMAGES, several),
        multi_label=True,
        **FAST,
    )
    right = (result.model.predict(IMAGES, verbose=0)["new"] > 0.5) == several
    assert result.after["new"] == pytest.approx(right.mean())
    assert max(result.history["val_accuracy"]) == pytest.approx(right.mean(), abs=1e-6)


@pytest.mark.slow_compiled
def test_patience_ends_a_stage_and_the_next_one_begins(model, tmp_path):
    result = transfer.fit_two_stage(
        model,
        5,
        (IMAGES, LABELS),
        tmp_path,
        optimizer=keras.optimizers.SGD(0.0),
        patience=1,
        epochs=6,
        warmup_epochs=4,
        verbose=0,
    )
    assert result.history["epoch"] == [0, 1, 4, 5]
    assert result.best_epoch == 1


@pytest.mark.slow_compiled
@pytest.mark.parametrize(
    ("data", "more", "message"),
    [
        ((IMAGES, LABELS + 1), {}, "from 0 to 4"),
        ((IMAGES, LABELS[:9]), {}, "as many of each"),
        ((IMAGES[:, :6], LABELS), {}, "must have the shape"),
        ((IMAGES[:1], LABELS[:1]), {}, "too few images"),
        ((IMAGES, LABELS), {"epochs": 0}, "`epochs` must be"),
        ((IMAGES, LABELS), {"epochs": 2}, "`epochs` must be more .* stage.*: 5. Received: 2"),
        ((IMAGES, LABELS), {"validation": 1.5}, "`validation` must be"),
        ((IMAGES, LABELS), {"validation": (IMAGES, LABELS + 1), "test": TEST}, "from 0 to 4"),
        ((IMAGES, LABELS), {"old_data": {"older": OLD}}, r"\['old'\].*\['older'\]"),
        ((IMAGES, LABELS), {"train_from": "conv9"}, "`train_from` must be"),
    ],
)
def test_wrong_calls_leave_nothing_behind(model, tmp_path, data, more, message):
    with pytest.raises(ValueError, match=message):
        transfer.fit_two_stage(model, 5, data, tmp_path / "run", **more)
    assert not (tmp_path / "run").exists()
