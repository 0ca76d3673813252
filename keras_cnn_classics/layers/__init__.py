"""Layers: the mathematics that the papers brought and Keras lacks."""

from keras_cnn_classics.layers.adaptive_pooling import AdaptiveAveragePooling
from keras_cnn_classics.layers.attention import (
    ChannelAttention,
    SelfAttention2D,
    SoftmaxAttention2D,
    SpatialAttention,
    SqueezeExcite,
)
from keras_cnn_classics.layers.channel_padding import ChannelPadding
from keras_cnn_classics.layers.channel_slice import ChannelSlice
from keras_cnn_classics.layers.drop_block import DropBlock2D
from keras_cnn_classics.layers.drop_connect import DropConnect
from keras_cnn_classics.layers.grouped_conv import GroupedConv2D
from keras_cnn_classics.layers.highway import HighwayGate
from keras_cnn_classics.layers.initializers import FanInUniform
from keras_cnn_classics.layers.local_contrast import LocalContrastNormalization
from keras_cnn_classics.layers.locally_connected import LocallyConnected2D
from keras_cnn_classics.layers.lp_pooling import LpPooling2D
from keras_cnn_classics.layers.lrn import LocalResponseNormalization
from keras_cnn_classics.layers.maxout import Maxout
from keras_cnn_classics.layers.partial_conv import PartiallyConnectedConv2D
from keras_cnn_classics.layers.preprocessing import PreprocessInput
from keras_cnn_classics.layers.rbf import EuclideanRBF
from keras_cnn_classics.layers.resizing import EdgePadding2D, ResizeLike
from keras_cnn_classics.layers.same_padding import (
    CeilAveragePooling2D,
    OddPadding2D,
    SameAveragePooling2D,
    SamePadding2D,
)
from keras_cnn_classics.layers.scaled_tanh import ScaledTanh
from keras_cnn_classics.layers.spatial_pyramid import SpatialPyramidPooling
from keras_cnn_classics.layers.stochastic_depth import StochasticDepth
from keras_cnn_classics.layers.stochastic_pooling import StochasticPooling2D
from keras_cnn_classics.layers.subsampling import TrainableSubsampling
from keras_cnn_classics.layers.switches import MaxPoolingWithSwitches, MaxUnpooling
from keras_cnn_classics.layers.weight_normalization import WeightNormalization

__all__ = [
    "CeilAveragePooling2D",
    "AdaptiveAveragePooling",
    "ChannelAttention",
    "ChannelPadding",
    "DropBlock2D",
    "DropConnect",
    "EdgePadding2D",
    "ChannelSlice",
    "EuclideanRBF",
    "FanInUniform",
    "GroupedConv2D",
    "LocalContrastNormalization",
    "HighwayGate",
    "LocalResponseNormalization",
    "LpPooling2D",
    "Maxout",
    "LocallyConnected2D",
    "MaxPoolingWithSwitches",
    "MaxUnpooling",
    "OddPadding2D",
    "PartiallyConnectedConv2D",
    "PreprocessInput",
    "ResizeLike",
    "SameAveragePooling2D",
    "SamePadding2D",
    "ScaledTanh",
    "SelfAttention2D",
    "SoftmaxAttention2D",
    "SpatialAttention",
    "SqueezeExcite",
    "SpatialPyramidPooling",
    "StochasticDepth",
    "StochasticPooling2D",
    "TrainableSubsampling",
    "WeightNormalization",
]
