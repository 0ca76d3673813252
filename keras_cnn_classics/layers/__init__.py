"""Layers: the mathematics that the papers brought and Keras lacks."""

from keras_cnn_classics.layers.adaptive_pooling import AdaptiveAveragePooling
from keras_cnn_classics.layers.channel_padding import ChannelPadding
from keras_cnn_classics.layers.grouped_conv import GroupedConv2D
from keras_cnn_classics.layers.initializers import FanInUniform
from keras_cnn_classics.layers.locally_connected import LocallyConnected2D
from keras_cnn_classics.layers.lrn import LocalResponseNormalization
from keras_cnn_classics.layers.partial_conv import PartiallyConnectedConv2D
from keras_cnn_classics.layers.preprocessing import PreprocessInput
from keras_cnn_classics.layers.rbf import EuclideanRBF
from keras_cnn_classics.layers.same_padding import (
    OddPadding2D,
    SameAveragePooling2D,
    SamePadding2D,
)
from keras_cnn_classics.layers.scaled_tanh import ScaledTanh
from keras_cnn_classics.layers.stochastic_depth import StochasticDepth
from keras_cnn_classics.layers.subsampling import TrainableSubsampling
from keras_cnn_classics.layers.switches import MaxPoolingWithSwitches, MaxUnpooling

__all__ = [
    "AdaptiveAveragePooling",
    "ChannelPadding",
    "EuclideanRBF",
    "FanInUniform",
    "GroupedConv2D",
    "LocalResponseNormalization",
    "LocallyConnected2D",
    "MaxPoolingWithSwitches",
    "MaxUnpooling",
    "OddPadding2D",
    "PartiallyConnectedConv2D",
    "PreprocessInput",
    "SameAveragePooling2D",
    "SamePadding2D",
    "ScaledTanh",
    "StochasticDepth",
    "TrainableSubsampling",
]
