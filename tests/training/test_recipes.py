"""Recipes: what they say, how they are scaled, and that each of them trains a network."""

import dataclasses
import math
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics import training
from keras_cnn_classics.training import Recipe, recipe
from keras_cnn_classics.training.papers import PAPERS
from keras_cnn_classics.training.settings import Cosine, Plateau, Staircase, Steps
from tests.marks import slow

BASE = Recipe("a test", "sgd", 0.2, 1e-4, 64, 10, "crop", "a test")


def rates(settings, steps_per_epoch, at):
    rate = settings.make_optimizer(steps_per_epoch)._learning_rate
    return [float(rate(step)) for step in at]


def test_recipes_are_found_by_model_and_by_name():
    assert recipe("lenet5", "quick") == recipe(kcc.LeNet5.spec, "quick")
    assert recipe("VGG16", "quick").optimizer == "sgd"
    assert recipe("resnet50").name == "resnet"
    assert recipe("ResNet20").name == "resnet-cifar"
    assert recipe("DenseNet40_12").name == "densenet-cifar"
    assert recipe("NIN").name == "nin"
    with pytest.raises(ValueError, match="recipe of Xception's paper is not here"):
        recipe("Xception")
    with pytest.raises(ValueError, match="Or is the recipe 'resnet-cifar' meant"):
        recipe("resnet-cifr")
    with pytest.raises(ValueError, match="Received: 'best'"):
        recipe("VGG16", "best")


@pytest.mark.parametrize("name", PAPERS)
def test_what_a_recipe_says_of_itself(name):
    one = PAPERS[name]
    fields = {item.name for item in dataclasses.fields(one)}
    assert set(one.sections) <= fields
    assert one.result
    assert one.protocol
    assert one.source.split(", http")[0][-4:].isdigit()
    shown = {field: (value, section) for field, value, section in training.describe(one)}
    assert shown["learning rate"][0] == f"{one.learning_rate:g}"
    for field in one.sections:
        assert field.replace("_", " ") in shown, field


def test_years_are_the_registrys():
    known = {spec.url: spec.year for spec in (kcc.get_builder(n).spec for n in kcc.list_models())}
    package = Path(kcc.__file__).parent
    files = [*(package / "training").rglob("*.py"), *(package / "data").rglob("*.py")]
    text = "\n".join(file.read_text() for file in files)
    cited = re.findall(r", (\d{4})\]\((http\S+)\)", text)
    cited += re.findall(r', (\d{4}), (http\S+)"', text)
    found = [(url, int(year)) for year, url in cited if url in known]
    assert len(found) > 20
    assert {(url, year) for url, year in found if known[url] != year} == set()


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        # RECIPES by hand: optimizer, rate, momentum, decay, batch, epochs
        ("alexnet", ("sgd", 0.01, 0.9, 5e-4, 128, 90)),
        ("zfnet", ("sgd", 0.01, 0.9, 0, 128, 70)),
        ("vgg", ("sgd", 0.01, 0.9, 5e-4, 256, 74)),
        ("resnet", ("sgd", 0.1, 0.9, 1e-4, 256, 120)),
        ("resnet-cifar", ("sgd", 0.1, 0.9, 1e-4, 128, 182)),
        ("stochastic-depth", ("nesterov", 0.1, 0.9, 1e-4, 128, 500)),
        ("densenet", ("nesterov", 0.1, 0.9, 1e-4, 256, 90)),
        ("densenet-cifar", ("nesterov", 0.1, 0.9, 1e-4, 64, 300)),
        ("senet", ("sgd", 0.6, 0.9, 1e-4, 1024, 100)),
        ("inception-v3", ("rmsprop", 0.045, 0.9, 4e-5, 32, 100)),
        ("mobilenet-v2", ("rmsprop", 0.045, 0.9, 4e-5, 96, 300)),
        ("efficientnet", ("rmsprop", 0.256, 0.9, 1e-5, 4096, 350)),
    ],
)
def test_facts(name, facts):
    one = PAPERS[name]
    found = (one.optimizer, one.learning_rate, one.momentum, one.weight_decay)
    assert (*found, one.batch_size, one.epochs) == facts


def test_steps_and_epochs_agree_with_the_papers():
    images, cifar = 1_281_167, 45_000
    assert PAPERS["resnet"].epochs == round(600_000 * 256 / images)
    assert PAPERS["vgg"].epochs == round(370_000 * 256 / images)
    assert PAPERS["resnet-cifar"].epochs == round(64_000 * 128 / cifar)
    steps = math.ceil(cifar / 128)
    found = PAPERS["resnet-cifar"].make_optimizer(steps)._learning_rate.boundaries
    np.testing.assert_allclose(found, [32_000, 48_000], rtol=2e-3)


def test_scaled_by_the_linear_rule():
    one = recipe("ResNet20", batch_size=32, scale=0.1)
    assert one.learning_rate == pytest.approx(0.1 * 32 / 128)
    assert one.epochs == 18
    assert one.decay.at == pytest.approx((9.1, 13.65))
    two = recipe("EfficientNetB0", scale=0.5)
    assert (two.warmup, two.decay.every, two.epochs) == (2.5, 1.2, 175)
    assert recipe("AlexNet", scale=1e-3).epochs == 1
    assert recipe("AlexNet", scale=0.4).decay.patience == 2
    with pytest.raises(ValueError, match="Received: scale=0"):
        BASE.scaled(scale=0)


def test_how_the_rate_falls():
    cosine = dataclasses.replace(BASE, decay=Cosine())
    assert rates(cosine, 10, (0, 50, 100)) == pytest.approx([0.2, 0.1, 0.0], abs=1e-6)
    steps = dataclasses.replace(BASE, decay=Steps(at=(2, 2.5), factor=0.5))
    assert rates(steps, 10, (19, 20, 24, 25)) == pytest.approx([0.2, 0.1, 0.1, 0.05])
    stairs = dataclasses.replace(BASE, decay=Staircase(0.9, every=2.4))
    assert rates(stairs, 10, (23, 24, 48)) == pytest.approx([0.2, 0.18, 0.162])
    warm = dataclasses.replace(BASE, decay=Steps(at=(5,)), warmup=1)
    assert rates(warm, 10, (0, 5, 10, 50)) == pytest.approx([0.0, 0.1, 0.2, 0.02])
    plateau = dataclasses.replace(BASE, decay=Plateau(drops=2, patience=7))
    assert float(plateau.make_optimizer(10).learning_rate) == pytest.approx(0.2)
    (callback,) = plateau.decay.callbacks(3, "val_accuracy")
    assert (callback.max_drops, callback.patience, callback.warmup_epochs) == (2, 7, 3)


def test_wrong_recipes():
    for settings, message in (
        ({"optimizer": "adam"}, "Received: 'adam'"),
        ({"learning_rate": 0}, "Received: 0"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(BASE, **settings)


def test_optimizers():
    for name, kind in (
        ("sgd", keras.optimizers.SGD),
        ("nesterov", keras.optimizers.SGD),
        ("rmsprop", training.RMSpropTF1),
        ("adamw", keras.optimizers.AdamW),
    ):
        one = dataclasses.replace(BASE, optimizer=name, clipnorm=2.0).make_optimizer(3)
        assert isinstance(one, kind)
        assert one.global_clipnorm == 2.0
        assert getattr(one, "nesterov", False) is (name == "nesterov")
        # decoupled only where the recipe means it
        assert (one.weight_decay == 1e-4) if name == "adamw" else not one.weight_decay


def tiny(**options):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="predictions")(x))


X = np.random.default_rng(0).normal(size=(12, 8, 8, 3)).astype("float32")
Y = np.arange(12) % 3


QUICK = ("zfnet", "googlenet", "stochastic-depth", "efficientnet")


@pytest.mark.parametrize(
    "name",
    [one if one in QUICK else slow(one) for one in PAPERS],
)
def test_every_recipe_trains(name):
    one = PAPERS[name].scaled(batch_size=4, scale=0.01)
    model = tiny()
    callbacks = one.compile(model, steps_per_epoch=3)
    history = model.fit(
        X, Y, batch_size=4, epochs=2, verbose=0, validation_data=(X, Y), callbacks=callbacks
    ).history
    assert np.isfinite(history["loss"]).all()
    kernel, norm = model.get_layer("conv").kernel, model.get_layer("norm")
    decay = one.weight_decay / 2 * np.sum(keras.ops.convert_to_numpy(kernel) ** 2)
    found = kernel.regularizer(kernel) if kernel.regularizer else 0.0
    assert keras.ops.convert_to_numpy(found) == pytest.approx(decay, rel=1e-5)
    assert norm.gamma.regularizer is norm.beta.regularizer is None
    rms = np.sqrt(np.mean(keras.ops.convert_to_numpy(kernel) ** 2))
    assert rms <= 0.1001 or not one.filter_rms


@pytest.mark.slow_compiled
@pytest.mark.parametrize("name", ["VGG11", "VGG16"])
def test_vgg_begins_with_a_loss_that_can_be_trained(name):
    model = kcc.build(name, weights=None, classes=10, input_shape=(32, 32, 3))
    recipe(name).compile(model, steps_per_epoch=1)
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype("float32")
    images = kcc.preprocessing.preprocess_input(images, kcc.get_builder(name).spec.preprocessing)
    found = model.predict(images, verbose=0)[np.arange(8), np.arange(8)]
    assert math.log(10) / 3 < -np.log(found).mean() < 3 * math.log(10)


@pytest.mark.parametrize("name", ["AlexNet", "AlexNetSingle", "AlexNetOWT"])
def test_biases_of_alexnet_begin_at_1_where_the_paper_says(name):
    model = kcc.build(name, weights=None, classes=3, **kcc.get_builder(name).spec.tiny)
    recipe(name).compile(model, steps_per_epoch=1)
    values = {v.path.split("/")[-2]: v for v in model.weights if v.name == "bias"}
    biases = {name: float(keras.ops.convert_to_numpy(v)[0]) for name, v in values.items()}
    ones = dict.fromkeys(("conv2", "conv4", "conv5", "fc6", "fc7"), 1.0)
    assert biases == {"conv1": 0.0, "conv3": 0.0, "predictions": 0.0, **ones}


def test_zfnet_bounds_the_filters_of_convolutions_alone():
    model = kcc.build("ZFNet", weights=None, classes=3, **kcc.ZFNet.spec.tiny)
    recipe("ZFNet").compile(model, steps_per_epoch=1)
    kernels = {v.path.split("/")[-2]: v.constraint for v in model.weights if v.name == "kernel"}
    bounded = {name for name, constraint in kernels.items() if constraint is not None}
    assert bounded == {"conv1", "conv2", "conv3", "conv4", "conv5"}
    assert {"fc6", "fc7", "predictions"} < set(kernels)


def test_options_for_the_data():
    one = recipe("VGG16").load_options(64)
    assert one["resize_side"] == round(384 / 224 * 64)
    assert type(one["augment"][0]).__name__ == "ScaleJitter"
    assert one["batch_size"] == 256


@pytest.mark.slow_compiled
def test_auxiliary_classifiers():
    model = training.with_auxiliary_targets(
        kcc.build("GoogLeNet", weights=None, aux=True, classes=3, **kcc.GoogLeNet.spec.tiny)
    )
    size = model.input_shape[1]
    x = np.random.default_rng(0).normal(size=(4, size, size, 3)).astype("float32")
    one = recipe("GoogLeNet").scaled(batch_size=4)
    callbacks = one.compile(model, 1, validated=False)
    history = model.fit(x, Y[:4], epochs=1, verbose=0, callbacks=callbacks).history
    weights = {name: values for name, values in history.items() if name.endswith("_weight")}
    assert weights
    np.testing.assert_allclose(list(weights.values()), 0.3, rtol=1e-6)
    assert "predictions_accuracy" in history
