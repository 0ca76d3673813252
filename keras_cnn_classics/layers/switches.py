"""Max pooling that knows where its maxima were, and the way back."""

from __future__ import annotations

import itertools
import operator
from typing import Any

import keras
from keras import ops

from keras_cnn_classics.layers import _arguments
from keras_cnn_classics.layers._windows import Windowed2D, same_widths


class _Windows(Windowed2D):
    """What the two layers share: the windows of a pool, and where they lie."""

    def _before(self, side: Any, axis: int) -> Any:
        """How far the first window hangs over the near edge of a map, along one axis."""
        if self.padding == "valid":
            return 0
        return same_widths(side, self.pool_size[axis], self.strides[axis])[0]

    def _windows(self, side: Any, axis: int) -> Any:
        """How many windows there are along one axis of a map; `None` if it is of any size."""
        if side is None:
            return None
        size = self.pool_size[axis] if self.padding == "valid" else 1
        return (side - size) // self.strides[axis] + 1

    def _area(self, shape: Any) -> tuple[Any, Any]:
        return tuple(shape[1:3] if self.data_format == "channels_last" else shape[2:4])

    def _with_area(self, shape: Any, area: Any) -> tuple[Any, ...]:
        last = self.data_format == "channels_last"
        return (shape[0], *((*area, shape[3]) if last else (shape[1], *area)))

    def _to_last(self, x: Any) -> Any:
        return x if self.data_format == "channels_last" else ops.moveaxis(x, 1, -1)

    def _from_last(self, x: Any) -> Any:
        return x if self.data_format == "channels_last" else ops.moveaxis(x, -1, 1)


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class MaxPoolingWithSwitches(_Windows):
    """Max pooling that also gives, for every maximum, its place in the window.

    The maxima are those of `keras.layers.MaxPooling2D`. Places are counted row by row from 0; of
    several equal values the first counts.

    Args:
        pool_size: Height and width of the windows. Defaults to `2`.
        strides: Their steps. Defaults to the size of the windows.
        padding: `"valid"` or `"same"`. Defaults to `"valid"`.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`.

    Output shape:
        Two 4D tensors of the same layout: the maxima, and the places as `int32`, the *switches* of
        the paper.

    References:
        - [Zeiler and Fergus, 2013](https://arxiv.org/abs/1311.2901), section 2.1
    """

    def call(self, inputs: Any) -> tuple[Any, Any]:
        maxima = ops.max_pool(
            inputs, self.pool_size, self.strides, self.padding, data_format=self.data_format
        )
        x = ops.stop_gradient(self._to_last(inputs))
        if "int" in keras.backend.standardize_dtype(x.dtype):  # which has no infinity
            x = ops.cast(x, "float64" if keras.backend.backend() != "jax" else "float32")
        area = ops.shape(x)[1:3]
        counts = [self._windows(side, axis) for axis, side in enumerate(area)]
        before = [self._before(side, axis) for axis, side in enumerate(area)]
        # As many cells as may be needed around the map, lower than all that it holds.
        margins = [
            (size, size + step) for size, step in zip(self.pool_size, self.strides, strict=True)
        ]
        x = ops.pad(x, [(0, 0), *margins, (0, 0)], constant_values=float("-inf"))
        (down, right), (top, left) = self.strides, map(operator.sub, self.pool_size, before)
        high, wide = ((n - 1) * step + 1 for n, step in zip(counts, self.strides, strict=True))
        cells = [
            x[:, i : i + high : down, j : j + wide : right]
            for i in range(top, top + self.pool_size[0])
            for j in range(left, left + self.pool_size[1])
        ]
        switches = ops.argmax(ops.stack(cells, axis=-1), axis=-1)
        return maxima, ops.cast(self._from_last(switches), "int32")

    def compute_output_shape(self, input_shape: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        area = [self._windows(side, axis) for axis, side in enumerate(self._area(input_shape))]
        shape = self._with_area(input_shape, area)
        return shape, shape

    def compute_output_spec(self, inputs: Any) -> tuple[Any, Any]:
        values, places = self.compute_output_shape(inputs.shape)
        return (
            keras.KerasTensor(values, dtype=self.compute_dtype),
            keras.KerasTensor(places, dtype="int32"),
        )


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class MaxUnpooling(_Windows):
    """Puts each value back to the place in its window that a switch names; zeros elsewhere.

    Windows may overlap, as those of AlexNet and ZFNet: where several put a value to the same cell,
    the values are added. The layer is then the gradient of the pool that the switches are of.

    It is called with a list of two tensors, the values and the switches that
    `MaxPoolingWithSwitches` gives with the same arguments.

    Args:
        pool_size: Height and width of the windows. Defaults to `2`.
        strides: Their steps. Defaults to the size of the windows.
        padding: `"valid"` or `"same"`. Defaults to `"valid"`.
        output_size: Height and width of the map that was pooled. Defaults to the smallest with
            `"valid"`, and to the largest with `"same"`, that have so many windows.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        Two 4D tensors, `(batch, height, width, channels)` or `(batch, channels, height, width)`.

    Output shape:
        4D tensor of the same layout, of `output_size`.

    References:
        - [Zeiler and Fergus, 2013](https://arxiv.org/abs/1311.2901), section 2.1
    """

    def __init__(
        self,
        pool_size: int | tuple[int, int] = 2,
        strides: int | tuple[int, int] | None = None,
        padding: str = "valid",
        output_size: int | tuple[int, int] | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        self.input_spec = None  # `build` looks at the two
        given = output_size is not None
        self.output_size = _arguments.pair(output_size, "output_size") if given else None

    def build(self, input_shape: Any) -> None:
        shapes = [tuple(shape) for shape in input_shape if isinstance(shape, (tuple, list))]
        if len(shapes) != 2 or shapes[0] != shapes[1] or len(shapes[0]) != 4:
            raise ValueError(
                f"{type(self).__name__} takes a list of values and switches, two 4D tensors of one "
                f"shape. Received: {input_shape=}"
            )
        area = self._area(shapes[0])
        counts = [self._windows(side, axis) for axis, side in enumerate(self.output_size or ())]
        if any(n not in (None, count) for n, count in zip(area, counts, strict=False)):
            raise ValueError(
                f"`output_size` must be that of a map with {area[0]}x{area[1]} windows. "
                f"Received: output_size={self.output_size}, which has {counts[0]}x{counts[1]}"
            )

    def call(self, inputs: Any) -> Any:
        values, switches = map(self._to_last, inputs)
        _, *counts, channels = ops.shape(values)
        sizes = [self._side(n, axis) for axis, n in enumerate(counts)]
        (rows, columns), (high, wide) = self.strides, self.pool_size
        total: Any = 0
        for number, (i, j) in enumerate(itertools.product(range(high), range(wide))):
            x = ops.where(switches == number, values, ops.zeros_like(values))
            # Apart by the steps of the windows, and then to the place in them.
            x = ops.reshape(x, (-1, counts[0], 1, counts[1], 1, channels))
            x = ops.pad(x, [(0, 0), (0, 0), (0, rows - 1), (0, 0), (0, columns - 1), (0, 0)])
            x = ops.reshape(x, (-1, counts[0] * rows, counts[1] * columns, channels))
            total += ops.pad(x, [(0, 0), (i, high - 1 - i), (j, wide - 1 - j), (0, 0)])
        top, left = (self._before(side, axis) for axis, side in enumerate(sizes))
        total = total[:, top : top + sizes[0], left : left + sizes[1]]
        return self._from_last(total)

    def _side(self, count: Any, axis: int) -> Any:
        """Height or width of the map that was pooled."""
        if self.output_size:
            return self.output_size[axis]
        size, step = self.pool_size[axis], self.strides[axis]
        return count * step if self.padding == "same" else (count - 1) * step + size

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        shape = input_shape[0]
        area = [
            self.output_size[axis] if self.output_size else n and self._side(n, axis)
            for axis, n in enumerate(self._area(shape))
        ]
        return self._with_area(shape, area)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "output_size": self.output_size}
