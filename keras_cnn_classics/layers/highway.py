"""The gate of highway networks."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_cnn_classics.layers import _arguments


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class HighwayGate(keras.layers.Layer):
    """Chooses, unit by unit, between what a layer made of its input and the input itself.

    For `[x, h, g]` it gives `t * h + (1 - t) * x` with the transform gate `t = sigmoid(g + b)`,
    where `h` is a layer's output for the input `x`, and `g` that of another layer of the kind, a
    linear one without bias. `b` is trainable, one number for each channel. It starts below zero, so
    that at first the input is carried on almost unchanged, however many gates there are.

    Args:
        transform_bias: Initial value of `b`; the deeper the network, the lower. Defaults to `-1`.
        bias_regularizer: Penalty on `b`. Defaults to none.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting;
            of no account for vectors.

    Input shape:
        Three tensors of the same shape: `(batch, units)`, or 4D of the layout of `data_format`.

    Output shape:
        That of each input.

    Raises:
        ValueError: If the shapes differ, or `transform_bias` is no finite number.

    References:
        - [Srivastava et al., 2015](https://arxiv.org/abs/1507.06228), equation 3 and section 2.2
    """

    def __init__(
        self,
        transform_bias: float = -1.0,
        bias_regularizer: Any = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        try:
            self.transform_bias = float(transform_bias)
        except (TypeError, ValueError):
            self.transform_bias = math.nan
        if not math.isfinite(self.transform_bias):
            raise ValueError(
                f"`transform_bias` must be a finite number. Received: {transform_bias=}"
            )
        self.bias_initializer = keras.initializers.Constant(self.transform_bias)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.data_format = _arguments.data_format(data_format)

    def build(self, input_shape: Any) -> None:
        shapes = [tuple(shape) for shape in input_shape if isinstance(shape, (tuple, list))]
        if len(shapes) != 3 or len(set(shapes)) != 1 or len(shapes[0]) not in (2, 4):
            raise ValueError(
                f"{type(self).__name__} needs three inputs [x, h, g] of one shape, vectors or "
                "feature maps: where a layer changes the number of channels or the size, there can "
                f"be no gate. Received the shapes {input_shape}."
            )
        axis = -1 if len(shapes[0]) == 2 else _arguments.channel_axis(self.data_format)
        self.bias = self.add_weight(
            shape=(shapes[0][axis],),
            initializer=self.bias_initializer,
            regularizer=self.bias_regularizer,
            name="bias",
        )

    def call(self, inputs: Any) -> Any:
        x, h, g = inputs
        first = len(x.shape) == 4 and self.data_format == "channels_first"
        t = ops.sigmoid(g + (ops.reshape(self.bias, (-1, 1, 1)) if first else self.bias))
        return t * h + (1 - t) * x

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "transform_bias": self.transform_bias,
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "data_format": self.data_format,
        }
