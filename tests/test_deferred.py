"""Networks are built without drawing random values that a file replaces."""

import gc
import logging

import keras
import numpy as np
import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics.weights import deferred

OPTIONS = {"depths": (1, 1, 1, 1), "width": 16}
SHAPE = (32, 32, 3)


@pytest.fixture
def drawn(monkeypatch):
    """The shapes that random initializers are asked for."""
    shapes = []
    for kind in (keras.initializers.VarianceScaling, keras.initializers.RandomUniform):
        original = kind.__call__

        def counted(self, shape, dtype=None, original=original, **kwargs):
            shapes.append(tuple(shape))
            return original(self, shape, dtype, **kwargs)

        monkeypatch.setattr(kind, "__call__", counted)
    return shapes


@pytest.fixture
def saved(tmp_path):
    """A small ResNet with values that no initializer gives, and its file."""
    model = kcc.ResNet50(**OPTIONS, input_shape=SHAPE, classes=5, weights=None)
    draw = np.random.default_rng(0).random
    model.set_weights([draw(w.shape, "float32") for w in model.weights])
    model.save_weights(tmp_path / "resnet.weights.h5")
    return model, tmp_path / "resnet.weights.h5"


def same(a, b):
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_file_leaves_nothing_to_draw(saved, drawn):
    model, file = saved
    again = kcc.ResNet50(**OPTIONS, input_shape=SHAPE, classes=5, weights=file)
    assert not drawn
    same(again, model)
    assert [w.path for w in again.weights] == [w.path for w in model.weights]
    assert again.get_config()["layers"] == model.get_config()["layers"]
    initializer = again.get_layer("conv1_conv").kernel_initializer
    assert isinstance(initializer, keras.initializers.GlorotUniform)
    kcc.ResNet50(**OPTIONS, input_shape=SHAPE, classes=5, weights=None)
    assert drawn


@pytest.mark.parametrize("prefix", ["", "left_"])
@pytest.mark.parametrize("layer", [None, "first"])
def test_behind_other_layers_and_with_a_prefix(saved, drawn, prefix, layer):
    model, file = saved
    image = tensor = keras.Input(SHAPE)
    if layer:
        tensor = keras.layers.Conv2D(3, 1, name=layer, use_bias=False)(image)
        before = drawn[:]
    ours = kcc.ResNet50(**OPTIONS, input_tensor=tensor, classes=5, prefix=prefix, weights=file)
    assert drawn == (before if layer else [])
    assert ours.inputs[0] is image
    weights = ours.get_weights()[1 if layer else 0 :]
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert ours.get_layer(f"{prefix}conv1_conv").weights


def test_only_a_fresh_classifier_is_drawn(saved, drawn, monkeypatch, caplog):
    model, file = saved
    source = kcc.registry.WeightsSource(
        kcc.registry.WeightsFile("https://example.org/x.weights.h5", "md5:0"), None
    )
    monkeypatch.setattr("keras_cnn_classics.weights._download.fetch", lambda _: file)

    def make():
        small = {"weights": None, "classes": 7, "input_shape": SHAPE}
        new = kcc.ResNet50(**OPTIONS, **small)
        from keras_cnn_classics.weights import load

        load(new, source, include_top=True, classes=7)
        return new

    with caplog.at_level(logging.ERROR, "keras_cnn_classics"):
        new = deferred.build(make)
    kernel = new.get_layer("predictions").get_weights()[0]
    assert drawn == [kernel.shape]
    assert kernel.std() > 0
    same(
        keras.Model(new.input, new.get_layer("avg_pool").output),
        keras.Model(model.input, model.get_layer("avg_pool").output),
    )


def test_initial_values_do_not_depend_on_the_scope():
    keras.utils.set_random_seed(1)
    one = kcc.ResNet50(**OPTIONS, input_shape=SHAPE, weights=None)
    keras.utils.set_random_seed(1)
    with keras.StatelessScope():
        two = kcc.ResNet50(**OPTIONS, input_shape=SHAPE, weights=None)
    same(one, two)


def test_a_failure_leaves_nothing_behind(saved, drawn, tmp_path):
    (tmp_path / "bad.weights.h5").write_bytes(b"")
    before = drawn[:]
    with pytest.raises(ValueError, match="does not hold the weights"):
        kcc.ResNet50(**OPTIONS, input_shape=SHAPE, weights=tmp_path / "bad.weights.h5")
    assert drawn == before

    class Stop(keras.initializers.Initializer):
        def __call__(self, shape, dtype=None):
            raise KeyboardInterrupt

    def interrupted():
        image = keras.Input((3,))
        x = keras.layers.Dense(2)(image)
        return keras.Model(image, keras.layers.Dense(2, kernel_initializer=Stop())(x))

    with pytest.raises(KeyboardInterrupt):
        deferred.build(interrupted)
    model, file = saved
    same(kcc.ResNet50(**OPTIONS, input_shape=SHAPE, classes=5, weights=file), model)


def test_a_failure_inside_a_scope_leaves_the_callers_variables(tmp_path):
    (tmp_path / "bad.weights.h5").write_bytes(b"")
    with keras.StatelessScope():
        dense = keras.layers.Dense(2)
        dense.build((None, 3))
        with pytest.raises(ValueError, match="does not hold the weights"):
            kcc.ResNet50(**OPTIONS, input_shape=SHAPE, weights=tmp_path / "bad.weights.h5")
    dense.kernel.assign_add(np.ones((3, 2)))  # only a variable with a value can be added to
    assert np.ptp(dense.get_weights()[0]) > 0


def test_empty_networks_have_shapes_only(drawn):
    def make():
        model = kcc.VGG11(weights=None)
        return [tuple(w.shape) for w in model.weights]

    shapes = deferred.build_empty(make)
    assert shapes[-2:] == [(4096, 1000), (1000,)]
    with keras.StatelessScope():
        pass
    gc.collect()
    assert not drawn
    with pytest.raises(ValueError, match="Received: classes=0"):
        deferred.build_empty(lambda: kcc.VGG11(classes=0, weights=None))


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="PyTorch's modules")
def test_parameters_of_pytorch(saved):
    model, file = saved
    again = kcc.ResNet50(**OPTIONS, input_shape=SHAPE, classes=5, weights=file)
    state = again.state_dict()
    assert len(state) == len(model.weights)
    assert len(list(again.get_layer("conv1_conv").parameters())) == 2
    for w in again.weights:
        assert w.value.requires_grad == w.trainable


def test_weights_of_a_file_belong_to_the_model_alone(saved):
    """Where a tensor uses the memory of what was read, training must not reach two models."""
    model, file = saved
    shared = {**OPTIONS, "input_shape": SHAPE, "classes": 5}
    one, two = (kcc.ResNet50(**shared, weights=file) for _ in range(2))
    before = two.get_weights()
    one.compile("sgd", "sparse_categorical_crossentropy")
    one.train_on_batch(np.random.default_rng(0).normal(size=(8, *SHAPE)), np.arange(8) % 5)
    assert np.any(one.get_weights()[0] != before[0])
    for a, b in zip(before, two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    same(model, kcc.ResNet50(**shared, weights=file))
