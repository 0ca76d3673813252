"""Padding along the channels."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_cnn_classics.layers import _arguments


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class ChannelPadding(keras.layers.Layer):
    """Puts channels of zeros before and after those of the input.

    Args:
        before: Number of channels put before. Defaults to `0`.
        after: Number of channels put after. Defaults to `0`.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`.

    Output shape:
        4D tensor of the same layout with `before + channels + after` channels.

    References:
        - [He et al., 2015](https://arxiv.org/abs/1512.03385), section 3.3, shortcut option A
    """

    def __init__(
        self, before: int = 0, after: int = 0, data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.before, self.after = _arguments.both_sides(before, after)
        self.data_format = _arguments.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def call(self, inputs: Any) -> Any:
        widths = [(0, 0)] * 4
        widths[_arguments.channel_axis(self.data_format)] = (self.before, self.after)
        return ops.pad(inputs, widths)

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = list(input_shape)
        axis = _arguments.channel_axis(self.data_format)
        if shape[axis] is not None:
            shape[axis] += self.before + self.after
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "before": self.before,
            "after": self.after,
            "data_format": self.data_format,
        }
