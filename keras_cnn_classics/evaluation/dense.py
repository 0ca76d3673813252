"""Dense evaluation: a classifier's answers for all windows of an image, in one pass.

A dense layer behind a feature map is a convolution with a kernel as large as the map. On a larger
image it gives a map of answers, and what neighbouring windows share is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_cnn_classics.weights import deferred

# Heights and widths of the six scales of OverFeat's table 5, for its accurate model.
OVERFEAT_SIZES = ((245, 245), (281, 317), (317, 389), (389, 461), (425, 497), (461, 569))


def fully_convolutional(model: keras.Model, *, offsets: bool = True) -> keras.Model:
    """A network that gives a classifier's answers for the windows of images of any size.

    A window has the size of the classifier's images. Windows lie as many pixels apart as the cells
    of the map that the dense layers see, 36 for `OverFeatAccurate`. With `offsets` they lie as
    close as the cells before the last pool, 12 pixels apart there: OverFeat repeats that pool at
    all offsets (dx, dy) of its windows, classifies each of the pooled maps, and interleaves the
    answers. It is the same to pool in steps of one cell and to spread the kernel of the first
    dense layer over every third, which is done here.

    On images of the classifier's size its answer is the classifier's. In a larger image, too,
    each answer is exactly what the classifier says of that window, unless convolutions pad their
    maps, as most do: inside an image they see the window's surroundings, not zeros.

    Args:
        model: A classifier whose last layers are `Flatten`, then any of `Dense`, `Dropout` and
            `Activation`: the families of `OverFeatFast`, `VGG16`, `AlexNet`, `ZFNet`, and `LeNet`.
        offsets: Whether to give the windows at all offsets of the last pool; else those at the
            offset 0, as the VGG paper does.

    Returns:
        A network of Keras's layers, with weights of its own, whose input may be of any size. Its
        output is a map of answers, `(batch, rows, columns, classes)` in both data formats.

    Raises:
        ValueError: If the model ends in other layers, or no pool without padding comes last.

    References:
        - [Sermanet et al., 2013](https://arxiv.org/abs/1312.6229), section 3.3 and figure 3
        - [Simonyan and Zisserman, 2014](https://arxiv.org/abs/1409.1556), section 3.2
    """
    features, head = _split(model)
    step: int = 1
    pool: Any = None
    last, unseen = features, [0, 0]
    if offsets:
        pool, last = _last_pool(model, features)
        step = pool.strides[0]
    image = model.inputs[0]
    layouts = (layer.data_format for layer in model.layers if hasattr(layer, "data_format"))
    channels_last = next(layouts, keras.config.image_data_format()) == "channels_last"
    shape = (None, None, image.shape[-1]) if channels_last else (image.shape[1], None, None)
    area = features.shape[1:3] if channels_last else features.shape[2:]
    if pool is not None:  # what lies behind the last of its windows is no part of an answer
        before = last.shape[1:3] if channels_last else last.shape[2:]
        unseen = [(n - size) % step for n, size in zip(before, pool.pool_size, strict=True)]
    trunk = keras.Model(image, last)

    def make() -> keras.Model:
        inputs = keras.Input(shape, dtype=image.dtype, name=image.name)
        copy = keras.models.clone_model(trunk, input_tensors=inputs)
        for new, old in zip(copy.layers, trunk.layers, strict=True):
            deferred.set_weights(new, old.get_weights())
        x = copy.output
        if any(unseen):
            cut = tuple((0, n) for n in unseen)
            x = layers.Cropping2D(cut, data_format=pool.data_format, name="unseen")(x)
        if pool is not None:
            x = type(pool).from_config({**pool.get_config(), "strides": (1, 1)})(x)
        if not channels_last:  # for activations, which act on the last axis
            x = layers.Permute((2, 3, 1), dtype=head[0].dtype_policy, name="channels_last")(x)
        size, rate = area, step
        for layer in head:
            if isinstance(layer, layers.Dense):
                convolution = _as_convolution(layer, size, rate)
                x = convolution(x)
                kernel, *bias = layer.get_weights()
                kernel = kernel.reshape(convolution.kernel.shape)
                deferred.set_weights(convolution, [kernel, *bias])
                size, rate = (1, 1), 1
            else:
                x = type(layer).from_config(layer.get_config())(x)
        return keras.Model(inputs, x, name=f"{model.name}_dense")

    return deferred.build(make)


def _split(model: keras.Model) -> tuple[Any, list[Any]]:
    """The feature map that is flattened, and the layers behind that."""
    head: list[Any] = []
    outputs = list(getattr(model, "outputs", None) or ())
    tensor = outputs[0] if len(outputs) == 1 else None
    while tensor is not None:
        layer, node, _ = tensor._keras_history
        given = layer._inbound_nodes[node].input_tensors
        if isinstance(layer, layers.Flatten) and any(isinstance(x, layers.Dense) for x in head):
            return given[0], head[::-1]
        if not isinstance(layer, (layers.Dense, layers.Dropout, layers.Activation)):
            break
        head.append(layer)
        tensor = given[0]
    raise ValueError(
        "`model` must be a classifier with one output that ends in `Flatten`, then only in "
        f"`Dense`, `Dropout` and `Activation` layers. Received: {model.name!r}, which does not."
    )


def _last_pool(model: keras.Model, features: Any) -> tuple[Any, Any]:
    """The pool that gives the feature map, and the map before it."""
    pool, node, _ = features._keras_history
    if (
        not isinstance(pool, (layers.MaxPooling2D, layers.AveragePooling2D))
        or pool.padding != "valid"
        or len(set(pool.strides)) != 1
    ):
        raise ValueError(
            "`offsets=True` needs a model whose `Flatten` comes right behind a pool with "
            "padding='valid' and equal steps in both directions; offsets=False needs none. "
            f"Received: {model.name!r}, where {pool.name!r} comes before it."
        )
    return pool, pool._inbound_nodes[node].input_tensors[0]


def _as_convolution(dense: Any, size: tuple[int, int], rate: int) -> Any:
    return layers.Conv2D(
        dense.units,
        size,
        dilation_rate=rate,
        data_format="channels_last",
        activation=dense.activation,
        use_bias=dense.use_bias,
        dtype=dense.dtype_policy,
        name=dense.name,
    )


def score_maps(
    network: keras.Model,
    images: Any,
    sizes: Sequence[tuple[int, int]] | None = OVERFEAT_SIZES,
    *,
    flip: bool = True,
    batch_size: int = 8,
) -> list[np.ndarray]:
    """The maps of answers for images at several scales, and for their mirror images.

    Args:
        network: What `fully_convolutional` gives.
        images: A batch of images, prepared for the network, in Keras's global data format.
        sizes: Heights and widths to resize the images to, by default the six of OverFeat;
            `None` leaves them as they are.
        flip: Whether to mirror the images at each scale too. Their maps are mirrored back.
        batch_size: Images that are computed together.

    Returns:
        An array `(images, rows, columns, classes)` for each scale, with `flip` two.

    Raises:
        ValueError: If a size is less than that of a window, or an argument of another form.
    """
    if None not in network.input_shape[1:]:
        raise ValueError(
            "`network` must take images of any size, as what `fully_convolutional` gives does. "
            f"Received: {network.name!r} for images of the shape {network.input_shape[1:]}"
        )
    layout = keras.config.image_data_format()
    rows, columns = (1, 2) if layout == "channels_last" else (2, 3)
    images = keras.ops.convert_to_tensor(images, dtype="float32")
    pairs = sizes is None or all(np.shape(one) == (2,) for one in np.atleast_1d(sizes))
    if len(images.shape) != 4 or not pairs:
        raise ValueError(
            "`images` must be a batch of images, 4 axes, and `sizes` pairs of height and width. "
            f"Received: images of the shape {tuple(images.shape)}, {sizes=}"
        )
    maps = []
    for size in sizes or [(images.shape[rows], images.shape[columns])]:
        _check_size(network, size)
        scaled = images
        if tuple(size) != (images.shape[rows], images.shape[columns]):
            scaled = keras.ops.image.resize(
                images, tuple(size), interpolation="bilinear", antialias=True, data_format=layout
            )
        x = keras.ops.convert_to_numpy(scaled)
        maps.append(network.predict(x, batch_size=batch_size, verbose=0))
        if flip:
            mirrored = network.predict(np.flip(x, columns), batch_size=batch_size, verbose=0)
            maps.append(np.flip(mirrored, 2))
    return maps


def _check_size(network: keras.Model, size: Sequence[int]) -> None:
    shape = [1, *network.input.shape[1:]]
    axis = shape.index(None)
    shape[axis : axis + 2] = size
    try:
        cells = network.compute_output_shape(tuple(shape))[1:3]
    except ValueError:
        cells = (0, 0)
    if min(cells) < 1:
        raise ValueError(
            f"`sizes` must not be less than a window of {network.name!r}. Received: {tuple(size)}"
        )


def vote(maps: Sequence[np.ndarray], spatial: str = "max") -> np.ndarray:
    """One answer for each image from its maps of answers, as OverFeat takes it.

    Args:
        maps: What `score_maps` gives.
        spatial: `"max"`, each class's largest score in a map, as in OverFeat, or `"mean"`, its
            average, as in VGG.

    Returns:
        An array `(images, classes)`: the average over the maps.

    Raises:
        ValueError: If there are no maps, or `spatial` is neither.

    References:
        - [Sermanet et al., 2013](https://arxiv.org/abs/1312.6229), section 3.3
    """
    if spatial not in ("max", "mean"):
        raise ValueError(f"`spatial` must be 'max' or 'mean'. Received: {spatial=}")
    if not maps:
        raise ValueError("`maps` must hold at least one map of answers. Received none.")
    reduce = np.max if spatial == "max" else np.mean
    return np.mean([reduce(one, axis=(1, 2)) for one in maps], axis=0)
