"""Unsupervised pretraining: each layer first learns to describe what it sees.

Before there were rectifiers and careful initial weights, deep networks were trained so: from the
first layer to the last, each becomes the encoder of an auto-encoder, which must give back the
layer's own input; then all are trained together on the labels. It needs images alone, and can help
where there are many of these and few labels.

The decoder of a convolution is its transpose, with the same kernel, which Masci et al. call the
flipped weights; that of a dense layer is the transposed matrix. It has a bias of its own and, other
than in the papers, no activation, as what it gives back has no bounds here; the loss is the squared
error. Batch normalization behind the layer, if any, keeps its moving statistics. If a
max pooling follows, only the maxima of its windows reach the decoder, as in that paper: they make
the code sparse, without which a convolution could learn the identity.

References:
    - [Bengio et al., 2006](https://papers.nips.cc/paper/3048), sections 2 and 3
    - [Vincent et al., 2008](https://doi.org/10.1145/1390156.1390294), section 2: noise
    - [Masci et al., 2011](https://doi.org/10.1007/978-3-642-21735-7_7), section 3
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import layers, ops

from keras_cnn_classics.layers import MaxPoolingWithSwitches, MaxUnpooling
from keras_cnn_classics.layers._arguments import area
from keras_cnn_classics.layers._windows import same_widths
from keras_cnn_classics.training._arguments import check_number
from keras_cnn_classics.training._layers import matches

logger = logging.getLogger("keras_cnn_classics")

# Beside layers without weights: those that do not mix places.
_PART_OF_THE_CODE = (
    *(layers.BatchNormalization, layers.GroupNormalization, layers.LayerNormalization),
    layers.PReLU,
)


def pretrain(
    model: Any,
    images: Any,
    *,
    which: str | Sequence[str] | None = None,
    epochs: int = 10,
    batch_size: int | None = None,
    optimizer: Any = "adam",
    noise: float = 0.3,
    seed: int | None = None,
    verbose: Any = 0,
) -> dict[str, list[float]]:
    """Pretrains the convolutions and dense layers of a model on images without labels, in order.

    Each layer learns as a `LayerAutoencoder` on what the layers before it give, which have learned
    already. All that is done to a copy; in the end the kernels and biases of the layers that
    learned are handed over to the model, and nothing else in it is changed.

    Args:
        model: A model whose layers form a chain, `Sequential` or Functional: a trunk, or a whole
            network.
        images: What `fit` takes as inputs: an array, or a data set, of which labels are ignored.
        which: Names of the layers to pretrain, in which `*` stands for anything; one or several.
            By default all convolutions (`Conv2D`) and dense layers, but a dense layer behind which
            no other one learns: the classifier. Frozen layers are never among them. What other
            layers with weights are left as they are is logged.
        epochs: Epochs of each layer.
        batch_size: As in `fit`.
        optimizer: A Keras optimizer or its name; each layer has a new one of its kind.
        noise: Share of each layer's input that is set to zero, other ones at each step. The layer
            must give back the input without it.
        seed: Seed of the noise. Defaults to `None`: a random one.
        verbose: As in `fit`.

    Returns:
        The mean squared error of the reconstruction after each epoch, with the penalties of the
        layer's regularizers, for the name of each layer that was pretrained.

    Raises:
        ValueError: If the layers form no chain, none or another one fits `which`, or an argument is
            out of range.

    Example:
        model = kcc.LeNet(weights=None)
        training.pretrain(model, images)  # all of them
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(labelled_images, labels)
    """
    check_number("epochs", epochs, 1, whole=True)
    names = _chosen(_chain(model), which)
    is_array = hasattr(images, "shape")
    if is_array and tuple(images.shape[1:]) != tuple(model.input_shape[1:]):
        raise ValueError(
            f"`images` must be those that {model.name!r} takes, of the shape "
            f"{model.input_shape[1:]}. Received: {tuple(images.shape[1:])}"
        )
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    make = keras.optimizers.get(optimizer)
    losses = {}
    for name in names:
        autoencoder = LayerAutoencoder(copy, name, noise=noise, seed=seed)
        autoencoder.compile(type(make).from_config(make.get_config()))
        history = autoencoder.fit(
            images, epochs=epochs, batch_size=batch_size, shuffle=is_array, verbose=verbose
        )
        losses[name] = [float(loss) for loss in history.history["loss"]]
    for name in names:
        model.get_layer(name).set_weights(copy.get_layer(name).get_weights())
    return losses


class LayerAutoencoder(keras.Model):
    """The auto-encoder of one layer of a model: from the model's images to what the layer sees.

    The layer itself is the encoder, with what follows it as far as that keeps the shape: its
    activation and normalization. The layers before it give what is to be reconstructed, and stay
    as they are. Compile it with an optimizer alone, and fit it on images; `predict` gives the
    reconstruction of the layer's input, for the first layer that of the image. `pretrain` does this
    layer by layer. It shares its layers with the model, so what is saved is the model.

    Args:
        model: A model whose layers form a chain, for images of a fixed size. Its layers are used,
            and all but the one become untrainable: take a `keras.models.clone_model` where they
            shall learn later.
        layer: Name of the layer, a `Conv2D` or `Dense`.
        noise: Share of the layer's input that is set to zero in training. Defaults to `0`.
        seed: Seed of the noise. Defaults to `None`: a random one.

    Raises:
        ValueError: If the layers form no chain, the layer is of another kind, or a size is unknown.
    """

    def __init__(
        self, model: Any, layer: str, *, noise: float = 0.0, seed: int | None = None
    ) -> None:
        super().__init__(name=f"{layer}_autoencoder")
        check_number("noise", noise, 0, below=1)
        links = _chain(model)
        place = next((i for i, one in enumerate(links) if one.layer.name == layer), None)
        if place is None or not _learns(links[place].layer):
            able = [one.layer.name for one in links if _learns(one.layer)]
            raise ValueError(f"`layer` must be one of {able}. Received: layer={layer!r}")
        link, last = links[place], place
        if None in link.seen.shape[1:]:
            raise ValueError(
                "Pretraining needs images of a fixed size: build the model with `input_shape=`. "
                f"Received: layer {layer!r} with inputs of the shape {link.seen.shape}"
            )
        while last + 1 < len(links) and _keeps_shape(links[last + 1]):
            last += 1
        after = links[last + 1].layer if last + 1 < len(links) else None
        self.encoder = link.layer
        self.noise = layers.Dropout(noise, seed=seed, name="noise")
        self.below = _part(links[:place], model.inputs[0], "below")
        self.behind = _part(links[place + 1 : last + 1], link.given, "behind")
        self.pool = None
        if isinstance(after, layers.MaxPooling2D):
            windows = {
                name: getattr(after, name)
                for name in ("pool_size", "strides", "padding", "data_format")
            }
            seen = links[last + 1].seen.shape
            height, width = (seen[axis] for axis in area(after.data_format))
            self.pool = MaxPoolingWithSwitches(**windows)
            self.unpool = MaxUnpooling(**windows, output_size=(height, width))
        self.below.trainable = self.behind.trainable = False
        self.encoder.trainable = True
        self.channels = _channel_axis(self.encoder)
        self.decoder_bias = self.add_weight(
            shape=(link.seen.shape[self.channels],), initializer="zeros", name="decoder_bias"
        )
        self.built = True

    def compile(self, optimizer: Any = "rmsprop", **kwargs: Any) -> None:
        """As in Keras, but for `loss` and `metrics`: the error is computed in the model."""
        if given := [name for name, value in kwargs.items() if value and name != "jit_compile"]:
            raise ValueError(
                "A `LayerAutoencoder` has its own loss and takes images alone: compile it with an "
                f"optimizer. Received: {', '.join(given)}"
            )
        super().compile(optimizer, **kwargs)

    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError(
            "A `LayerAutoencoder` is not saved: it shares its layers with the model that it was "
            "made of, so save that."
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        x = ops.stop_gradient(self.below(inputs, training=False))
        # Dropout scales up what it leaves; noise that masks does not.
        left = 1 - self.noise.rate if training else 1.0
        code = self.encoder(left * self.noise(x, training=training))
        code = self.behind(code, training=False)
        if self.pool is not None:
            # Only the maxima of its windows are left, in their places.
            maxima, places = self.pool(ops.stop_gradient(code))
            kept = self.unpool([ops.ones_like(maxima), places]) > 0
            code = code * ops.cast(kept, code.dtype)
        decoded = self._decode(code, x.shape)
        self.add_loss(ops.mean(ops.square(ops.cast(decoded - x, "float32"))))
        return decoded

    def _decode(self, code: Any, shape: Any) -> Any:
        """The transpose of the encoder, with a bias."""
        kernel, bias = (
            ops.cast(one, code.dtype) for one in (self.encoder.kernel, self.decoder_bias)
        )
        if isinstance(self.encoder, layers.Dense):
            return ops.matmul(code, ops.transpose(kernel)) + bias
        decoded = _transpose(self.encoder, kernel, code, shape)
        return decoded + (bias if self.channels == -1 else ops.reshape(bias, (1, -1, 1, 1)))


class _Link(NamedTuple):
    """A layer of a chain, with the symbolic tensors that it sees and gives."""

    layer: Any
    seen: Any
    given: Any


def _chain(model: Any) -> list[_Link]:
    """The layers of a model from its image to its output, each of which sees the one before."""
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"The model {getattr(model, 'name', model)!r} has no graph of layers: use a Sequential "
            "or Functional model with an Input."
        )
    links: list[_Link] = []
    ends = model.inputs
    for layer in (one for one in model.layers if not isinstance(one, layers.InputLayer)):
        # A layer may stand in other models, too.
        nodes = [n for n in layer._inbound_nodes if [*map(id, n.input_tensors)] == [*map(id, ends)]]
        if len(ends) != 1 or len(nodes) != 1 or isinstance(layer, keras.Model):
            raise ValueError(_NO_CHAIN.format(model.name, f"the layer {layer.name!r}"))
        links.append(_Link(layer, ends[0], nodes[0].output_tensors[0]))
        ends = nodes[0].output_tensors
    if [*map(id, ends)] != [*map(id, model.outputs)]:
        raise ValueError(_NO_CHAIN.format(model.name, "a layer that is used twice"))
    return links


_NO_CHAIN = (
    "Pretraining layer by layer needs a chain: each layer sees what the one before gives, and that "
    "alone. Received: the model {!r}, in which {} breaks it."
)


def _part(links: Sequence[_Link], seen: Any, name: str) -> Any:
    """Some layers of a chain, which may be none, as a model."""
    found = [one.layer for one in links] or [layers.Identity()]
    image = keras.Input(batch_shape=seen.shape, dtype=seen.dtype)
    return keras.Sequential([image, *found], name=name)


def _learns(layer: Any) -> bool:
    """Whether a layer is one that can be pretrained."""
    return isinstance(layer, (layers.Conv2D, layers.Dense))


def _keeps_shape(link: _Link) -> bool:
    """Whether a layer is part of the code: an activation, a normalization."""
    plain = not link.layer.weights or isinstance(link.layer, _PART_OF_THE_CODE)
    pool = isinstance(link.layer, layers.MaxPooling2D)
    return plain and not pool and link.seen.shape == link.given.shape


def _chosen(links: Sequence[_Link], which: str | Sequence[str] | None) -> list[str]:
    """The names of the layers that are to be pretrained."""
    found = [link.layer for link in links]
    able = [layer for layer in found if _learns(layer) and layer.trainable]
    if which is None:
        for layer in found:
            if layer.weights and not _learns(layer) and not isinstance(layer, _PART_OF_THE_CODE):
                logger.warning(
                    "%s is a %s, which is not pretrained: it stays as it is.",
                    layer.name,
                    type(layer).__name__,
                )
        last = [layer for layer in found if layer.weights][-1:]
        classifier = [layer for layer in last if isinstance(layer, layers.Dense)]
        chosen = [layer.name for layer in able if layer not in classifier]
    else:
        chosen = [layer.name for layer in able if matches(layer, which)]
    if not chosen:
        raise ValueError(
            "There is no convolution (Conv2D) or dense layer to pretrain that is not frozen. "
            f"Received: which={which!r}, of {[layer.name for layer in able]}"
        )
    return chosen


def _channel_axis(layer: Any) -> int:
    return 1 if getattr(layer, "data_format", None) == "channels_first" else -1


def _transpose(conv: Any, kernel: Any, code: Any, shape: Any) -> Any:
    """The transpose of a convolution, cut and filled to the shape of its input."""
    axis = _channel_axis(conv)
    parts = zip(ops.split(code, conv.groups, axis), ops.split(kernel, conv.groups, -1), strict=True)
    options = {"data_format": conv.data_format, "dilation_rate": conv.dilation_rate}
    decoded = ops.concatenate(
        [ops.conv_transpose(x, one, conv.strides, "valid", **options) for x, one in parts], axis
    )
    cuts, fill = [slice(None)] * 4, [(0, 0)] * 4
    sizes = zip(
        area(conv.data_format), conv.kernel_size, conv.strides, conv.dilation_rate, strict=True
    )
    for place, size, step, dilation in sizes:
        # How far the first window reaches over the near edge.
        widths = same_widths(shape[place], dilation * (size - 1) + 1, step)
        before = 0 if conv.padding == "valid" else widths[0]
        end = before + shape[place]
        cuts[place] = slice(before, end)
        fill[place] = (0, max(end - decoded.shape[place], 0))
    return ops.pad(decoded, fill)[tuple(cuts)]
