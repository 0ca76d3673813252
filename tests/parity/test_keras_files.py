"""Whole models that Keras's applications saved, in both of its formats."""

import importlib

import h5py
import keras
import numpy as np
import pytest
from rough import assert_near, randomize, slow

import keras_cnn_classics as kcc

SHAPE = (64, 64, 3)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
PIXELS = np.random.default_rng(0).uniform(0, 255, (2, *SHAPE)).astype("float32")


def answers(model, x=PIXELS):
    return keras.ops.convert_to_numpy(model(x, training=False))


@pytest.mark.parametrize(
    ("name", "side", "form"),
    [
        *(("MobileNet", 64, "keras"), ("EfficientNetB0", 64, "keras"), ("MobileNetV2", 97, "h5")),
        *(("Xception", 97, "keras"), ("InceptionResNetV2", 97, "keras")),
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
    theirs = keras.applications.EfficientNetB0(include_top=False, input_shape=SHAPE, weights=None)
    assert sum(isinstance(x, keras.layers.Rescaling) for x in theirs.layers) == 2
    for form in ("keras", "h5", "weights.h5"):
        path = tmp_path / f"theirs.{form}"
        theirs.save_weights(path) if form == "weights.h5" else theirs.save(path)
        assert_near(answers(kcc.EfficientNetB0(weights=path, include_top=False)), answers(theirs))
    assert "keep that" not in caplog.text


@pytest.mark.parametrize("form", ["keras", slow("h5"), slow("weights.h5"), "hosted.h5"])
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
