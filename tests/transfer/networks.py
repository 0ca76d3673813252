"""Small networks and images for the tests of transfer."""

import keras
import numpy as np
from keras import layers

RNG = np.random.default_rng(7)
SHAPE = (8, 8, 3)
X = RNG.normal(size=(48, *SHAPE)).astype("float32")
Y = (X.mean((1, 2, 3)) > 0).astype("int64") + (X[:, :4].mean((1, 2, 3)) > 0)  # three classes
X_OLD = RNG.normal(size=(40, *SHAPE)).astype("float32")
Y_OLD = RNG.integers(0, 4, 40)


def network(activation="softmax", seed=0, batch_norm=True, dropout=0.3):
    """Two blocks of convolutions and a hidden dense layer, for four classes."""
    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input(SHAPE)
    x = layers.Conv2D(6, 3, padding="same", name="block1_conv")(x)
    if batch_norm:
        x = layers.BatchNormalization(name="block1_bn")(x)
    x = layers.ReLU(name="block1_relu")(x)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="block2_conv")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(12, activation="relu", name="fc1")(x)
    x = layers.Dropout(dropout, name="dropout1")(x)
    outputs = layers.Dense(4, activation=activation, name="predictions")(x)
    return keras.Model(inputs, outputs, name="net")


def weights_of(model, *names):
    """The weights of layers by name, wherever they are in a model."""
    found = {
        v.path.split("/")[-2] + "/" + v.name: keras.ops.convert_to_numpy(v)
        for v in model.variables
        if v.path.split("/")[-2] in names
    }
    return {name: np.array(value) for name, value in found.items()}


@keras.saving.register_keras_serializable(package="tests")
class Scaled(layers.Layer):
    """A layer with a weight of its own, and layers in it."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.conv = layers.Conv2D(filters, 3, padding="same", name="conv")
        self.norm = layers.BatchNormalization(name="norm")

    def build(self, shape):
        self.conv.build(shape)
        self.norm.build((*shape[:3], self.filters))
        self.scale = self.add_weight(shape=(self.filters,), initializer="ones", name="scale")

    def call(self, x, training=None):
        return self.scale * self.norm(self.conv(x), training=training)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


def of_parts(seed=0):
    """A network with a layer of layers, and a model in it that has layers of the same names."""
    keras.utils.set_random_seed(seed)
    inner = keras.Sequential(
        [
            keras.Input((*SHAPE[:2], 6)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.BatchNormalization(name="inner_bn"),
            layers.Conv2D(8, 3, activation="relu", name="predictions"),
        ],
        name="inner",
    )
    trunk_in = keras.Input(SHAPE)
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="first")(trunk_in)
    trunk = keras.Model(trunk_in, inner(x), name="trunk")
    inputs = keras.Input(SHAPE)
    x = Scaled(5, name="scaled")(trunk(inputs))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(4, "softmax", name="predictions")(x), name="net")
