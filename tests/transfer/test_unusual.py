"""Models and data that are not as one might expect."""

import logging

import keras
import numpy as np
import pytest
from keras import layers

from keras_cnn_classics import transfer
from keras_cnn_classics.transfer import (
    Distillation,
    DuplicateAndFineTune,
    FeatureExtraction,
    FineTuning,
    JointTraining,
    LearningWithoutForgetting,
)
from tests.transfer.networks import X_OLD, Y_OLD, X, Y, network, weights_of

LATE = np.where(np.arange(len(Y)) == 40, 3, Y)  # a label without a class, in the last batch


def compiled(method, rate=0.05):
    method.compile(keras.optimizers.SGD(rate), metrics=["accuracy"])
    return method


class Batches(keras.utils.PyDataset):
    def __init__(self, *parts, size=16):
        super().__init__()
        self.parts, self.size = parts, size

    def __len__(self):
        return -(-len(self.parts[0]) // self.size)

    def __getitem__(self, i):
        found = tuple(part[i * self.size :][: self.size] for part in self.parts)
        return found if len(found) > 1 else found[0]


@pytest.mark.slow_compiled
@pytest.mark.parametrize("kind", [FineTuning, DuplicateAndFineTune])
def test_a_function_of_ones_own_in_the_model(kind):
    inputs = keras.Input((8, 8, 3))
    x = layers.Lambda(lambda x: 2 * x, output_shape=(8, 8, 3), name="twice")(inputs)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="conv")(x))
    model = keras.Model(inputs, layers.Dense(4, "softmax", name="answers")(x))
    method = compiled(kind(model, 3, warmup_epochs=0))
    method.fit(X, Y, epochs=1, verbose=0)
    exported = method.export_model()
    np.testing.assert_allclose(
        exported.predict(X, verbose=0)["new"], method.predict(X, verbose=0)["new"], atol=1e-6
    )


def test_images_that_change_within_the_model(caplog):
    inner = network(dropout=0.0)
    x = layers.RandomFlip(name="mirrored")(inner.input)
    for layer in inner.layers[1:]:
        x = layer(x)
    model = keras.Model(inner.input, x, name="augmenting")
    said = "'augmenting' augments images within itself, by mirrored: .* augment the data"
    with pytest.raises(ValueError, match=said):
        LearningWithoutForgetting(model, 3)
    for student, teacher in ((model, network()), (network(), model)):
        with pytest.raises(ValueError, match=said):
            Distillation(student, teacher)
    with caplog.at_level(logging.WARNING):
        method = compiled(FeatureExtraction(model, 3, cache=None))
    assert "mirrored: features are computed as in use" in caplog.text
    plain = compiled(FeatureExtraction(inner, 3, cache=None))
    method.network.set_weights(plain.network.get_weights())
    first, wanted = (one.fit(X, Y, verbose=0, shuffle=False).history for one in (method, plain))
    assert first["loss"] == pytest.approx(wanted["loss"], rel=1e-5)


@pytest.mark.slow_compiled
def test_labels_without_a_class_in_a_later_batch(caplog):
    data = Batches(X, LATE)
    method = compiled(FeatureExtraction(network(), 3, cache=None))
    with pytest.raises(ValueError, match=r"from 0 to 2, as its head has 3 .*0 to 3"):
        method.fit(data, verbose=0)
    with pytest.raises(ValueError, match=r"from 0 to 2, as its head has 3 .*0 to 3"):
        transfer.accuracies(method, {"new": data})
    with pytest.raises(ValueError, match=r"from 0 to 2"):
        method.evaluate(X, Y + 1, verbose=0)
    tuned = compiled(FineTuning(network(), 3, warmup_epochs=0))
    with caplog.at_level(logging.WARNING):
        tuned.fit(data, epochs=2, verbose=0)
    assert caplog.text.count("labels outside the classes") == 1


@pytest.mark.slow_compiled
def test_data_of_other_kinds():
    method = compiled(FineTuning(network(), 3))
    for data, said in (
        (Batches(X), r"must give batches \(images, labels\). Received: images alone"),
        (Batches(X[:0], Y[:0]), "give no batches"),
        (Batches(X.astype(str), Y), "The images must be numbers. Received: <U"),
    ):
        with pytest.raises(ValueError, match=said):
            method.fit(data, verbose=0)
    with pytest.raises(ValueError, match="images must be numbers"):
        method.fit(X.astype(str), Y, verbose=0)
    alone = compiled(Distillation(network(seed=1), network()))
    with pytest.raises(ValueError, match=r"must have the shape \(8, 8, 3\)"):
        alone.fit(Batches(X[:, :6]), verbose=0)
    alone.fit(Batches(X), verbose=0)


def test_a_data_set_of_dicts():
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices(({"image": X}, Y)).batch(16)
    with pytest.raises(ValueError, match=r"images in one tensor\. Received: a dict of image"):
        compiled(FineTuning(network(), 3)).fit(data, verbose=0)


def test_a_rate_for_each_layer_is_refused_before_the_warm_up():
    method = FineTuning(network(), 3, warmup_epochs=1, layer_decay=0.5)
    with pytest.raises(ValueError, match="LossScaleOptimizer"):
        method.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)))


@pytest.mark.slow_compiled
@pytest.mark.parametrize("kind", ["lwf", "distillation"])
def test_answers_of_other_weights_are_recorded_anew(kind, tmp_path):
    def made(seed):
        if kind == "lwf":
            return compiled(
                LearningWithoutForgetting(network(seed=seed, dropout=0.0), 3, warmup_epochs=0), 0.0
            )
        return compiled(Distillation(network(seed=9, dropout=0.0), network(seed=seed)), 0.0)

    def loss(method):
        return method.fit(X, Y, verbose=0, shuffle=False).history["loss"][0]

    made(1).save_weights(tmp_path / "other.weights.h5")
    method = made(0)
    before = loss(method)
    method.load_weights(tmp_path / "other.weights.h5")
    wanted = made(0)
    wanted.load_weights(tmp_path / "other.weights.h5")
    assert loss(method) == pytest.approx(loss(wanted), rel=1e-6) != pytest.approx(before, rel=1e-4)


@pytest.mark.slow_compiled
def test_only_epochs_that_were_trained_count(caplog):
    method = compiled(FineTuning(network(), 3, warmup_epochs=3))

    def stop(epoch, logs):
        method.stop_training = True

    with caplog.at_level(logging.WARNING):
        method.fit(X, Y, epochs=5, verbose=0, callbacks=keras.callbacks.LambdaCallback(stop, stop))
    assert "after 1 epochs" in caplog.text
    seen = []
    note = keras.callbacks.LambdaCallback(lambda epoch, logs: seen.append(method.stage.name))
    method.fit(X, Y, epochs=3, verbose=0, callbacks=note)
    assert seen == ["warm-up", "warm-up", "fine-tuning"]


@pytest.mark.slow_compiled
def test_layers_that_are_frozen_in_a_student():
    student = network(seed=3)
    student.get_layer("block1_conv").trainable = False
    method = compiled(Distillation(student, network()), 0.5)
    method.fit(X_OLD, Y_OLD, verbose=0)
    for name, same in (("block1_conv", True), ("block2_conv", False)):
        found, before = weights_of(method.network, name), weights_of(student, name)
        assert all(np.array_equal(found[key], before[key]) for key in before) == same


@pytest.mark.slow_compiled
def test_joint_training_of_several_labels():
    several = np.stack([Y > 0, Y > 1], -1).astype("float32")
    method = compiled(JointTraining(network(), 2, warmup_epochs=0, multi_label=True))
    history = method.fit(X, several, old_data=(X_OLD, Y_OLD), epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    answers = method.predict(X, verbose=0)["new"]
    assert answers.min() > 0
    assert not np.allclose(answers.sum(-1), 1)


@pytest.mark.slow
def test_a_network_of_keras():
    model = keras.applications.MobileNetV2((32, 32, 3), 0.35, weights=None, classes=4)
    images = np.random.default_rng(0).normal(size=(16, 32, 32, 3)).astype("float32")
    method = compiled(LearningWithoutForgetting(model, 3, warmup_epochs=1))
    method.fit(images, Y[:16], epochs=2, verbose=0)
    exported = method.export_model()
    assert exported.predict(images, verbose=0)["old"].shape == (16, 4)
    wanted = model.count_params() + 1280 * 3 + 3
    assert exported.count_params() == wanted
