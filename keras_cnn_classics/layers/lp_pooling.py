"""Lp pooling: the norm of a window, between its average and its maximum."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_cnn_classics.layers import _arguments, _windows


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class LpPooling2D(_windows.Pooling2D):
    """The norm of each window: `sum(abs(x) ** p) ** (1 / p)`.

    With `p=1` it is the sum of the absolute values, with `p=2` the square root of the energy; the
    larger `p`, the nearer it comes to the largest. A window can also reach over several adjacent
    maps, so that the unit does not change while an image changes from what one of them has learned
    to what the next has. Sermanet et al. weight the window by a Gaussian; this has equal weights.

    Args:
        p: The exponent, at least 1. Defaults to `2`.
        pool_size: Height and width of the window. Defaults to `2`; `1` pools across maps alone.
        strides: Steps of the window. Defaults to `pool_size`.
        padding: `"valid"` or `"same"`: zeros around the maps, which add nothing.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.
        maps: Number of adjacent maps in a window. Defaults to `1`.
        map_strides: Step of the window from map to map. Defaults to `maps`.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`.

    Output shape:
        4D tensor of the same layout; height and width are those of `keras.layers.MaxPooling2D`,
        and there are `(channels - maps) // map_strides + 1` channels.

    References:
        - [Kavukcuoglu et al., 2009](https://doi.org/10.1109/CVPR.2009.5206545): across maps
        - [Le et al., 2011](https://arxiv.org/abs/1112.6209), section 3: L2 pooling
        - [Sermanet et al., 2012](https://arxiv.org/abs/1204.3968), section 2: any power
    """

    def __init__(
        self,
        p: float = 2.0,
        pool_size: int | tuple[int, int] = 2,
        strides: int | tuple[int, int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        *,
        maps: int = 1,
        map_strides: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        if not _arguments.is_number(p) or not 1 <= p < float("inf"):
            raise ValueError(f"`p` must be a finite number, at least 1. Received: {p=}")
        self.p = float(p)
        self.maps = _arguments.positive(maps)
        self.map_strides = self.maps if map_strides is None else _arguments.positive(map_strides)
        if not (self.maps and self.map_strides):
            raise ValueError(
                "`maps` and `map_strides` must be positive integers. "
                f"Received: {maps=}, {map_strides=}"
            )

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        channels = input_shape[_arguments.channel_axis(self.data_format)]
        if channels is not None and channels < self.maps:
            raise ValueError(
                f"A window of maps={self.maps} needs at least as many channels. "
                f"Received the input shape {tuple(input_shape)}"
            )

    def call(self, inputs: Any) -> Any:
        x = ops.abs(ops.cast(inputs, _arguments.float_type(self.compute_dtype)))
        seen = self.windows(x, (self.maps, self.map_strides))
        # As a multiple of its largest value no window's sum is too large or too small for a float,
        # and none is zero, where the root has no gradient.
        largest = ops.stop_gradient(ops.max(seen, axis=0))
        some = largest > 0
        total = ops.sum(ops.power(seen / ops.where(some, largest, 1.0), self.p), axis=0)
        norm = largest * ops.power(ops.where(some, total, 1.0), 1 / self.p)
        return ops.cast(norm, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = list(super().compute_output_shape(input_shape))
        axis = _arguments.channel_axis(self.data_format)
        if shape[axis] is not None:
            shape[axis] = (shape[axis] - self.maps) // self.map_strides + 1
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "p": self.p,
            "maps": self.maps,
            "map_strides": self.map_strides,
        }
