"""Windows on feature maps: what the pools of several papers have in common."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_cnn_classics.layers import _arguments


def same_widths(length: Any, size: int, strides: int) -> tuple[Any, Any]:
    """The cells that TensorFlow's "same" puts before and behind a map, along one axis.

    Args:
        length: Height or width of the map, a number or a tensor.
        size: That of the windows.
        strides: Their steps.

    Returns:
        Two numbers, or tensors.
    """
    total = (-(-length // strides) - 1) * strides + size - length
    # Windows shorter than their steps leave cells out, and reach over no edge.
    total = max(total, 0) if isinstance(total, int) else ops.maximum(total, 0)
    return total // 2, total - total // 2


def pad(x: Any, size: tuple[int, int], strides: tuple[int, int], data_format: str) -> Any:
    """Puts zeros around each map, half of them before, and one more after if they are odd."""
    axes = _arguments.area(data_format)
    # As many as may be needed, of which some are cut off again: maps may be of unknown size.
    widest = [(0, 0)] * 4
    for axis, n in zip(axes, size, strict=True):
        widest[axis] = (n - 1) // 2, n // 2
    shape = ops.shape(x)
    x = ops.pad(x, widest)
    cuts = [slice(None)] * 4
    for axis, n, step in zip(axes, size, strides, strict=True):
        before, after = same_widths(shape[axis], n, step)
        first = widest[axis][0]
        cuts[axis] = slice(first - before, first + shape[axis] + after)
    return x[tuple(cuts)]


def windows(x: Any, of: Mapping[int, tuple[int, int]]) -> Any:
    """The places of all whole windows: a new first axis, along which each window lies.

    Args:
        x: Tensor.
        of: The size and the step of the windows along each axis that they cover.
    """
    shape = ops.shape(x)
    places = []
    for offsets in itertools.product(*(range(size) for size, _ in of.values())):
        cuts = [slice(None)] * len(shape)
        for offset, (axis, (size, step)) in zip(offsets, of.items(), strict=True):
            last = (shape[axis] - size) // step * step
            cuts[axis] = slice(offset, offset + last + 1, step)
        places.append(x[tuple(cuts)])
    return ops.stack(places, axis=0)


class Windowed2D(keras.layers.Layer):
    """A layer that sees windows of a map: the arguments and the config."""

    def __init__(
        self,
        pool_size: int | tuple[int, int] = 2,
        strides: int | tuple[int, int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pool_size = _arguments.pair(pool_size, "pool_size")
        self.strides = self.pool_size if strides is None else _arguments.pair(strides, "strides")
        if padding not in ("valid", "same"):
            raise ValueError(f"`padding` must be 'valid' or 'same'. Received: {padding=}")
        self.padding = padding
        self.data_format = _arguments.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: Any) -> None:
        sides = [input_shape[axis] for axis in _arguments.area(self.data_format)]
        known = [(n, size) for n, size in zip(sides, self.pool_size, strict=True) if n is not None]
        if self.padding == "valid" and any(n < size for n, size in known):
            raise ValueError(
                f"The windows of layer {self.name!r} are larger than the map. "
                f"Received: {input_shape=}, pool_size={self.pool_size}"
            )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
        }


class Pooling2D(Windowed2D):
    """A pool whose windows see zeros beyond the edge, and its shapes."""

    def __init__(
        self,
        pool_size: int | tuple[int, int] = 2,
        strides: int | tuple[int, int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        longer = any(s > n for n, s in zip(self.pool_size, self.strides, strict=True))
        if padding == "same" and longer:
            raise ValueError(
                "With padding='same', `strides` must be at most `pool_size`. "
                f"Received: {pool_size=}, {strides=}"
            )

    def padded(self, x: Any) -> Any:
        """The maps with the zeros that `padding` asks for."""
        if self.padding == "valid":
            return x
        return pad(x, self.pool_size, self.strides, self.data_format)

    def windows(self, x: Any, maps: tuple[int, int] = (1, 1)) -> Any:
        """What each window sees; it covers several maps if asked, by their size and step."""
        rows, columns = _arguments.area(self.data_format)
        of = {
            rows: (self.pool_size[0], self.strides[0]),
            columns: (self.pool_size[1], self.strides[1]),
            _arguments.channel_axis(self.data_format) % 4: maps,
        }
        return windows(self.padded(x), of)

    def compute_output_shape(self, input_shape: Any) -> Any:
        pool = keras.layers.AveragePooling2D(
            self.pool_size, self.strides, self.padding, data_format=self.data_format
        )
        return pool.compute_output_shape(input_shape)
