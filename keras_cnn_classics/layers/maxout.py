"""Maxout: the largest of several channels in place of an activation function."""

from __future__ import annotations

import functools
from typing import Any

import keras
from keras import ops

from keras_cnn_classics.layers import _arguments


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class Maxout(keras.layers.Layer):
    """The largest of each group of adjacent channels.

    The largest of `pieces` linear functions of the input is a convex function of it, which is
    learned in place of a fixed activation. The layer before it, which has no activation, computes
    the pieces, and any layer can: a dense one, a convolution, one of `DropConnect` or
    `WeightNormalization`. So they keep their own weights, regularizers and constraints:

        x = Conv2D(48 * 2, 8, kernel_constraint=MaxNorm(0.9, axis=(0, 1, 2)))(x)
        x = Maxout(2)(x)  # 48 maps
        x = Flatten()(x)
        x = Maxout(5)(Dense(240 * 5)(x))  # 240 units

    Args:
        pieces: Number of channels of which the largest is taken. Defaults to `2`.
        axis: The axis that is divided, usually that of the channels: `-1`, the default, or `1` for
            maps with channels first.

    Input shape:
        Any; the number of channels must be a multiple of `pieces`.

    Output shape:
        The input's, with `channels / pieces` channels.

    References:
        - [Goodfellow et al., 2013](https://arxiv.org/abs/1302.4389), section 3
    """

    def __init__(self, pieces: int = 2, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pieces = _arguments.count(pieces, "pieces")
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise ValueError(f"`axis` must be an integer. Received: {axis=}")
        self.axis = axis
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        self._units(input_shape)

    def _units(self, shape: Any) -> int:
        rank = len(shape)
        if not -rank <= self.axis < rank or self.axis % rank == 0:
            raise ValueError(
                f"`axis` must be one behind the batch's. Received: axis={self.axis} for inputs of "
                f"the shape {tuple(shape)}"
            )
        channels = shape[self.axis]
        if channels is None or channels % self.pieces:
            raise ValueError(
                f"The number of channels must be known, and a multiple of pieces={self.pieces}. "
                f"Received inputs of the shape {tuple(shape)}, axis={self.axis}"
            )
        return channels // self.pieces

    def call(self, inputs: Any) -> Any:
        cuts = [slice(None)] * len(inputs.shape)
        pieces = []
        for first in range(self.pieces):
            cuts[self.axis] = slice(first, None, self.pieces)
            pieces.append(inputs[tuple(cuts)])
        # Not `ops.max`: its gradient on JAX divides by the number of places that equal the maximum,
        # of which there are none where XLA has computed the places anew, and rounded otherwise.
        # Cast, since on PyTorch `ops.maximum` gives float32 for float64.
        return ops.cast(functools.reduce(ops.maximum, pieces), self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = list(input_shape)
        shape[self.axis] = self._units(input_shape)
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pieces": self.pieces, "axis": self.axis}
