"""The same weights and the same outputs as `keras.applications`, through a legacy HDF5 file."""

import gc
import re

import keras
import numpy as np
import pytest
from rough import assert_near, randomize

import keras_cnn_classics as kcc
from tests.marks import slow

# Layers without weights that Keras leaves without names.
UNNAMED = (
    *("input", "zero_padding", "max_pooling", "average_pooling", "global", "concatenate"),
    "custom_scale_layer",
)


def answers(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


@pytest.mark.parametrize("include_top", [True, slow(False)])
@pytest.mark.parametrize(
    "name",
    [
        *("VGG16", slow("VGG19")),
        *("ResNet50", slow("ResNet101"), slow("ResNet152")),
        *(slow("ResNet50V2"), slow("ResNet101V2"), slow("ResNet152V2")),
        *(slow("DenseNet121"), slow("DenseNet169"), slow("DenseNet201")),
        *(slow("MobileNet"), slow("MobileNetV2")),
        *(slow("InceptionV3"), slow("InceptionResNetV2")),
    ],
)
def test_parity(name, include_top, tmp_path):
    keras.utils.clear_session()  # which starts Keras's own numbers of layers afresh
    options = {"include_top": include_top, "classifier_activation": None}
    theirs = getattr(keras.applications, name)(weights=None, **options)
    randomize(theirs)
    theirs.save(tmp_path / "theirs.h5")
    ours = getattr(kcc, name)(weights=tmp_path / "theirs.h5", **options)
    named = [layer.name for layer in theirs.layers if layer.weights]
    assert [layer.name for layer in ours.layers if layer.weights] == named
    kept = {
        layer.name
        for layer in theirs.layers
        if not re.match(f"({'|'.join(UNNAMED)}|.*_pad$)", layer.name)
    }
    assert kept <= {layer.name for layer in ours.layers}
    side = getattr(kcc, name).spec.input_size
    x = np.random.default_rng(0).uniform(-120, 130, (2, side, side, 3)).astype("float32")
    assert_near(answers(ours, x), answers(theirs, x))
    del theirs, ours
    gc.collect()


@pytest.mark.parametrize(
    ("name", "alpha"), [("MobileNet", 0.25), slow("MobileNetV2", 0.35), ("MobileNetV2", 1.4)]
)
@pytest.mark.parametrize("side", [slow(128), 97])
def test_parity_of_widths_and_sizes(name, alpha, side, tmp_path):
    options = {"input_shape": (side, side, 3), "alpha": alpha, "classifier_activation": None}
    theirs = getattr(keras.applications, name)(weights=None, **options)
    randomize(theirs)
    theirs.save(tmp_path / "theirs.h5")
    ours = getattr(kcc, name)(weights=tmp_path / "theirs.h5", **options)
    x = np.random.default_rng(0).uniform(-1, 1, (2, side, side, 3)).astype("float32")
    assert_near(answers(ours, x), answers(theirs, x))


MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def set_statistics(normalization, variance):
    normalization.set_weights([MEAN, variance, np.array(0)])
    normalization.finalize_state()  # which a layer does by itself when it reads a file


def efficientnet(name, statistics=STD**2, gain=1.0, **kwargs):
    """Keras's network with rough weights; the variance of its pixels is `statistics`."""
    model = getattr(keras.applications, name)(weights=None, **kwargs)
    (normalization,) = (x for x in model.layers if isinstance(x, keras.layers.Normalization))
    randomize(model, gain=gain)
    set_statistics(normalization, statistics)
    return model, normalization


@pytest.mark.parametrize(
    ("name", "side", "gain"),
    [
        *(slow("EfficientNetB0", 224, 1.1), ("EfficientNetB0", 97, 1.1)),
        *(slow("EfficientNetB1", 240, 1.1), slow("EfficientNetB2", 260, 1.0)),
        *(slow("EfficientNetB3", 300, 1.0), slow("EfficientNetB4", 380, 1.0)),
        *(slow("EfficientNetB5", 131, 1.0), slow("EfficientNetB6", 128, 0.95)),
        slow("EfficientNetB7", 128, 0.95),
    ],
)
@pytest.mark.parametrize("include_top", [True, slow(False)])
def test_efficientnet(name, side, gain, include_top, tmp_path):
    options = {"include_top": include_top, "input_shape": (side, side, 3)}
    options["classifier_activation"] = None
    theirs, _ = efficientnet(name, gain=gain, **options)
    theirs.save(tmp_path / "theirs.h5")
    ours = getattr(kcc, name)(weights=tmp_path / "theirs.h5", **options)
    x = np.random.default_rng(0).uniform(0, 255, (2, side, side, 3)).astype("float32")
    assert_near(answers(ours, x), answers(theirs, x))
    weighted = [layer.name for layer in theirs.layers if layer.weights]
    assert [layer.name for layer in ours.layers if layer.weights] == weighted[1:]
    counted = re.compile("(input|normalization|rescaling|.*_pad$|.*_se_reshape$)")
    named = {layer.name for layer in theirs.layers if not counted.match(layer.name)}
    assert named <= {layer.name for layer in ours.layers}
    dropped = [{x.name: x.rate for x in m.layers if hasattr(x, "rate")} for m in (theirs, ours)]
    assert dropped[0] == dropped[1]
    del theirs, ours
    gc.collect()


@pytest.mark.parametrize(
    ("name", "side"),
    [
        *(slow("Xception", 299), slow("Xception", 128), ("Xception", 97)),
        *(slow("NASNetMobile", 224), slow("NASNetMobile", 97)),
        *(slow("NASNetLarge", 331), slow("NASNetLarge", 64)),
    ],
)
@pytest.mark.parametrize("include_top", [True, slow(False)])
def test_networks_with_counted_names(name, side, include_top, tmp_path):
    """Theirs is not the first of the process, so that its counters do not start at 0."""
    options = {"include_top": include_top, "input_shape": (side, side, 3)}
    options["classifier_activation"] = None
    keras.layers.Conv2D(1, 1), keras.layers.BatchNormalization()
    theirs = getattr(keras.applications, name)(weights=None, **options)
    assert "conv2d" not in [layer.name for layer in theirs.layers]
    randomize(theirs)
    theirs.save(tmp_path / "theirs.h5")
    ours = getattr(kcc, name)(weights=tmp_path / "theirs.h5", **options)
    x = np.random.default_rng(0).uniform(-1, 1, (2, side, side, 3)).astype("float32")
    assert_near(answers(ours, x), answers(theirs, x))
    counted = re.compile(
        "(conv2d|batch_normalization|activation|add|concatenate|cropping2d|zero_padding2d|input"
        "|input_layer|global_.*_pooling2d)(_\\d+)?$|separable_conv_1_pad_"
    )
    named = {layer.name for layer in theirs.layers if not counted.match(layer.name)}
    assert named <= {layer.name for layer in ours.layers}
    del theirs, ours
    gc.collect()


def test_names_of_a_fresh_process():
    """As Keras's first network of a process has them."""
    keras.backend.clear_session()
    theirs = keras.applications.Xception(weights=None)
    named = [layer.name for layer in theirs.layers if layer.weights]
    assert [layer.name for layer in kcc.Xception(weights=None).layers if layer.weights] == named


@pytest.mark.parametrize("name", ["InceptionV3", slow("InceptionResNetV2")])
@pytest.mark.parametrize("shape", [slow((75, 75, 3)), (131, 106, 3)])
def test_parity_of_numbered_layers_behind_others(name, shape, tmp_path):
    """Keras's numbers go on from those of layers that the process has made before."""
    keras.layers.Conv2D(1, 1)
    keras.layers.BatchNormalization()
    options = {"input_shape": shape, "classes": 9, "classifier_activation": None}
    theirs = getattr(keras.applications, name)(weights=None, **options)
    assert "conv2d" not in {layer.name for layer in theirs.layers}
    randomize(theirs)
    theirs.save(tmp_path / "theirs.h5")
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    ours, again = (
        getattr(kcc, name)(weights=tmp_path / f"theirs{kind}", **options)
        for kind in (".h5", ".weights.h5")
    )
    for one, other in zip(ours.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    x = np.random.default_rng(0).uniform(-1, 1, (2, *shape)).astype("float32")
    assert_near(answers(ours, x), answers(theirs, x))
    keras.utils.clear_session()
    del theirs, ours
    gc.collect()
