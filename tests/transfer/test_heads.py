"""Heads are found, copied and added as they should be."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_cnn_classics as kcc
from keras_cnn_classics.transfer import FeatureExtraction, FineTuning, LearningWithoutForgetting
from keras_cnn_classics.transfer.heads import find_head, form_of, functional
from tests.transfer.networks import SHAPE, X, network


def test_a_dense_head():
    model = network()
    head = find_head(model.output)
    assert [layer.name for layer in head.layers] == ["predictions"]
    assert (head.classes, head.form) == (4, "softmax")
    assert head.inputs is model.get_layer("dropout1").output


def test_a_head_that_is_named():
    head = find_head(network().output, "fc1")
    assert [layer.name for layer in head.layers] == ["fc1", "dropout1", "predictions"]


@pytest.mark.parametrize("name", ["SqueezeNet1_1", "MobileNet", "VGG11", "ResNet18"])
def test_heads_of_the_package(name):
    builder = kcc.get_builder(name)
    model = builder(weights=None, classes=7, **builder.spec.tiny)
    tuned = FineTuning(model, classes=3, task="other")
    shapes = {task: tuple(out.shape) for task, out in tuned.network.output.items()}
    assert shapes == {"old": (None, 7), "other": (None, 3)}
    assert tuned.form("other") == "softmax"
    x = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype("float32")
    found = tuned.predict(x, verbose=0)
    np.testing.assert_allclose(found["old"], model.predict(x, verbose=0), atol=1e-6)
    np.testing.assert_allclose(found["other"].sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("separate", [False, True])
def test_scores_and_probabilities(separate):
    x = inputs = keras.Input((5,))
    x = layers.Dense(4, None if separate else "softmax", name="scores")(x)
    outputs = layers.Softmax(name="probabilities")(x) if separate else x
    model = keras.Model(inputs, outputs)
    assert form_of(model.output) == "softmax"
    network = FineTuning(model, 2).network
    names = [layer.name for layer in network.layers]
    assert "new_scores" in names
    assert ("new_probabilities" in names) == separate
    assert form_of(network.output["new"]) == "softmax"
    assert form_of(keras.Model(inputs, layers.Dense(4)(inputs)).output) == "linear"


def test_a_sequential_model_and_one_without_a_head():
    inner = keras.Sequential([keras.Input((5,)), layers.Dense(6, "relu"), layers.Dense(4)])
    assert FineTuning(inner, 2).tasks == ["old", "new"]
    trunk = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(6, 3, activation="relu")])
    extraction = FeatureExtraction(trunk, 3, old_task=None)
    assert extraction.tasks == ["new"]
    assert extraction.export_model("new").output_shape == (None, 3)


def test_more_layers_of_its_own_begin_as_copies():
    model = network()
    learner = LearningWithoutForgetting(model, 3, head="fc1")
    assert {layer.name for layer in learner.head_layers("new")} == {"new_fc1", "new_predictions"}
    assert {layer.name for layer in learner.head_layers("old")} == {"fc1", "predictions"}
    for old, new in zip(
        model.get_layer("fc1").get_weights(),
        learner.network.get_layer("new_fc1").get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(old, new)
    again = LearningWithoutForgetting(learner.export_model(), 2, "third", head="fc1")
    assert {layer.name for layer in again.head_layers("third")} == {
        "third_fc1",
        "third_predictions",
    }
    assert again.tasks == ["old", "new", "third"]
    with pytest.raises(ValueError, match=r"own are \['old', 'new'\]. Received: task='third'"):
        FineTuning(learner.export_model(), None, "third")


def test_expansion_adds_units_for_the_new_task_alone():
    model = network(dropout=0.0)
    learner = LearningWithoutForgetting(model, 3, expansion=5, seed=3)
    np.testing.assert_allclose(
        learner.predict(X, verbose=0)["old"], model.predict(X, verbose=0), atol=1e-6
    )
    drawn = np.random.default_rng(3).integers(0, 12, 5)
    kernel, bias = learner.network.get_layer("new_fc1_more").get_weights()
    old = model.get_layer("fc1").get_weights()
    np.testing.assert_array_equal(kernel, old[0][:, drawn])
    np.testing.assert_array_equal(bias, old[1][drawn])
    assert learner.network.get_layer("new_predictions").kernel.shape == (17, 3)
    assert learner.export_model("old").count_params() == model.count_params()


def conv_net():
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return inputs, layers.Dense(4, name="last")(x)


def test_models_that_cannot_be():
    inputs, outputs = conv_net()
    within = keras.Model(inputs, outputs, name="within")
    outer = keras.Sequential([keras.Input(SHAPE), within])
    with pytest.raises(ValueError, match="within 'within', a model in the model"):
        FineTuning(outer, 2)
    with pytest.raises(ValueError, match=r"head is not recognised.*the output: add\."):
        FineTuning(keras.Model(inputs, layers.Add(name="add")([outputs, outputs])), 2)
    with pytest.raises(ValueError, match=r"are neither probabilities.*nor scores"):
        FineTuning(keras.Model(inputs, layers.Dense(3, "tanh", name="x")(outputs)), 2)
    with pytest.raises(
        ValueError, match=r"No layer 'fc9' is on the one way.*predictions, dropout1"
    ):
        FineTuning(network(), 2, head="fc9")
    with pytest.raises(ValueError, match="`expansion` adds units to the hidden dense layers"):
        LearningWithoutForgetting(keras.Model(inputs, outputs), 2, expansion=4)
    with pytest.raises(ValueError, match="must be a Functional one"):
        functional(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(ValueError, match=r"a keras.Model. Received: 'ResNet50'"):
        FineTuning("ResNet50", 2)
    two = keras.Model([inputs, keras.Input((2,))], outputs)
    with pytest.raises(ValueError, match="Received: 2 inputs"):
        FineTuning(two, 2)
    with pytest.raises(ValueError, match="a list of 2"):
        FineTuning(keras.Model(inputs, [outputs, outputs]), 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 0}, "`classes` must be an integer, at least 1. Received: 0"),
        ({"classes": 3, "task": "old"}, "has a head for 'old' already"),
        ({"classes": 3, "task": "new task"}, "`task` must be a name of letters"),
        ({"classes": 3, "train_from": "block9"}, r"or the name of one of: block1_conv, .*'block9'"),
        ({"classes": 3, "train_from": 9}, "from 1 to 3.*Received: 9"),
        ({"classes": 3, "warmup_epochs": -1}, "`warmup_epochs` must be"),
        ({"classes": 3, "decay": float("nan")}, "`decay` must be"),
    ],
)
def test_arguments_that_cannot_be(arguments, message):
    model = network()
    with pytest.raises(ValueError, match=message):
        FineTuning(model, **arguments)
