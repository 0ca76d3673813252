"""Numbers that compiled steps read: on every backend, over several devices, in files."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_cnn_classics.training import (
    LabelSmoothing,
    LiveScalars,
    Scalar,
    SmoothedCrossentropy,
    keep_live,
)

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(32, 6)).astype("float32")
LABELS = RNG.integers(4, size=32)


def on_jax(why):
    return pytest.mark.skipif(keras.backend.backend() != "jax", reason=why)


def test_a_scalar_goes_where_a_number_goes():
    scalar = Scalar(0.25, name="share")
    assert float(keras.ops.multiply(np.float32(8), scalar)) == 2.0
    scalar.assign(0.5)
    assert float(keras.ops.multiply(np.float32(8), scalar)) == 4.0
    assert np.asarray(scalar, "float64") == 0.5
    assert (scalar.initial, repr(scalar)) == (0.25, "<Scalar share: 0.5>")


def test_a_scalar_is_saved_among_loss_weights(tmp_path):
    image = keras.Input((6,))
    model = keras.Model(image, {n: keras.layers.Dense(4, name=n)(image) for n in "ab"})
    model.compile("sgd", {"a": "mse", "b": "mse"}, loss_weights={"a": 1.0, "b": Scalar(0.5, "w")})
    targets = dict.fromkeys("ab", np.ones((32, 4)))
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert copy.evaluate(IMAGES, targets, verbose=0, return_dict=True) == pytest.approx(
        model.evaluate(IMAGES, targets, verbose=0, return_dict=True)
    )
    loaded = copy.get_compile_config()["loss_weights"]["b"]
    assert loaded["config"] == {"value": 0.5, "name": "w"}


def compiled(loss, **kwargs):
    keras.utils.set_random_seed(0)
    image = keras.Input((6,))
    model = keras.Model(image, keras.layers.Dense(4, dtype="float32")(image))
    model.compile(keras.optimizers.SGD(0.0), loss, metrics=["accuracy"], **kwargs)
    return model


def fit(model, *callbacks, epochs=3):
    return model.fit(IMAGES, LABELS, 8, epochs, 0, list(callbacks)).history


def wanted():
    """The losses of the epochs, each by a model of its own."""
    models = [compiled(SmoothedCrossentropy(epsilon, True)) for epsilon in (0.8, 0.4, 0.0)]
    return [model.evaluate(IMAGES, LABELS, verbose=0)[0] for model in models]


def test_several_steps_at_once():
    if keras.backend.backend() == "torch":
        pytest.skip("PyTorch runs one step at a time")
    model = compiled(SmoothedCrossentropy(0.8, True), steps_per_execution=3)
    history = fit(model, LabelSmoothing(schedule="linear"))
    assert history["loss"] == pytest.approx(wanted(), rel=1e-5)


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = compiled(SmoothedCrossentropy(0.8, True))
        history = fit(model, LabelSmoothing(schedule="linear"))
    finally:
        keras.config.set_dtype_policy("float32")
    assert history["loss"] == pytest.approx(wanted(), rel=1e-3)


def test_nothing_is_left_in_logs_and_files(tmp_path):
    model = compiled(SmoothedCrossentropy(0.8, True))
    fit(model, LabelSmoothing(schedule="linear"))
    assert sorted(fit(model, epochs=1)) == ["accuracy", "loss"]
    assert len(model.evaluate(IMAGES, LABELS, verbose=0)) == 2
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = compiled(SmoothedCrossentropy(0.8, True))
    fresh.load_weights(tmp_path / "model.weights.h5")
    fresh.save_weights(tmp_path / "fresh.weights.h5")
    model.load_weights(tmp_path / "fresh.weights.h5")
    assert len(model.get_weights()) == len(fresh.get_weights()) == 2


@on_jax("the other backends read any variable")
def test_models_with_a_class_of_their_own_hold_the_scalars():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(4)

        def call(self, x):
            return self.dense(x)

    class Prepared(Own):
        def __init__(self):
            super().__init__()
            self.live_scalars = LiveScalars()

    for kind in (Own, Prepared):
        model = kind()
        model.compile(keras.optimizers.SGD(0.0), SmoothedCrossentropy(0.8, True))
        if kind is Own:
            with pytest.raises(ValueError, match="Received: Own"):
                fit(model, LabelSmoothing())
        else:
            losses = fit(model, LabelSmoothing(schedule="linear"))["loss"]
            assert len(set(np.round(losses, 3))) == 3


@on_jax("of Keras's data parallelism, which is JAX's")
def test_data_parallel():
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    try:
        loss = SmoothedCrossentropy(0.8, True)
        model = compiled(loss)
        fit(model, epochs=1)
        history = fit(model, LabelSmoothing(schedule="linear"))
        assert history["loss"] == pytest.approx(wanted(), rel=1e-5)
        keep_live(model, [loss.epsilon])
        assert sum(isinstance(metric, LiveScalars) for metric in model.metrics) == 1
    finally:
        keras.distribution.set_distribution(None)


MIRRORED = """
import contextlib

import keras
import numpy as np
import tensorflow as tf

from keras_cnn_classics import training

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
rng = np.random.default_rng(0)
images, labels = rng.normal(size=(32, 6)).astype("float32"), rng.integers(4, size=32)


class Counted(training.SmoothedCrossentropy):
    calls = 0

    def call(self, y_true, y_pred):
        self.calls += 1
        return super().call(y_true, y_pred)


def run(scope):
    keras.utils.set_random_seed(0)
    with scope():
        x = image = keras.Input((6,))
        outputs = {}
        for name in ("aux1", "predictions"):
            x = keras.layers.Dense(8, "relu")(x)
            outputs[name] = keras.layers.Dense(4, "softmax", name=name)(x)
        model = training.with_auxiliary_targets(keras.Model(image, outputs))
    loss = Counted(0.8)
    weights = training.AuxiliaryLossWeights(model, 0.5, "linear")
    with scope():
        model.compile(
            keras.optimizers.SGD(0.1),
            weights.loss(loss),
            loss_weights=weights.loss_weights,
            metrics={"predictions": ["accuracy"]},
        )
    callbacks = [weights, training.LabelSmoothing(schedule="cosine", off_for_last=1)]
    fit = lambda **kwargs: model.fit(
        images, labels, 16, verbose=0, callbacks=callbacks, shuffle=False,
        validation_data=(images, labels), **kwargs
    ).history
    fit(epochs=5, initial_epoch=4)
    traced = loss.calls
    history = fit(epochs=5)
    assert loss.calls == traced, "the step was compiled again"
    return history, model.get_weights()


history, trained = run(contextlib.nullcontext)
np.testing.assert_allclose(history["label_smoothing"], [0.8, 0.6, 0.2, 0, 0], atol=1e-6)
np.testing.assert_allclose(history["aux1_weight"], [0.5, 0.375, 0.25, 0.125, 0], atol=1e-6)
same, weights = run(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope)
assert sorted(same) == sorted(history)
for name, values in history.items():
    np.testing.assert_allclose(same[name], values, rtol=1e-5, err_msg=name)
for a, b in zip(weights, trained, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)
print("equal")
"""


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of tf.distribute")
@pytest.mark.slow
def test_two_replicas_are_one_device():
    """A process of its own, as one CPU is split in two before TensorFlow starts."""
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED], capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("equal\n"), done.stderr
