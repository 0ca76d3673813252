"""Attention within a feature map: of its channels, of its positions, and of each to all others."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_cnn_classics.layers import _arguments
from keras_cnn_classics.layers._largest import largest


def _channels(layer: Any, input_shape: Any) -> int:
    """The number of channels, which layers with weights must know."""
    channels = input_shape[_arguments.channel_axis(layer.data_format)]
    if channels is None:
        raise ValueError(
            f"Layer {layer.name!r} needs a known number of channels. "
            f"Received the input shape {tuple(input_shape)}."
        )
    return channels


def _reduced(layer: Any, channels: int, name: str) -> int:
    """Channels divided by an argument, of which something must be left."""
    ratio = getattr(layer, name)
    if ratio > channels:
        raise ValueError(
            f"`{name}` of layer {layer.name!r} must be at most its {channels} channels. "
            f"Received: {name}={ratio}"
        )
    return channels // ratio


def _kernels(layer: Any) -> dict[str, Any]:
    """What a layer's parts are told of their kernels, each with random numbers of its own."""
    initializer = layer.kernel_initializer
    return {
        "kernel_initializer": getattr(initializer, "clone", lambda: initializer)(),
        "kernel_regularizer": layer.kernel_regularizer,
    }


def _config_of_kernels(layer: Any) -> dict[str, Any]:
    return {
        "kernel_initializer": keras.initializers.serialize(layer.kernel_initializer),
        "kernel_regularizer": keras.regularizers.serialize(layer.kernel_regularizer),
    }


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class SqueezeExcite(keras.layers.Layer):
    """Squeeze-and-excitation: weighs each channel by what is seen in all of them.

    The map is averaged to one number for each channel; two dense layers make of these a weight
    between 0 and 1 for each channel, by which the map is multiplied.

    `blocks.core.squeeze_excite` is the same as separate layers, 1x1 convolutions with the names of
    published weights; the networks of the package have that.

    Args:
        ratio: How many times fewer units than channels the first dense layer has. Defaults to `16`.
        activation: Activation of the first dense layer. Defaults to `"relu"`.
        use_bias: Whether the dense layers have biases. Defaults to `True`.
        kernel_initializer: Initial kernels. Defaults to `"glorot_uniform"`.
        kernel_regularizer: Penalty on the kernels. Defaults to none.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`.

    Output shape:
        The input's.

    Raises:
        ValueError: If `ratio` is not from 1 to the number of channels.

    References:
        - [Hu et al., 2017](https://arxiv.org/abs/1709.01507), section 3
    """

    pools: tuple[Any, ...] = (ops.mean,)

    def __init__(
        self,
        ratio: int = 16,
        activation: Any = "relu",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ratio = _arguments.count(ratio, "ratio")
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.data_format = _arguments.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: Any) -> None:
        channels = _channels(self, input_shape)
        units = _reduced(self, channels, "ratio")
        shared = {"use_bias": self.use_bias, "dtype": self.dtype_policy}
        self.fc1 = keras.layers.Dense(
            units, activation=self.activation, name="fc1", **shared, **_kernels(self)
        )
        self.fc2 = keras.layers.Dense(channels, name="fc2", **shared, **_kernels(self))
        self.fc1.build((None, channels))
        self.fc2.build((None, units))

    def call(self, inputs: Any) -> Any:
        area = _arguments.area(self.data_format)
        scores = [self.fc2(self.fc1(pool(inputs, axis=area))) for pool in self.pools]
        return inputs * ops.expand_dims(ops.sigmoid(sum(scores[1:], scores[0])), area)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "ratio": self.ratio,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            **_config_of_kernels(self),
            "data_format": self.data_format,
        }


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class ChannelAttention(SqueezeExcite):
    """CBAM's first half: squeeze-and-excitation of averages and of maxima.

    Both go through the same two dense layers, and the sum of what these give, each time with their
    biases, becomes the weight of a channel.

    Args:
        ratio: How many times fewer units than channels the first dense layer has. Defaults to `16`.
        activation: Activation of the first dense layer. Defaults to `"relu"`.
        use_bias: Whether the dense layers have biases, as in the authors' code. Defaults to `True`.
        kernel_initializer: Initial kernels. Defaults to `"glorot_uniform"`.
        kernel_regularizer: Penalty on the kernels. Defaults to none.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`.

    Output shape:
        The input's.

    Raises:
        ValueError: If `ratio` is not from 1 to the number of channels.

    References:
        - [Woo et al., 2018](https://arxiv.org/abs/1807.06521), section 3, equation 2
    """

    pools = (ops.mean, largest)


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class SpatialAttention(keras.layers.Layer):
    """CBAM's second half: weighs each position by what is seen around it.

    Over the channels of each position the maximum and the average are taken; a convolution of these
    two maps gives one map, which becomes weights between 0 and 1. The authors' code normalizes it
    first, and starts with a scale of zero: all weights are 1/2 then. The paper's equation has no
    normalization.

    Args:
        kernel_size: Height and width of the convolution. Defaults to `7`.
        batch_norm: Whether there is batch normalization; else the convolution has a bias. Defaults
            to `True`.
        momentum: Momentum of its moving averages. Defaults to `0.99`, the authors'.
        epsilon: Added to its variance. Defaults to `1e-5`, the authors'.
        gamma_initializer: Initial scale of it. Defaults to `"zeros"`, the authors'.
        kernel_initializer: Initial kernels. Defaults to `"glorot_uniform"`.
        kernel_regularizer: Penalty on the kernels. Defaults to none.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`.

    Output shape:
        The input's.

    References:
        - [Woo et al., 2018](https://arxiv.org/abs/1807.06521), section 3, equation 3
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int] = 7,
        batch_norm: bool = True,
        momentum: float = 0.99,
        epsilon: float = 1e-5,
        gamma_initializer: Any = "zeros",
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kernel_size = _arguments.pair(kernel_size, "kernel_size")
        self.batch_norm = batch_norm
        if not (_arguments.is_number(momentum) and 0 <= momentum <= 1):
            raise ValueError(f"`momentum` must be from 0 to 1. Received: {momentum=}")
        if not (_arguments.is_number(epsilon) and epsilon > 0):
            raise ValueError(f"`epsilon` must be a positive number. Received: {epsilon=}")
        self.momentum, self.epsilon = momentum, epsilon
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.data_format = _arguments.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: Any) -> None:
        axis = _arguments.channel_axis(self.data_format)
        shape = list(input_shape)
        shape[axis] = 2
        self.conv = keras.layers.Conv2D(
            1,
            self.kernel_size,
            padding="same",
            data_format=self.data_format,
            use_bias=not self.batch_norm,
            dtype=self.dtype_policy,
            name="conv",
            **_kernels(self),
        )
        self.conv.build(tuple(shape))
        if self.batch_norm:
            shape[axis] = 1
            self.norm = keras.layers.BatchNormalization(
                axis=axis,
                momentum=self.momentum,
                epsilon=self.epsilon,
                gamma_initializer=self.gamma_initializer,
                dtype=self.dtype_policy,
                name="norm",
            )
            self.norm.build(tuple(shape))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        axis = _arguments.channel_axis(self.data_format)
        seen = [pool(inputs, axis=axis, keepdims=True) for pool in (largest, ops.mean)]
        score = self.conv(ops.concatenate(seen, axis=axis))
        if self.batch_norm:
            score = self.norm(score, training=training)
        return inputs * ops.sigmoid(score)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "batch_norm": self.batch_norm,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "gamma_initializer": keras.initializers.serialize(self.gamma_initializer),
            **_config_of_kernels(self),
            "data_format": self.data_format,
        }


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class SoftmaxAttention2D(keras.layers.Layer):
    """For each position of a map, the mean of the values at all positions, weighed by likeness.

    The weights are the softmax, over the positions of the keys, of the inner products of the
    query with the keys. With projections of one map as queries, keys and values this is the
    "embedded Gaussian" of Wang et al. The softmax is computed in float32 at least.

    Args:
        scaled: Whether the inner products are divided by the root of the number of their terms, as
            in later networks and in the code of Wang et al., not in the paper. Defaults to `False`.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        Three 4D tensors, `(batch, height, width, channels)` or `(batch, channels, height, width)`:
        queries; keys, with as many channels; values, of the size of the keys.

    Output shape:
        4D tensor of the height and width of the queries with the channels of the values.

    References:
        - [Wang et al., 2018](https://arxiv.org/abs/1711.07971), section 3.2, equation 4
        - [Zhang et al., 2018](https://arxiv.org/abs/1805.08318), section 3, equation 1
    """

    def __init__(self, scaled: bool = False, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scaled = scaled
        self.data_format = _arguments.data_format(data_format)

    def build(self, input_shape: Any) -> None:
        shapes = [tuple(shape) for shape in input_shape if isinstance(shape, (tuple, list))]
        axis = _arguments.channel_axis(self.data_format)
        if len(shapes) != 3 or shapes[0][axis] != shapes[1][axis]:
            raise ValueError(
                f"Layer {self.name!r} needs three inputs [queries, keys, values], the keys with as "
                f"many channels as the queries. Received the shapes {input_shape}"
            )

    def call(self, inputs: Any) -> Any:
        last = self.data_format == "channels_last"
        queries, keys, values = inputs if last else (ops.moveaxis(x, 1, -1) for x in inputs)
        scores = ops.matmul(_in_a_row(queries), ops.swapaxes(_in_a_row(keys), 1, 2))
        scores = ops.cast(scores, keras.backend.result_type(scores.dtype, "float32"))
        if self.scaled:
            scores = scores * queries.shape[-1] ** -0.5
        weights = ops.cast(ops.softmax(scores), values.dtype)
        outputs = ops.matmul(weights, _in_a_row(values))
        outputs = ops.reshape(outputs, (*ops.shape(queries)[:3], values.shape[-1]))
        # On PyTorch, `ops.matmul` gives no float64.
        outputs = ops.cast(outputs, self.compute_dtype)
        return outputs if last else ops.moveaxis(outputs, -1, 1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        queries, _, values = input_shape
        axis = _arguments.channel_axis(self.data_format)
        shape = list(queries)
        shape[axis] = values[axis]
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "scaled": self.scaled,
            "data_format": self.data_format,
        }


def _in_a_row(x: Any) -> Any:
    """A channels-last map as `(batch, positions, channels)`."""
    return ops.reshape(x, (ops.shape(x)[0], -1, x.shape[-1]))


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class SelfAttention2D(keras.layers.Layer):
    """SAGAN's self-attention: adds to each position what it finds at all others.

    `f`, `g`, `h` and `v` are 1x1 convolutions. Position j weighs all positions i by the softmax,
    over i, of the inner products of `f(x[i])` and `g(x[j])`, and `v` makes of the so weighed sum of
    the `h(x[i])` what is added to `x[j]`, times a learned scale `gamma` that starts at zero: the
    layer starts as the identity.

    The paper and its two best known implementations reduce the channels differently:

    - the authors' code, the default: `f` and `g` to an eighth, `h` to a half, without biases,
      1.25 C² + 1 parameters for C channels; with `pool_size=2` it also has its pools;
    - the paper's text: all three to an eighth, `value_reduction=8`;
    - the usual form in PyTorch, after the paper's first version: `h` as wide as the input and no
      `v`, with biases: `value_reduction=1, project=False, use_bias=True`.

    The spectral normalization of the paper's networks is not part of the layer.

    Args:
        reduction: How many times fewer channels than the input `f` and `g` have. Defaults to `8`.
        value_reduction: How many times fewer `h` has. Defaults to `2`.
        project: Whether there is `v`; without, `value_reduction` must be 1. Defaults to `True`.
        pool_size: Side of the windows in which the largest of `f` and of `h` is kept, fewer
            positions to attend to. Defaults to `1`: none.
        use_bias: Whether the convolutions have biases. Defaults to `False`.
        kernel_initializer: Initial kernels. Defaults to `"glorot_uniform"`.
        kernel_regularizer: Penalty on the kernels. Defaults to none.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`.

    Output shape:
        The input's.

    Raises:
        ValueError: If a reduction is not from 1 to the number of channels.

    References:
        - [Zhang et al., 2018](https://arxiv.org/abs/1805.08318), section 3
    """

    def __init__(
        self,
        reduction: int = 8,
        value_reduction: int = 2,
        project: bool = True,
        pool_size: int = 1,
        use_bias: bool = False,
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.reduction = _arguments.count(reduction, "reduction")
        self.value_reduction = _arguments.count(value_reduction, "value_reduction")
        if not project and self.value_reduction > 1:
            raise ValueError(
                "`value_reduction` must be 1 without `v`, which gives back the channels of the "
                f"input. Received: {project=}, {value_reduction=}"
            )
        self.project = project
        self.pool_size = _arguments.count(pool_size, "pool_size")
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.data_format = _arguments.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: Any) -> None:
        channels = _channels(self, input_shape)
        sides = [input_shape[axis] for axis in _arguments.area(self.data_format)]
        if any(side is not None and side < self.pool_size for side in sides):
            raise ValueError(
                f"The windows of layer {self.name!r} are larger than the map. "
                f"Received: {input_shape=}, pool_size={self.pool_size}"
            )
        few = _reduced(self, channels, "reduction")
        values = _reduced(self, channels, "value_reduction")
        self.gamma = self.add_weight(shape=(), initializer="zeros", name="gamma")
        self.attend = SoftmaxAttention2D(data_format=self.data_format, dtype=self.dtype_policy)
        self.f = self._conv(few, "f", input_shape)
        self.g = self._conv(few, "g", input_shape)
        self.h = self._conv(values, "h", input_shape)
        if self.project:
            self.v = self._conv(channels, "v", self.h.compute_output_shape(input_shape))

    def _conv(self, filters: int, name: str, input_shape: Any) -> Any:
        conv = keras.layers.Conv2D(
            filters,
            1,
            data_format=self.data_format,
            use_bias=self.use_bias,
            dtype=self.dtype_policy,
            name=name,
            **_kernels(self),
        )
        conv.build(input_shape)
        return conv

    def call(self, inputs: Any) -> Any:
        keys, values = self.f(inputs), self.h(inputs)
        if self.pool_size > 1:
            keys, values = (
                ops.max_pool(x, self.pool_size, self.pool_size, data_format=self.data_format)
                for x in (keys, values)
            )
        found = self.attend([self.g(inputs), keys, values])
        return inputs + self.gamma * (self.v(found) if self.project else found)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "reduction": self.reduction,
            "value_reduction": self.value_reduction,
            "project": self.project,
            "pool_size": self.pool_size,
            "use_bias": self.use_bias,
            **_config_of_kernels(self),
            "data_format": self.data_format,
        }
