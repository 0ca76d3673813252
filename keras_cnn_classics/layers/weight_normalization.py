"""Weight normalization: the length of each unit's weights apart from their direction."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from keras_cnn_classics.layers import _arguments
from keras_cnn_classics.layers.drop_connect import DropConnect

_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_PLAIN = (layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D)


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class WeightNormalization(keras.layers.Wrapper):
    """Trains the kernel of a layer as a direction and a length: `g * v / norm(v)`.

    The norm is over all weights of a unit, and `g` has one number for each. The gradient with
    respect to `v` is at right angles to it, so `v` grows as it is trained, and its steps become
    smaller by themselves. The wrapped layer's kernel is `v`, with the layer's initializer,
    regularizer and constraint; `g` begins as the norm of `v`, so that wrapping a layer does not
    change what it gives. The paper begins with the statistics of a first batch instead, as
    `training.initialize(model, "weight_normalization", data=batch)` does.

    Args:
        layer: A dense layer, or a convolution of any kind but a separable one. One that draws
            random numbers or keeps a state, as `DropConnect` does, is none.

    Input shape:
        That of the layer.

    Output shape:
        That of the layer.

    Example:
        x = WeightNormalization(Conv2D(96, 3, padding="same"))(x)

    References:
        - [Salimans & Kingma, 2016](https://arxiv.org/abs/1602.07868), section 2
    """

    def __init__(self, layer: Any, **kwargs: Any) -> None:
        if not isinstance(layer, (*_PLAIN, *_TRANSPOSED, *_DEPTHWISE)):
            raise ValueError(
                "`layer` must be a dense layer or a convolution with one kernel. "
                f"Received: layer={layer!r}"
            )
        if isinstance(layer, DropConnect):
            raise ValueError(
                "`layer` must compute the same from the same input. "
                f"Received: layer={layer!r}, which drops weights at random"
            )
        kwargs.setdefault("dtype", layer.dtype_policy)
        # A penalty on what a layer gives is added where it is called as a layer: here.
        kwargs.setdefault("activity_regularizer", layer.activity_regularizer)
        super().__init__(layer, **kwargs)

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        rank = len(self.layer.kernel.shape)
        # The axes of the units; the others are those of a unit's weights.
        if isinstance(self.layer, _TRANSPOSED):
            units = {rank - 2}
        elif isinstance(self.layer, _DEPTHWISE):
            units = {rank - 2, rank - 1}
        else:
            units = {rank - 1}
        self._axes = tuple(axis for axis in range(rank) if axis not in units)
        self.g = self.add_weight(
            shape=[1 if i in self._axes else n for i, n in enumerate(self.layer.kernel.shape)],
            initializer=self.g_initializer,
            name="g",
        )
        self.input_spec = self.layer.input_spec

    def g_initializer(self, shape: Any, dtype: Any = None) -> Any:
        """The norm of `v` as it is when asked: a kernel may get its value later than its shape."""
        return ops.cast(self._norm(), dtype or self.variable_dtype)

    def _norm(self) -> Any:
        v = ops.cast(self.layer.kernel, _arguments.float_type(self.compute_dtype))
        return ops.sqrt(ops.sum(ops.square(v), axis=self._axes, keepdims=True))

    def normalized_kernel(self) -> Any:
        """The kernel that the layer computes with, a tensor."""
        norm = self._norm()
        scale = ops.cast(self.g, norm.dtype) / ops.where(norm > 0, norm, 1.0)
        return ops.cast(self.layer.kernel, norm.dtype) * scale

    def call(self, inputs: Any, **kwargs: Any) -> Any:
        kernel = self.layer.kernel
        new = self.normalized_kernel()
        values = [
            [new if variable is kernel else variable.value for variable in variables]
            for variables in (self.layer.trainable_variables, self.layer.non_trainable_variables)
        ]
        return self.layer.stateless_call(*values, inputs, **kwargs)[0]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)
