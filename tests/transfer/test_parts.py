"""Which layers of a network of parts learn, and how they are grouped."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_cnn_classics.transfer import (
    DuplicateAndFineTune,
    FeatureExtraction,
    FineTuning,
    JointTraining,
    LearningWithoutForgetting,
)
from keras_cnn_classics.transfer.parts import blocks, part_from, train_only, weighted_layers
from tests.marks import slow_compiled
from tests.transfer.networks import X_OLD, Y_OLD, X, Y, of_parts

MAKE = {
    "extraction": lambda model: FeatureExtraction(model, 3, cache=None),
    "fine-tuning": lambda model: FineTuning(model, 3, warmup_epochs=1),
    "last block": lambda model: FineTuning(model, 3, warmup_epochs=1, train_from="last_block"),
    "duplicate": lambda model: DuplicateAndFineTune(model, 3, warmup_epochs=1, decay=0.05),
    "joint": lambda model: JointTraining(model, 3, warmup_epochs=1),
    "lwf": lambda model: LearningWithoutForgetting(model, 3, warmup_epochs=1),
}
NORMS = 8  # variables of the two batch normalizations
ALL = 19


def by_place(model):
    """The weights of the old network, in their order."""
    answers = (
        keras.Model(model.input, model.output["old"]) if isinstance(model.output, dict) else model
    )
    return [keras.ops.convert_to_numpy(one).copy() for one in answers.weights]


def fit(method, epochs):
    method.compile(keras.optimizers.SGD(0.05, momentum=0.9))
    more = {"old_data": (X_OLD, Y_OLD)} if isinstance(method, JointTraining) else {}
    method.fit(X, Y, batch_size=12, epochs=epochs, verbose=0, **more)


@pytest.mark.parametrize(
    "name", [one if one == "last block" else slow_compiled(one) for one in MAKE]
)
def test_frozen_means_frozen_in_a_network_of_parts(name):
    model = of_parts()
    before = by_place(model)
    assert len(before) == ALL
    method = MAKE[name](model)
    fit(method, 1 if name != "extraction" else 2)  # the warm-up
    after = by_place(method.network)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    if name in ("extraction", "duplicate"):
        method.fit(X, Y, batch_size=12, epochs=3, initial_epoch=1, verbose=0)
        changed = 0
    else:
        fit(method, 2)
        changed = {"last block": 3, "fine-tuning": ALL - NORMS - 2}.get(name, ALL - NORMS)
    after = by_place(method.network)
    moved = sum(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert moved == changed
    old = method.predict(X, verbose=0)["old"]
    exported = method.export_model("old").predict(X, verbose=0)
    np.testing.assert_allclose(exported, old, atol=1e-6)
    if not changed:
        np.testing.assert_allclose(old, model.predict(X, verbose=0), atol=1e-6)


def test_a_copy_beside_the_old_network_has_names_of_its_own():
    method = DuplicateAndFineTune(of_parts(), 3, warmup_epochs=0)
    names = [layer.name for layer in method.trunk_layers()]
    assert names[0] == "new_trunk_first"
    assert names[2:] == [
        "new_trunk_inner_inner_bn",
        "new_trunk_inner_predictions",
        "new_scaled",
    ]
    paths = [v.path for v in method.network.variables if v.path.startswith("new_")]
    assert len(set(paths)) == len(paths) == ALL


@pytest.mark.slow_compiled
@pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="this Keras has no MultiOptimizer"
)
def test_a_copy_learns_at_rates_of_its_own():
    method = DuplicateAndFineTune(of_parts(), 3, warmup_epochs=0, layer_decay=0.5)
    fit(method, 1)
    rates = sorted(round(float(one.learning_rate), 6) for one in method.optimizer.optimizers)
    assert rates == [0.003125, 0.00625, 0.0125, 0.025, 0.05]


def test_heads_are_not_confused_with_layers_in_models():
    method = FineTuning(of_parts(), 3)
    (head,) = method.head_layers("old")
    assert head.units == 4
    assert sum(layer.name == "predictions" for layer in method.shared_layers()) == 1


def test_layers_with_weights():
    model = of_parts()
    names = [layer.name for layer in weighted_layers(model)]
    assert names[0] == "first"
    assert names[2:] == ["inner_bn", "predictions", "scaled", "predictions"]
    train_only(model, [model.get_layer("scaled")], batch_norm=False)
    assert {v.path.split("/", 1)[1] for v in model.trainable_variables} == {
        "scale",
        "conv/kernel",
        "conv/bias",
    }


def test_a_model_with_a_weight_of_its_own():
    @keras.saving.register_keras_serializable(package="tests")
    class Shifted(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = layers.Dense(4, name="inside")
            self.shift = self.add_weight(shape=(4,), name="shift")

        def call(self, x):
            return self.dense(x) + self.shift

    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(2, name="last")(Shifted(name="shifted")(inputs)))
    assert [layer.name for layer in weighted_layers(model)] == ["shifted", "inside", "last"]
    train_only(model, [model.get_layer("last")], batch_norm=True)
    assert {v.path for v in model.trainable_variables} == {"last/kernel", "last/bias"}


def conv(name=None):
    return layers.Conv2D(2, 1, name=name)


def grouped(*layers_):
    model = keras.Sequential([keras.Input((4, 4, 2)), *layers_])
    return [[layer.name for layer in group] for group in blocks(weighted_layers(model))]


def test_blocks_by_names():
    norm = layers.BatchNormalization
    found = grouped(
        conv("stem"),
        conv("block1_conv1"),
        norm(name="block1_bn"),
        conv("conv2_a"),
        conv("block1_conv2"),
        norm(name="last_norm"),
    )
    assert found == [
        ["stem"],
        ["block1_conv1", "block1_bn"],
        ["conv2_a"],
        ["block1_conv2", "last_norm"],
    ]


def test_a_layer_that_keras_has_named_is_a_block():
    norm = layers.BatchNormalization
    found = grouped(conv(), norm(), conv(), norm(), conv())
    assert [len(group) for group in found] == [2, 2, 1]
    model = keras.Sequential([keras.Input((4, 4, 2)), conv(), norm(), conv()])
    last = part_from(weighted_layers(model), "last_block")
    assert last == [model.layers[-1]]
