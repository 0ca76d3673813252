"""Heads are found, copied and added as they should be."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_cnn_classics as kcc
from keras_cnn_classics.layers import EuclideanRBF
from keras_cnn_classics.transfer import FeatureExtraction, FineTuning, LearningWithoutForgetting
from keras_cnn_classics.transfer.heads import find_head, form_of, functional
from tests.transfer.networks import SHAPE, X, network


@pytest.mark.slow_compiled
def test_a_dense_head():
    model = network()
    head = find_head(model.output)
    assert [layer.name for layer in head.layers] == ["predictions"]
    assert (head.classes, head.form) == (4, "softmax")
    assert head.inputs is model.get_layer("dropout1").output


def test_a_head_that_is_named():
    head = find_head(network().output, "fc1")
    assert [layer.name for layer in head.layers] == ["fc1", "dropout1", "predictions"]


@pytest.mark.slow_compiled
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


def softmax():
    return layers.Dense(4, "softmax")


def scores():
    return layers.Dense(4)


@pytest.mark.parametrize(
    ("form", "ending"),
    [
        ("softmax", lambda x: layers.Activation("linear", dtype="float32")(softmax()(x))),
        ("softmax", lambda x: layers.Flatten()(layers.Reshape((1, 4))(softmax()(x)))),
        ("softmax", lambda x: layers.Dropout(0.1)(layers.ReLU()(softmax()(x)))),
        ("softmax", lambda x: layers.Average()([softmax()(x), softmax()(x)])),
        ("softmax", lambda x: keras.Sequential([softmax(), layers.Identity()])(x)),
        ("softmax", lambda x: keras.ops.cast(keras.ops.softmax(scores()(x)), "float32")),
        (
            "softmax",
            lambda x: layers.GlobalAveragePooling1D()(softmax()(layers.Reshape((5, 1))(x))),
        ),
        ("sigmoid", lambda x: layers.Concatenate()([layers.Dense(1, "sigmoid")(x)] * 4)),
        ("sigmoid", lambda x: layers.Activation(None)(keras.ops.sigmoid(scores()(x)))),
        ("linear", lambda x: layers.Activation("linear", dtype="float32")(scores()(x))),
        ("linear", lambda x: scores()(softmax()(x))),
        ("linear", lambda x: scores()(x) / 2.0 + layers.BatchNormalization()(scores()(x))),
        ("linear", lambda x: layers.Flatten()(layers.Dense(4, "relu")(x))),
        ("linear", lambda x: layers.SpectralNormalization(scores())(x)),
        ("linear", lambda x: EuclideanRBF(np.eye(4, 5))(x)),
    ],
)
def test_the_form_is_found_behind_what_leaves_it(form, ending):
    inputs = keras.Input((5,))
    assert form_of(ending(inputs)) == form


class Mine(layers.Layer):
    def call(self, x):
        return keras.ops.softmax(x)


@pytest.mark.parametrize(
    ("ending", "what"),
    [
        (lambda x: layers.Lambda(keras.ops.softmax, name="mine")(scores()(x)), "'mine' .Lambda."),
        (lambda x: Mine(name="mine")(scores()(x)), "'mine' .Mine."),
        (lambda x: layers.Add(name="sum")([softmax()(x), softmax()(x)]), "'sum' .Add."),
        (lambda x: layers.Average(name="mean")([softmax()(x), scores()(x)]), "'mean' .Average."),
        (lambda x: softmax()(x) / 2.0, "TrueDivide"),
    ],
)
def test_answers_that_may_be_of_any_kind(ending, what):
    inputs = keras.Input((5,))
    with pytest.raises(
        ValueError, match=rf"told whether .*{what}.* gives .*end the model in keras.layers.S"
    ):
        form_of(ending(inputs))
    # The remedy that the message names.
    assert form_of(layers.Softmax()(ending(inputs))) == "softmax"


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
    assert again.tasks == ["new", "old", "third"]
    with pytest.raises(ValueError, match=r"own are \['new', 'old'\]. Received: task='third'"):
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


def test_expansion_copies_what_batch_norm_knows():
    """Net2Net's copies give what the old units give, batch normalization with them."""
    inputs = keras.Input((6,))
    x = inputs
    for name in ("first", "second"):
        x = layers.Dense(8, name=name)(x)
        x = layers.ReLU()(layers.BatchNormalization(name=f"{name}_bn")(x))
    model = keras.Model(inputs, layers.Dense(4, "softmax", name="last")(x))
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.5, 2.0, w.shape) for w in model.get_weights()])
    method = LearningWithoutForgetting(model, 3, expansion=5)
    features = method.network.get_layer("new_features").output
    found = keras.Model(method.network.input, features).predict(rng.normal(size=(9, 6)), verbose=0)
    old, new = found[:, :8], found[:, 8:]
    assert all((np.abs(old - unit[:, None]) < 1e-4).all(0).any() for unit in new.T)
    assert new.std(0).max() > 0.1  # these are no dead units


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
