"""The same weights and the same outputs as `keras.applications`, through a legacy HDF5 file."""

import gc
import re

import keras
import numpy as np
import pytest

import keras_cnn_classics as kcc


def randomize(model, seed=1):
    """Rough weights that keep the scale of activations; statistics far from 0 and 1."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        values = []
        for w in layer.weights:
            if w.name == "moving_variance":
                values.append(rng.uniform(0.5, 2.0, w.shape))
            elif len(w.shape) > 1:
                scale = np.sqrt(2 / np.prod(w.shape[:-1]))
                values.append(rng.standard_normal(w.shape, "float32") * scale)
            else:
                values.append(rng.normal(float(w.name == "gamma"), 0.2, w.shape))
        if values:
            layer.set_weights(values)


# Layers without weights that Keras leaves without names.
UNNAMED = (
    *("input", "zero_padding", "max_pooling", "average_pooling", "global", "concatenate"),
    "custom_scale_layer",
)


@pytest.mark.slow
@pytest.mark.parametrize("include_top", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        *("VGG16", "VGG19"),
        *("ResNet50", "ResNet101", "ResNet152"),
        *("ResNet50V2", "ResNet101V2", "ResNet152V2"),
        *("DenseNet121", "DenseNet169", "DenseNet201"),
        *("MobileNet", "MobileNetV2"),
        *("InceptionV3", "InceptionResNetV2"),
    ],
)
def test_parity(name, include_top, tmp_path):
    keras.utils.clear_session()  # which starts Keras's own numbers of layers afresh
    theirs = getattr(keras.applications, name)(weights=None, include_top=include_top)
    randomize(theirs)
    theirs.save(tmp_path / "theirs.h5")
    ours = getattr(kcc, name)(weights=tmp_path / "theirs.h5", include_top=include_top)
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
    a, b = (keras.ops.convert_to_numpy(m(x, training=False)) for m in (theirs, ours))
    np.testing.assert_allclose(b, a, rtol=0, atol=1e-4 * np.abs(a).max())
    del theirs, ours
    gc.collect()


@pytest.mark.parametrize(
    ("name", "alpha"), [("MobileNet", 0.25), ("MobileNetV2", 0.35), ("MobileNetV2", 1.4)]
)
@pytest.mark.parametrize("side", [128, 97])
def test_parity_of_widths_and_sizes(name, alpha, side, tmp_path):
    shape = (side, side, 3)
    theirs = getattr(keras.applications, name)(shape, alpha, weights=None)
    randomize(theirs)
    theirs.save(tmp_path / "theirs.h5")
    ours = getattr(kcc, name)(weights=tmp_path / "theirs.h5", input_shape=shape, alpha=alpha)
    x = np.random.default_rng(0).uniform(-1, 1, (2, *shape)).astype("float32")
    a, b = (keras.ops.convert_to_numpy(m(x, training=False)) for m in (theirs, ours))
    np.testing.assert_allclose(b, a, rtol=0, atol=1e-4 * np.abs(a).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["InceptionV3", "InceptionResNetV2"])
@pytest.mark.parametrize("shape", [(75, 75, 3), (131, 106, 3)])
def test_parity_of_numbered_layers_behind_others(name, shape, tmp_path):
    """Keras's numbers go on from those of layers that the process has made before."""
    keras.layers.Conv2D(1, 1)
    keras.layers.BatchNormalization()
    theirs = getattr(keras.applications, name)(weights=None, input_shape=shape, classes=9)
    assert "conv2d" not in {layer.name for layer in theirs.layers}
    randomize(theirs)
    theirs.save(tmp_path / "theirs.h5")
    ours = getattr(kcc, name)(weights=tmp_path / "theirs.h5", input_shape=shape, classes=9)
    x = np.random.default_rng(0).uniform(-1, 1, (2, *shape)).astype("float32")
    a, b = (keras.ops.convert_to_numpy(m(x, training=False)) for m in (theirs, ours))
    np.testing.assert_allclose(b, a, rtol=0, atol=1e-4 * np.abs(a).max())
    keras.utils.clear_session()
    del theirs, ours
    gc.collect()
