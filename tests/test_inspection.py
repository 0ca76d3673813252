"""Counts against the paper's and against hand-computed ones."""

import keras
import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics.inspection import count

# LeCun et al. 1998, section II.B: trainable parameters and connections of each layer.
LENET5 = {
    "c1": (156, 122_304),
    "s2": (12, 5_880),
    "c3": (1_516, 151_600),
    "s4": (32, 2_000),
    "c5": (48_120, 48_120),
    "f6": (10_164, 10_164),
    "rbf": (0, 840),
}


def test_lenet5s_table():
    counted = {row.name: row for row in count(kcc.LeNet5()).layers}
    assert {n: (counted[n].params, counted[n].connections) for n in LENET5} == LENET5
    total = count(kcc.LeNet5())
    assert (total.params, total.state, total.connections) == (60_000, 840, 340_908)


def test_by_hand():
    image = keras.Input((9, 9, 4))
    x = keras.layers.Conv2D(6, 3, groups=2, name="grouped")(image)  # 7x7x6, each sees 3x3x2
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, name="depth")(x)
    x = keras.layers.SeparableConv2D(5, 2, name="separable")(x)  # 4x4
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(10, name="dense")(x)
    counted = count(keras.Model(image, x))
    rows = {row.name: row for row in counted.layers}
    assert rows["grouped"].macs == 49 * 6 * 18
    assert rows["grouped"].connections == 49 * 6 * 19
    assert rows["depth"].macs == rows["depth"].connections == 25 * 12 * 9
    assert rows["separable"].macs == 16 * (12 * 4 + 12 * 5)
    assert (rows["bn"].params, rows["bn"].state, rows["bn"].macs) == (10, 10, 0)
    assert (rows["dense"].macs, rows["dense"].connections) == (800, 810)
    assert counted.activations == 294 + 300 + 80 + 80 + 80 + 10
    assert not counted.uncounted


def test_what_is_not_known_is_said():
    image = keras.Input((9, 9, 4))
    model = keras.Model(image, keras.layers.Conv2DTranspose(3, 2, name="up")(image))
    assert count(model).uncounted == ("up",)


def test_unknown_image_size():
    with pytest.raises(ValueError, match=r"build the model with `input_shape=`.*Received"):
        count(kcc.VGG16(include_top=False, weights=None))
