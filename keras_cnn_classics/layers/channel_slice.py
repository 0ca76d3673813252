"""Some of the channels."""

from __future__ import annotations

from typing import Any

import keras

from keras_cnn_classics.layers import _arguments


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class ChannelSlice(keras.layers.Layer):
    """Gives the channels from one number to another, as `x[..., start:stop]` does.

    Args:
        start: Number of the first channel that is given. Defaults to `0`.
        stop: Number of the first channel behind those that are given. Defaults to `None`: all
            channels from `start` on.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`.

    Output shape:
        4D tensor of the same layout with `stop - start` channels.

    Raises:
        ValueError: If the numbers leave no channel, or the input has fewer than `stop` channels.

    References:
        - [Chen et al., 2017](https://arxiv.org/abs/1707.01629), section 4.2: blocks give
          the channels of two paths at once
    """

    def __init__(
        self,
        start: int = 0,
        stop: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if start < 0 or (stop is not None and stop <= start):
            raise ValueError(
                f"`start` must not be negative, and `stop` must be above it or None. "
                f"Received: {start=}, {stop=}"
            )
        self.start, self.stop = start, stop
        self.data_format = _arguments.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: Any) -> None:
        channels = input_shape[_arguments.channel_axis(self.data_format)]
        least = self.start + 1 if self.stop is None else self.stop
        if channels is not None and channels < least:
            raise ValueError(
                f"{self.name} needs at least {least} channels (start={self.start}, "
                f"stop={self.stop}). Received: an input of shape {tuple(input_shape)}"
            )

    def call(self, inputs: Any) -> Any:
        cut = slice(self.start, self.stop)
        first = self.data_format == "channels_first"
        return inputs[:, cut] if first else inputs[..., cut]

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = list(input_shape)
        axis = _arguments.channel_axis(self.data_format)
        if self.stop is not None:
            shape[axis] = self.stop - self.start
        elif shape[axis] is not None:
            shape[axis] -= self.start
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "start": self.start,
            "stop": self.stop,
            "data_format": self.data_format,
        }
