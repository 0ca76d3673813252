"""Whole models that Keras's applications saved, in both of its formats."""

import importlib
from functools import partial

import h5py
import keras
import numpy as np
import pytest
from rough import assert_near, randomize

import keras_cnn_classics as kcc
from keras_cnn_classics.weights import deferred
from tests.marks import slow

SHAPE = (64, 64, 3)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
PIXELS = np.random.default_rng(0).uniform(0, 255, (2, *SHAPE)).astype("float32")


def answers(model, x=PIXELS):
    return keras.ops.convert_to_numpy(model(x, training=False))


@pytest.mark.parametrize(
    ("name", "side", "form"),
    [
        *(
            ("MobileNet", 64, "keras"),
            slow("EfficientNetB0", 64, "keras"),
            ("MobileNetV2", 97, "h5"),
        ),
        *(("Xception", 97, "keras"), slow("InceptionResNetV2", 97, "keras")),
        *(slow(name, 64, "keras") for name in ("VGG16", "ResNet50", "ResNet50V2", "DenseNet121")),
        *(slow(name, 97, "keras") for name in ("NASNetMobile", "InceptionV3")),
        *(slow(name, 97, "keras") for name in ("MobileNetV2", "EfficientNetB0")),
        *(slow(name, 97, "h5") for name in ("Xception", "NASNetMobile", "InceptionResNetV2")),
        *(slow(name, 97, "h5") for name in ("InceptionV3", "EfficientNetB0")),
        *(slow(name, 64, "h5") for name in ("VGG16", "ResNet50", "ResNet50V2", "DenseNet121")),
        *(slow(name, 64, "h5") for name in ("MobileNet", "NASNetMobile")),
    ],
)
def test_whole_models(name, side, form, tmp_path):
    options = {"input_shape": (side, side, 3), "classes": 7, "classifier_activation": None}
    theirs = getattr(keras.applications, name)(weights=None, **options)
    randomize(theirs, gain=1.1)
    if name == "EfficientNetB0":  # as nobody has adapted it: mean 0, variance 1
        fresh = next(x for x in theirs.layers if isinstance(x, keras.layers.Normalization))
        fresh.set_weights([np.zeros(3), np.ones(3), np.array(0)])
        fresh.finalize_state()
    theirs.save(tmp_path / f"theirs.{form}")
    x = np.random.default_rng(0).uniform(0, 255, (2, side, side, 3)).astype("float32")
    x = x if name == "EfficientNetB0" else x / 127.5 - 1
    ours = getattr(kcc, name)(weights=tmp_path / f"theirs.{form}", **options)
    assert_near(answers(ours, x), answers(theirs, x))
    getattr(kcc, name)(weights=tmp_path / f"theirs.{form}", include_top=False)


def efficientnet(mean, variance):
    """Keras's network with rough weights and these statistics of its images."""
    model = keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=SHAPE)
    randomize(model)
    statistics = next(x for x in model.layers if isinstance(x, keras.layers.Normalization))
    statistics.set_weights([mean, variance, np.array(0)])
    statistics.finalize_state()  # which a layer does by itself when it reads a file
    return model


def only_weights(path):
    """Makes a file of a whole model one of weights alone, as Keras hosts them."""
    with h5py.File(path, "a") as file:
        del file.attrs["model_config"]
    return path


@pytest.fixture
def hosted(tmp_path):
    """Keras's published file, which says the standard deviation for the variance."""
    efficientnet(MEAN, STD).save(tmp_path / "hosted.h5")
    return only_weights(tmp_path / "hosted.h5")


def test_the_hosted_efficientnets(hosted, monkeypatch, tmp_path, caplog):
    """Keras mends what its file says by a layer, which whole files hold."""
    ours = kcc.EfficientNetB0(weights=hosted, include_top=False)
    assert_near(answers(ours), answers(efficientnet(MEAN, STD**2)))
    module = importlib.import_module("keras.src.applications.efficientnet")
    monkeypatch.setattr(module.file_utils, "get_file", lambda *_, **__: str(hosted))
    theirs = keras.applications.EfficientNetB0(include_top=False, input_shape=SHAPE)
    assert sum(isinstance(x, keras.layers.Rescaling) for x in theirs.layers) == 2
    for form in ("keras", "h5", "weights.h5"):
        path = tmp_path / f"theirs.{form}"
        theirs.save_weights(path) if form == "weights.h5" else theirs.save(path)
        assert_near(answers(kcc.EfficientNetB0(weights=path, include_top=False)), answers(theirs))
    assert "keep that" not in caplog.text


@pytest.mark.parametrize("form", [slow("keras"), slow("h5"), slow("weights.h5"), "hosted.h5"])
def test_other_statistics(form, tmp_path, caplog):
    path = tmp_path / f"theirs.{form}"
    theirs = efficientnet(np.array([0.5, 0.25, 0.75]), np.array([0.04, 0.09, 0.16]))
    theirs.save_weights(path) if form == "weights.h5" else theirs.save(path)
    if form == "hosted.h5":
        only_weights(path)
    ours = kcc.EfficientNetB0(weights=path, include_top=False)
    assert "Save it as .keras to keep that" in caplog.text
    assert_near(answers(ours), answers(theirs))
    ours.save(tmp_path / "ours.keras")  # they stay with the model
    assert_near(answers(keras.saving.load_model(tmp_path / "ours.keras")), answers(theirs))
    assert_near(
        answers(kcc.EfficientNetB0(weights=tmp_path / "ours.keras", include_top=False)),
        answers(theirs),
    )
    prepared = {"include_top": False, "include_preprocessing": False}
    if form in ("keras", "h5"):
        with pytest.raises(ValueError, match="it normalizes images itself, unlike the model"):
            kcc.EfficientNetB0(weights=path, **prepared)
    else:
        x = (PIXELS / 255 - [0.5, 0.25, 0.75]) / [0.2, 0.3, 0.4]
        ours = kcc.EfficientNetB0(weights=path, **prepared)
        assert_near(answers(ours, x.astype("float32")), answers(theirs))


def old_resnext(depths, groups, *, fixed):
    """ResNeXt as Keras had it: depthwise convolutions whose maps are summed within each group.

    With `fixed`, a convolution sums them, as in Keras 2.
    """

    def unit(x, *, name, relu=True, layer=None, filters=None, kernel=1, strides=1):
        layer = layer or keras.layers.Conv2D(
            filters, kernel, strides, use_bias=False, name=f"{name}_conv"
        )
        x = keras.layers.BatchNormalization(epsilon=1.001e-5, name=f"{name}_bn")(layer(x))
        return keras.layers.ReLU()(x) if relu else x

    def grouped(x, strides, name):
        side, maps = -(-x.shape[1] // strides), x.shape[-1]
        width = maps // groups
        depthwise = keras.layers.DepthwiseConv2D(
            3, strides, depth_multiplier=width, use_bias=False, name=f"{name}_conv"
        )
        x = depthwise(keras.layers.ZeroPadding2D(1)(x))
        if not fixed:
            x = keras.ops.reshape(x, (-1, side, side, groups, width, width))
            return keras.ops.reshape(keras.ops.sum(x, axis=4), (-1, side, side, maps))
        kernel = np.kron(np.eye(groups), np.tile(np.eye(width), (width, 1)))[None, None]
        layer = keras.layers.Conv2D(maps, 1, use_bias=False, name=f"{name}_gconv", trainable=False)
        x = layer(x)
        layer.set_weights([kernel])
        return x

    image = keras.Input(SHAPE)
    x = unit(keras.layers.ZeroPadding2D(3)(image), name="conv1", filters=64, kernel=7, strides=2)
    x = keras.layers.MaxPooling2D(3, 2)(keras.layers.ZeroPadding2D(1)(x))
    for stage, depth in enumerate(depths):
        filters = 128 * 2**stage
        for i in range(depth):
            name, strides = f"conv{stage + 2}_block{i + 1}", 2 if stage and not i else 1
            way = x
            if not i:
                way = unit(x, name=f"{name}_0", relu=False, filters=2 * filters, strides=strides)
            x = unit(x, name=f"{name}_1", filters=filters)
            x = unit(x, name=f"{name}_2", layer=partial(grouped, strides=strides, name=f"{name}_2"))
            x = unit(x, name=f"{name}_3", relu=False, filters=2 * filters)
            x = keras.layers.ReLU()(keras.layers.Add()([way, x]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(1000, name="probs")(x))


@pytest.mark.slow
@pytest.mark.parametrize("fixed", [False, True])
def test_the_hosted_resnexts(fixed, tmp_path):
    theirs = old_resnext((3, 4, 6, 3), 32, fixed=fixed)
    kernels = {x.name: x.get_weights() for x in theirs.layers if x.name.endswith("_gconv")}
    randomize(theirs, gain=0.8)
    for name, kernel in kernels.items():
        theirs.get_layer(name).set_weights(kernel)
    theirs.save(tmp_path / "theirs.h5")
    path = only_weights(tmp_path / "theirs.h5")
    x = PIXELS / 127.5 - 1
    ours = kcc.ResNeXt50_32x4d(weights=path, classifier_activation=None, input_shape=SHAPE)
    assert_near(answers(ours, x), answers(theirs, x))
    trunk = kcc.ResNeXt50_32x4d(weights=path, include_top=False)
    for layer in trunk.layers:
        for a, b in zip(layer.get_weights(), ours.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("name", "old"),
    [
        slow("ResNet50", {"predictions": "probs"}),
        slow(
            "DenseNet121",
            {"predictions": "fc1000", "conv1_conv": "conv1/conv", "conv1_bn": "conv1/bn"},
        ),
        ("MobileNetV2", {"predictions": "Logits"}),
    ],
)
def test_names_of_old_hosted_files(name, old, tmp_path):
    theirs = getattr(keras.applications, name)(weights=None, input_shape=SHAPE)
    randomize(theirs)
    path = tmp_path / "hosted.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [old.get(x.name, x.name) for x in theirs.layers]
        for layer in theirs.layers:
            group = file.create_group(old.get(layer.name, layer.name))
            group.attrs["weight_names"] = [str(i) for i in range(len(layer.weights))]
            for i, array in enumerate(layer.get_weights()):
                group[str(i)] = array
    for top in (True, False):
        ours = getattr(kcc, name)(weights=path, input_shape=SHAPE, include_top=top)
        for layer in ours.layers:
            saved = theirs.get_layer(layer.name).get_weights() if layer.weights else []
            for a, b in zip(layer.get_weights(), saved, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "name",
    [
        *("ResNet50V2", "InceptionV3", "Xception", "MobileNetV2", "NASNetMobile"),
        *map(slow, ("VGG16", "ResNet50", "InceptionResNetV2", "DenseNet121", "MobileNet")),
        *map(
            slow,
            ("EfficientNetB0", "VGG19", "ResNet101", "ResNet152", "ResNet101V2", "ResNet152V2"),
        ),
        *map(slow, ("DenseNet169", "DenseNet201", "EfficientNetB4", "EfficientNetB7")),
    ],
)
@pytest.mark.parametrize("include_top", [True, slow(False)])
def test_layers_have_keras_order(name, include_top):
    """By which Keras loads its published files, and we do where their names are not ours."""
    keras.backend.clear_session()
    options = {"weights": None, "include_top": include_top}
    theirs, ours = (
        [layer.name for layer in model.layers if layer.weights]
        for model in (
            deferred.build_empty(partial(getattr(package, name), **options))
            for package in (keras.applications, kcc)
        )
    )
    assert [one for one in theirs if one != "normalization"] == ours
