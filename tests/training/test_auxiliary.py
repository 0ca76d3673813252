"""Auxiliary classifiers: their targets, the weights of their losses, and leaving them out."""

import keras
import numpy as np
import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics.training import (
    AuxiliaryLossWeights,
    SmoothedCrossentropy,
    with_auxiliary_targets,
    without_auxiliary,
)
from tests.marks import slow_compiled

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(32, 6)).astype("float32")
LABELS = RNG.integers(4, size=32)
HEADS = ("predictions", "aux1", "aux2")
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy()


def network(heads=HEADS):
    keras.utils.set_random_seed(0)
    x = image = keras.Input((6,))
    outputs = {}
    for name in reversed(heads):
        x = keras.layers.Dense(8, "relu")(x)
        outputs[name] = keras.layers.Dense(4, "softmax", name=f"{name}_layer")(x)
    return keras.Model(image, outputs, name="net")


def compiled(rate=0.0, loss=CROSSENTROPY, model=None, **kwargs):
    model = with_auxiliary_targets(network()) if model is None else model
    callback = AuxiliaryLossWeights(model, **kwargs)
    model.compile(
        keras.optimizers.SGD(rate),
        loss=callback.loss(loss),
        loss_weights=callback.loss_weights,
        metrics={"predictions": ["accuracy"], "aux1": "accuracy"},
    )
    return model, callback


def fit(model, callback, epochs=4, **kwargs):
    kwargs = {"validation_data": (IMAGES, LABELS), **kwargs}
    return model.fit(
        IMAGES, LABELS, batch_size=8, epochs=epochs, verbose=0, callbacks=[callback], **kwargs
    ).history


def total(history, prefix=""):
    """The loss that belongs to the parts in a history."""
    parts = {name: np.array(history[f"{prefix}{name}_loss"]) for name in HEADS}
    one, two = (np.array(history[f"{name}_weight"]) for name in HEADS[1:])
    return parts["predictions"] + one * parts["aux1"] + two * parts["aux2"]


@pytest.mark.parametrize(
    ("arguments", "one", "two"),
    [
        slow_compiled({}, [0.3] * 4, [0.3] * 4),
        slow_compiled({"weights": {"aux1": 0.6, "aux2": 0}}, [0.6] * 4, [0] * 4),
        ({"weights": 0.4, "drop_at": 3}, [0.4, 0.4, 0.4, 0], [0.4, 0.4, 0.4, 0]),
        ({"weights": {"aux1": 0.6, "aux2": 3}, "schedule": "linear"}, [0.6, 0.4, 0.2, 0], None),
        slow_compiled({"schedule": "cosine", "drop_at": 3}, [0.3, 0.15, 0, 0], [0.3, 0.15, 0, 0]),
        slow_compiled({"schedule": lambda epoch: 2.0**-epoch}, [0.3, 0.15, 0.075, 0.0375], None),
        slow_compiled({"drop_at": 0, "schedule": "linear"}, [0] * 4, [0] * 4),
    ],
)
def test_the_compiled_step_reads_the_weights_of_each_epoch(arguments, one, two):
    model, callback = compiled(**arguments)
    history = fit(model, callback)
    np.testing.assert_allclose(history["aux1_weight"], one, atol=1e-6)
    ratio = callback.weights["aux2"] / callback.weights["aux1"]
    two = np.array(one) * ratio if two is None else two
    np.testing.assert_allclose(history["aux2_weight"], two, atol=1e-6)
    np.testing.assert_allclose(history["loss"], total(history), rtol=1e-5)
    np.testing.assert_allclose(history["val_loss"], total(history, "val_"), rtol=1e-5)


def test_targets_losses_and_metrics_are_those_of_repeated_labels():
    model, callback = compiled()
    history = fit(model, callback, 1)
    outputs = model.predict(IMAGES, verbose=0)
    for name in HEADS:
        loss = -np.log(outputs[name][np.arange(32), LABELS]).mean()
        assert history[f"{name}_loss"] == pytest.approx([loss], rel=1e-5)
    for name in HEADS[:2]:
        right = (outputs[name].argmax(-1) == LABELS).mean()
        assert history[f"val_{name}_accuracy"] == pytest.approx([right])
    repeated = model.evaluate(IMAGES, dict.fromkeys(HEADS, LABELS), verbose=0, return_dict=True)
    plain = model.evaluate(IMAGES, LABELS, verbose=0, return_dict=True)
    assert plain == repeated


def test_a_step_is_that_of_keras_with_repeated_labels():
    ours, callback = compiled(0.5, weights={"aux1": 0.2, "aux2": 0.7})
    weights = RNG.uniform(size=32)
    fit(ours, callback, 2, shuffle=False, sample_weight=weights)
    theirs = network()
    theirs.compile(
        keras.optimizers.SGD(0.5),
        dict.fromkeys(HEADS, CROSSENTROPY),
        loss_weights={"predictions": 1.0, "aux1": 0.2, "aux2": 0.7},
    )
    labels = dict.fromkeys(HEADS, LABELS)
    theirs.fit(IMAGES, labels, 8, 2, 0, shuffle=False, sample_weight=dict.fromkeys(HEADS, weights))
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_heads_are_in_the_order_of_their_numbers():
    heads = ["predictions", *(f"aux{i}" for i in range(1, 12))]
    callback = AuxiliaryLossWeights(network(heads))
    assert list(callback.loss_weights) == heads
    weights = {name: 0.1 for name in reversed(heads[1:])}
    assert AuxiliaryLossWeights(network(heads), weights).weights == weights


def test_class_weights():
    model, callback = compiled()
    one = fit(model, callback, 1, class_weight={0: 1.0, 1: 0.0, 2: 0.0, 3: 0.0})
    outputs = model.predict(IMAGES, verbose=0)["aux2"]
    wanted = -(np.log(outputs[:, 0]) * (LABELS == 0)).mean()
    assert one["aux2_loss"] == pytest.approx([wanted], rel=1e-5)


def test_a_weight_of_zero_leaves_the_classifier_alone():
    model, callback = compiled(0.5, weights={"aux1": 0.5, "aux2": 0.0})
    before = {name: model.get_layer(f"{name}_layer").get_weights()[0] for name in HEADS}
    fit(model, callback, 1)
    moved = {
        name: not np.array_equal(old, model.get_layer(f"{name}_layer").get_weights()[0])
        for name, old in before.items()
    }
    assert moved == {"predictions": True, "aux1": True, "aux2": False}


@pytest.mark.slow_compiled
def test_a_run_from_a_file_goes_on(tmp_path):
    model, callback = compiled(0.1, SmoothedCrossentropy(0.2), schedule="linear")
    whole = fit(model, callback, shuffle=False)
    model, callback = compiled(0.1, SmoothedCrossentropy(0.2), schedule="linear")
    kept = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    model.fit(IMAGES, LABELS, 8, 4, 0, [callback, kept], shuffle=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{i}.keras" for i in (1, 2, 3, 4)]

    copy = keras.saving.load_model(tmp_path / "2.keras")
    history = fit(
        copy, AuxiliaryLossWeights(copy, schedule="linear"), shuffle=False, initial_epoch=2
    )
    for name in ("aux1_weight", "loss", "val_predictions_accuracy"):
        np.testing.assert_allclose(history[name], whole[name][2:], rtol=1e-5, atol=1e-7)
    for a, b in zip(copy.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_without_auxiliary(tmp_path):
    model, callback = compiled(0.5)
    fit(model, callback, 1)
    plain = without_auxiliary(model)
    assert plain.name == "net"
    assert [layer.name for layer in plain.layers if layer.name.startswith("aux")] == []
    assert all(layer is model.get_layer(layer.name) for layer in plain.layers)
    wanted = model.predict(IMAGES, verbose=0)["predictions"]
    np.testing.assert_array_equal(plain.predict(IMAGES, verbose=0), wanted)
    plain.save(tmp_path / "plain.keras")
    copy = keras.saving.load_model(tmp_path / "plain.keras")
    assert type(copy) is type(network(HEADS[:1]))
    np.testing.assert_array_equal(copy.predict(IMAGES, verbose=0), wanted)


@pytest.mark.slow_compiled
def test_googlenet(tmp_path):
    options = {"weights": None, "width": 0.25, "classes": 4, "input_shape": (80, 80, 3)}
    model = with_auxiliary_targets(kcc.GoogLeNet(aux=True, **options))
    callback = AuxiliaryLossWeights(model)
    model.compile(
        "sgd", callback.loss(CROSSENTROPY), loss_weights=callback.loss_weights, run_eagerly=True
    )
    images = RNG.normal(size=(2, 80, 80, 3)).astype("float32")
    parts = model.test_on_batch(images, LABELS[:2], return_dict=True)
    losses = [parts[f"{name}_loss"] for name in HEADS]
    assert parts["loss"] == pytest.approx(losses[0] + 0.3 * losses[1] + 0.3 * losses[2], rel=1e-5)
    plain = without_auxiliary(model)
    plain.save_weights(tmp_path / "plain.weights.h5")
    built = kcc.GoogLeNet(**options)
    assert [layer.name for layer in plain.layers] == [layer.name for layer in built.layers]
    built.load_weights(tmp_path / "plain.weights.h5")
    for a, b in zip(built.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_errors():
    model = network()
    plain = without_auxiliary(model)
    for function in (with_auxiliary_targets, without_auxiliary, AuxiliaryLossWeights):
        with pytest.raises(ValueError, match=r"aux=True have\. Received: <Functional name=net"):
            function(plain)
    with pytest.raises(ValueError, match=r"keys \['aux1', 'aux2'\]\. Received: {'aux1': 1}"):
        AuxiliaryLossWeights(model, {"aux1": 1})
    for weight in (-0.1, float("inf"), "0.3", None):
        with pytest.raises(ValueError, match=r"at least 0\. Received: "):
            AuxiliaryLossWeights(model, weight)
    with pytest.raises(ValueError, match="Received: 'exponential'"):
        AuxiliaryLossWeights(model, schedule="exponential")
    with pytest.raises(ValueError, match="Received: -1"):
        AuxiliaryLossWeights(model, drop_at=-1)
    compiled_model, _ = compiled()
    with pytest.raises(ValueError, match=r"`schedule\(0\)` must be .* Received: -1"):
        fit(compiled_model, AuxiliaryLossWeights(model, schedule=lambda epoch: -1))
    model = with_auxiliary_targets(model)
    for weights in (None, {"predictions": 1.0, "aux1": 0.3, "aux2": 0.3}):
        model.compile("sgd", dict.fromkeys(HEADS, CROSSENTROPY), loss_weights=weights)
        with pytest.raises(ValueError, match="Received: loss_weights="):
            fit(model, AuxiliaryLossWeights(model))


@pytest.mark.slow_compiled
def test_auxiliary_classifiers_act_on_a_real_run():
    """With a dead main path, only they can teach the layers below."""
    data = kcc.data.load("digits", batch_size=256, image_size=8, preprocess=None, seed=0)
    right = {}
    for weight in (0.0, 0.3):
        keras.utils.set_random_seed(0)
        image = keras.Input(data.image_shape)
        x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
        x = keras.layers.Dense(32, "relu")(x)
        outputs = {
            "predictions": keras.layers.Dense(10, "softmax", name="predictions")(
                keras.ops.stop_gradient(x)
            ),
            "aux1": keras.layers.Dense(10, "softmax", name="aux1")(x),
        }
        model = with_auxiliary_targets(keras.Model(image, outputs))
        callback = AuxiliaryLossWeights(model, weight)
        model.compile(
            keras.optimizers.Adam(0.01),
            callback.loss(CROSSENTROPY),
            loss_weights=callback.loss_weights,
            metrics=dict.fromkeys(outputs, "accuracy"),
        )
        model.fit(data.train, epochs=8, verbose=0, shuffle=False, callbacks=[callback])
        test = model.evaluate(data.test, verbose=0, return_dict=True)
        right[weight] = {name: test[f"{name}_accuracy"] for name in outputs}
    assert right[0.0]["aux1"] < 0.3 < 0.75 < right[0.3]["aux1"]
    assert right[0.3]["predictions"] > right[0.0]["predictions"]
