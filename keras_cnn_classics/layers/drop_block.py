"""DropBlock: dropout of whole regions of a feature map."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_cnn_classics.layers import _arguments


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class DropBlock2D(keras.layers.Layer):
    """Sets square blocks of a feature map to zero in training, and scales up what is left.

    Cells near to each other say much the same, so that what dropout takes of one the network learns
    from its neighbours. Corners of blocks are drawn with the probability at which blocks that do
    not overlap would cover the share `rate` of the map, equation 1; all blocks lie within the map.
    What is left is multiplied by `count / count_left`, over the whole batch.

    With `ramp_steps` the rate rises in equal steps from 0 to `rate`, as the paper's scheduled
    DropBlock. The layer counts its training steps in a weight: the schedule needs no callback, acts
    in compiled steps, and goes on where a saved model or `TrainingState` had come to.

    Args:
        rate: Share of the cells to drop, the paper's `1 - keep_prob`. Defaults to `0.1`.
        block_size: Height and width of the blocks; on smaller maps they are as large as these.
            Defaults to `7`.
        ramp_steps: Steps of training in which the rate rises to `rate`. Defaults to `0`: it is
            `rate` from the beginning.
        shared_mask: Whether all channels of an image lose the same blocks. By default each has its
            own, with which the paper had the better results.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.
        seed: Seed of the blocks, an integer. Defaults to `None`: a random one.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`, of
        known height and width.

    Output shape:
        The input's.

    Example:
        steps = training.to_steps(epochs, steps_per_epoch)
        x = DropBlock2D(0.1, block_size=7, ramp_steps=steps)(x)

    References:
        - [Ghiasi et al., 2018](https://arxiv.org/abs/1810.12890), section 3, algorithm 1
    """

    def __init__(
        self,
        rate: float = 0.1,
        block_size: int = 7,
        ramp_steps: int = 0,
        *,
        shared_mask: bool = False,
        data_format: str | None = None,
        seed: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rate = _arguments.rate(rate)
        self.block_size = _arguments.positive(block_size)
        self.ramp_steps = _arguments.positive(ramp_steps)
        if not self.block_size or ramp_steps != self.ramp_steps:
            raise ValueError(
                "`block_size` must be a positive integer, and `ramp_steps` one that is not "
                f"negative. Received: {block_size=}, {ramp_steps=}"
            )
        self.shared_mask = shared_mask
        self.data_format = _arguments.data_format(data_format)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: Any) -> None:
        sides = [input_shape[axis] for axis in _arguments.area(self.data_format)]
        if None in sides:
            raise ValueError(
                f"{type(self).__name__} needs a known height and width. Received: {input_shape=}"
            )
        if self.ramp_steps:
            self.steps = self.add_weight(
                shape=(),
                initializer="zeros",
                dtype="int",
                trainable=False,
                autocast=False,
                aggregation="only_first_replica",
                name="steps",
            )

    def current_rate(self) -> Any:
        """The rate of the next step of training, a number or a scalar tensor."""
        if not self.ramp_steps:
            return self.rate
        return self.rate * ops.minimum(ops.cast(self.steps, "float32") / self.ramp_steps, 1.0)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not training or not self.rate:
            return inputs
        left = self._left(inputs)
        if self.ramp_steps:
            # It stays where the ramp ends, so that no training is too long for the counter.
            self.steps.assign(ops.minimum(self.steps + 1, self.ramp_steps))
        scale = ops.mean(left)  # only if everything is dropped is it zero, and that stays zero
        left = left / ops.where(scale > 0, scale, 1.0)
        return inputs * ops.cast(left, self.compute_dtype)

    def _left(self, inputs: Any) -> Any:
        """One where the map is left, and zero where a block is."""
        axes = _arguments.area(self.data_format)
        sides = [inputs.shape[axis] for axis in axes]
        blocks = [min(self.block_size, side) for side in sides]
        shape, around = list(ops.shape(inputs)), [(0, 0)] * 4
        share = self.current_rate()
        for axis, side, block in zip(axes, sides, blocks, strict=True):
            shape[axis] = side - block + 1  # the places of a block
            around[axis] = (block - 1, block - 1)
            share = share * side / (block * shape[axis])
        if self.shared_mask:
            shape[_arguments.channel_axis(self.data_format)] = 1
        draw = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        corners = ops.pad(ops.cast(draw < share, "float32"), around)
        # A cell is dropped if a corner lies within a block's length before it.
        return 1 - ops.max_pool(corners, tuple(blocks), 1, "valid", self.data_format)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "rate": self.rate,
            "block_size": self.block_size,
            "ramp_steps": self.ramp_steps,
            "shared_mask": self.shared_mask,
            "data_format": self.data_format,
            "seed": self.seed,
        }
