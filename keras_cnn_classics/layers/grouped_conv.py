"""Grouped convolution that is fast on a CPU."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

# Fewer channels than a vector register holds (16 floats in AVX-512) waste the rest of it.
LEAST_CHANNELS = 16


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class GroupedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D`, with another way to compute `groups` on a CPU.

    Arguments, weights, their shapes and the config are those of `keras.layers.Conv2D`, and so are
    the numbers that it gives, to rounding.

    XLA, through which TensorFlow and JAX compute grouped convolutions on a CPU, has no fast code
    for them, and very slow code for their gradient. Here they are ordinary convolutions side by
    side, one for each group. Groups of fewer than 16 channels are first merged: their kernels
    become the blocks of one kernel that is zero elsewhere. A value that is not finite reaches the
    outputs of all groups that are merged with its own.

    PyTorch, and TensorFlow and JAX where they see an accelerator, have fast grouped convolutions,
    which are used there.

    `benchmarks/grouped_convolution.py` measures it. On one core with AVX-512, with TensorFlow and
    XLA, batch 8, times as multiples of PyTorch's in the same run, of which those below 1 are
    faster:

    - AlexNet's layers, forward: 1.0 to 1.2; Keras's `Conv2D` 1.2 to 1.5;
    - AlexNet's layers, training: 0.7 to 0.8; Keras's 5 to 8;
    - ResNeXt-50's layers, forward: 2.1 to 2.9; Keras's 3 to 12;
    - ResNeXt-50's layers, training: 0.9 to 1.8; Keras's 130 to 570;
    - AlexNet as a whole, prediction: 0.6, as Keras's; a step of training: 0.7, Keras's 1.9;
    - ResNeXt-50 as a whole, prediction: 0.6, Keras's 0.8; a step of training: 1.2, where Keras's
      takes minutes.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`.

    Output shape:
        4D tensor of the same layout with `filters` channels.

    References:
        - [Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824), section 3.5
        - [Xie et al., 2016](https://arxiv.org/abs/1611.05431), section 3.3
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        if self.groups == 1 or not _slow_groups():
            return super().convolution_op(inputs, kernel)
        axis = -1 if self.data_format == "channels_last" else 1
        kernels = _merge(kernel, self.groups)
        outputs = [
            super(GroupedConv2D, self).convolution_op(x, one)
            for x, one in zip(ops.split(inputs, len(kernels), axis), kernels, strict=True)
        ]
        return ops.concatenate(outputs, axis)


def _slow_groups() -> bool:
    """Whether the backend computes grouped convolutions by XLA on a CPU."""
    if keras.backend.backend() not in ("tensorflow", "jax"):
        return False
    return all(device.startswith("cpu") for device in keras.distribution.list_devices())


def _merge(kernel: Any, groups: int) -> list[Any]:
    """Kernels of ordinary convolutions, each of as many groups as give it enough channels."""
    *_, channels, filters = kernel.shape
    merged = next(
        n
        for n in range(1, groups + 1)
        if groups % n == 0 and (n * channels >= LEAST_CHANNELS or n == groups)
    )
    if merged > 1:
        # A filter reads the channels of its own group, of those that are merged with it.
        own = np.kron(np.eye(merged), np.ones((channels, filters // groups)))
        own = np.tile(own, (1, groups // merged))
        own = ops.convert_to_tensor(own, dtype=keras.backend.standardize_dtype(kernel.dtype))
        kernel = ops.tile(kernel, (1, 1, merged, 1)) * own
    return list(ops.split(kernel, groups // merged, axis=-1))
