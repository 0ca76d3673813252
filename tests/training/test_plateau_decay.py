"""PlateauDecay against Keras's callback, and what it adds."""

import keras
import numpy as np
import pytest

from keras_cnn_classics.training import PlateauDecay


def model_with(optimizer):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="only")])
    model.compile(optimizer, "mse")
    return model


def replay(callback, values, rate=1.0, name="val_loss"):
    """The learning rate after each epoch of a course of values, and the model."""
    model = model_with(keras.optimizers.SGD(rate))
    callback.set_model(model)
    callback.set_params({"epochs": len(values)})
    callback.on_train_begin()
    rates = []
    for epoch, value in enumerate(values):
        model.set_weights([np.full((2, 1), epoch), np.zeros(1)])
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, {name: value})
        rates.append(float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)))
        if model.stop_training:
            break
    return rates, model


@pytest.mark.parametrize("seed", range(20))
def test_as_keras(seed):
    rng = np.random.default_rng(seed)
    values = rng.random(40).tolist()
    settings = {
        "monitor": "val_accuracy" if seed % 2 else "val_loss",
        "mode": "max" if seed % 2 else "min",
        "factor": float(rng.choice([0.1, 0.5])),
        "patience": int(rng.integers(0, 5)),
        "min_delta": float(rng.choice([0, 1e-4, 0.1])),
        "cooldown": int(rng.integers(0, 4)),
        "min_lr": float(rng.choice([0, 1e-3])),
    }
    name = settings["monitor"]
    ours, _ = replay(PlateauDecay(**settings), values, name=name)
    theirs, _ = replay(keras.callbacks.ReduceLROnPlateau(**settings), values, name=name)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, err_msg=str(settings))


def test_no_number_is_no_improvement():
    rates, _ = replay(PlateauDecay(patience=2, factor=0.5), [float("nan")] * 5)
    np.testing.assert_allclose(rates, [1, 0.5, 0.5, 0.25, 0.25])


def test_each_drop_goes_back_to_the_best_weights():
    _, model = replay(PlateauDecay(patience=2, restore_best_weights=True), [3, 1, 2, 2])
    np.testing.assert_array_equal(model.get_weights()[0], np.full((2, 1), 1.0))


def test_stops_after_the_last_drop(capsys):
    decay = PlateauDecay(patience=1, max_drops=2, verbose=1)
    rates, model = replay(decay, [1, 2, 2, 2, 2])
    np.testing.assert_allclose(rates, [1, 0.1, 0.01, 0.01], rtol=1e-6)
    assert model.stop_training
    assert decay.drops == 2
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 2: val_loss has not improved on 1; the learning rate falls to 0.1.",
        "Epoch 3: val_loss has not improved on 1; the learning rate falls to 0.01.",
        "Epoch 4: stopped, since val_loss has not improved on 1 after 2 drops of the learning "
        "rate.",
    ]


class Rates(keras.callbacks.Callback):
    """What the weight of a model with a constant gradient moves by in each step."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_train_batch_end(self, batch, logs=None):
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        self.weights.append(float(self.model.get_weights()[0][0, 0]))


def test_warm_up_acts_in_the_compiled_step():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.zeros((1, 1))])
    model.compile(keras.optimizers.SGD(0.8), lambda y_true, y_pred: y_pred)  # a gradient of 1
    x = np.ones((4, 1), "float32")
    seen = Rates()
    callbacks = [PlateauDecay(warmup_epochs=2, patience=1, monitor="loss", mode="min"), seen]
    model.fit(x, x, batch_size=2, epochs=3, verbose=0, callbacks=callbacks)
    moves = -np.diff([0.0, *seen.weights])
    np.testing.assert_allclose(moves, [0.2, 0.4, 0.6, 0.8, 0.8, 0.8], rtol=1e-5)


def test_the_rates_of_a_multi_optimizer_fall_together():
    optimizers = keras.optimizers
    table = optimizers.OptimizerMap(
        default_optimizer=optimizers.SGD(0.5), optimizer_map={"only/.*": optimizers.SGD(0.05)}
    )
    model = model_with(optimizers.MultiOptimizer(table))
    x = np.ones((4, 2), "float32")
    decay = PlateauDecay("val_loss", patience=1, min_delta=100)
    history = model.fit(
        x, x[:, :1], epochs=2, verbose=0, validation_data=(x, x[:, :1]), callbacks=[decay]
    ).history
    rates = [values for name, values in history.items() if name.startswith("learning_rate_")]
    assert len(rates) == 2
    np.testing.assert_allclose(sorted(values[0] for values in rates), [0.05, 0.5], rtol=1e-6)
    now = [keras.ops.convert_to_numpy(one.learning_rate) for one in model.optimizer.optimizers]
    np.testing.assert_allclose(sorted(map(float, now)), [0.005, 0.05], rtol=1e-6)


def test_a_schedule_is_refused_when_training_begins():
    schedule = keras.optimizers.schedules.CosineDecay(0.25, 10)
    for optimizer in (
        keras.optimizers.SGD(schedule),
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(schedule)),
    ):
        model = model_with(optimizer)
        x = np.ones((4, 2), "float32")
        with pytest.raises(ValueError, match=r"SGD with the schedule CosineDecay.*0\.25"):
            model.fit(x, x[:, :1], verbose=0, callbacks=[PlateauDecay()])


@pytest.mark.parametrize(
    "settings",
    [
        {"factor": 1.0},
        {"factor": 0.0},
        {"patience": -1},
        {"max_drops": -1},
        {"cooldown": -1},
        {"min_lr": float("nan")},
        {"warmup_epochs": 0.5},
        {"factor": "a"},
        {"monitor": ["val_loss"]},
    ],
)
def test_wrong_arguments(settings):
    with pytest.raises(ValueError, match="Received"):
        PlateauDecay(**settings)
