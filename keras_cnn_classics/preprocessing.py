"""From pixels to what a network was trained on, and from its answers to names."""

from __future__ import annotations

import csv
import dataclasses
import functools
import logging
import sys
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

logger = logging.getLogger("keras_cnn_classics")


@dataclass(frozen=True)
class Mode:
    """`(x * scale - mean) / std`, for pixels from 0 to 255, channel by channel.

    Attributes:
        scale: Factor of the pixels.
        mean: Subtracted after it: one number for all channels, or one for each.
        std: Divided by at last.
        bgr: Whether the channels are turned from RGB to BGR first.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    bgr: bool = False

    def for_channels(self, channels: int) -> Mode:
        """The mode for images of other than three channels.

        The first three are red, green and blue; what comes after them is normalized by the averages
        of the three, and so are images of one or two channels.
        """
        return dataclasses.replace(
            self,
            mean=_of_length(channels, self.mean),
            std=_of_length(channels, self.std),
            bgr=self.bgr and channels >= 3,
        )


def _of_length(channels: int, values: tuple[float, ...]) -> tuple[float, ...]:
    if len(values) == 1 or len(values) == channels:
        return values
    average = sum(values) / len(values)
    kept = values if channels > len(values) else ()
    return kept + (average,) * (channels - len(kept))


MODES = {
    "caffe": Mode(mean=(103.939, 116.779, 123.68), bgr=True),
    "tf": Mode(scale=1 / 127.5, mean=(1.0,)),
    "torch": Mode(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "cifar10": Mode(scale=1 / 255, mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010)),
    "dpn": Mode(mean=(124.0, 117.0, 104.0), std=(1 / 0.0167,)),  # Chen et al. 2017, their code
    # LeCun et al. 1998, section II.B: the background is -0.1, the ink 1.175, so that the mean is
    # about 0 and the variance about 1.
    "lenet": Mode(scale=1.275 / 255, mean=(0.1,)),
    # The authors' released program; one mean and one deviation for all channels.
    "overfeat": Mode(mean=(118.380948,), std=(61.896913,)),
    "unit": Mode(scale=1 / 255),
    "none": Mode(),  # for networks that normalize images themselves
}


def preprocess_input(
    x: Any,
    mode: str = "caffe",
    data_format: str | None = None,
    *,
    adapt_channels: bool = False,
) -> Any:
    """Prepares pixels for a network, without changing the caller's array.

    Args:
        x: Images with values from 0 to 255, one or a batch, or a batch of clips, whose axis of
            frames stands before the height: a NumPy array (or what becomes one) or a tensor of any
            backend; TensorFlow's are taken whatever the backend, so that this works in `tf.data`.
        mode: `"caffe"` (BGR, mean subtracted), `"tf"` (from -1 to 1), `"torch"` (from 0 to 1,
            then normalized), `"cifar10"` (likewise, by the statistics of CIFAR-10), `"dpn"` (mean
            subtracted, then multiplied by 0.0167), `"lenet"` (0 becomes -0.1 and 255 becomes
            1.175), `"overfeat"` (normalized, all channels alike), `"unit"` (from 0 to 1) or
            `"none"` (from 0 to 255 as they are). `model_preprocessing` knows that of a model.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.
        adapt_channels: Whether the images may have other than the mode's three channels, for a
            network with adapted weights. The first three are then red, green and blue; further
            ones, and those of images of one or two channels, go by the averages of the three.
            Defaults to `False`.

    Returns:
        A new float array or tensor of the same shape.

    Raises:
        ValueError: For an unknown mode or layout, or channels that the mode is not for.
    """
    if mode not in MODES:
        known = ", ".join(map(repr, MODES))
        raise ValueError(f"`mode` must be one of {known}. Received: {mode=}")
    if data_format is None:
        import keras

        data_format = keras.config.image_data_format()
    if data_format not in ("channels_first", "channels_last"):
        raise ValueError(
            f"`data_format` must be 'channels_first' or 'channels_last'. Received: {data_format=}"
        )
    facts, (x, library) = MODES[mode], _as_float(x)
    if len(x.shape) not in (3, 4, 5):
        raise ValueError(
            "`x` must be an image (3 axes), a batch of images (4 axes) or of clips (5 axes). "
            f"Received the shape {tuple(x.shape)}."
        )
    axis = _channel_axis(x, data_format)
    wanted = max(len(facts.mean), len(facts.std))
    if adapt_channels:
        facts = facts.for_channels(x.shape[axis])
    elif wanted > 1 and x.shape[axis] != wanted:
        raise ValueError(
            f"Mode {mode!r} is for {wanted} channels, in axis {axis} with {data_format=}. "
            f"Received the shape {tuple(x.shape)}."
        )
    along = [1] * len(x.shape)
    along[axis] = -1
    if facts.bgr:
        x = library.take(x, _turned(x.shape[axis]), axis)
    mean = np.reshape(np.asarray(facts.mean, "float32"), along)
    std = np.reshape(np.asarray(facts.std, "float32"), along)
    return (x * library.constant(facts.scale) - library.constant(mean)) / library.constant(std)


def _channel_axis(x: Any, data_format: str | None) -> int:
    """The axis of the channels, of an image, a batch of images or a batch of clips."""
    if data_format is None:
        import keras

        data_format = keras.config.image_data_format()
    one = max(3, len(x.shape) - 1)  # axes of one image or clip
    return len(x.shape) - (1 if data_format == "channels_last" else one)


def _turned(channels: int) -> list[int]:
    """The order of the channels in which red and blue have changed places."""
    return [2, 1, 0, *range(3, channels)]


def to_pixels(x: Any, mode: str, data_format: str | None = None) -> np.ndarray:
    """Undoes `preprocess_input`, to look at what a network is given.

    Args:
        x: Prepared images, one or a batch, as a NumPy array or what becomes one.
        mode: Mode of `preprocess_input` that they were prepared in.
        data_format: Their layout; `None` is Keras's global setting.

    Returns:
        Pixels of uint8 and the same shape; values from outside are 0 and 255.

    Raises:
        ValueError: For an unknown mode or layout.
    """
    x = np.asarray(x, "float32")
    # The preparation is affine in each channel, so its values at black and white tell all of it.
    ends = [np.full_like(x, value) for value in (0, 255)]
    black, white = (preprocess_input(e, mode, data_format, adapt_channels=True) for e in ends)
    pixels = np.rint(255 * (x - black) / (white - black)).clip(0, 255).astype("uint8")
    axis = _channel_axis(x, data_format)
    if MODES[mode].for_channels(x.shape[axis]).bgr:
        pixels = np.take(pixels, _turned(x.shape[axis]), axis)
    return pixels


@dataclass(frozen=True)
class Preparation:
    """How the images of a network are prepared.

    Attributes:
        mode: Mode of `preprocess_input`.
        adapted: Whether its weights were made to fit images of other channels.
        sure: Whether the weights say so; a file of weights alone does not.
        inside: The layer of the network that prepares images, if it does that itself.
    """

    mode: str
    adapted: bool
    sure: bool
    inside: Any = None

    def warn_if_unsure(self, name: str) -> None:
        """Logs that the mode is a guess, if it is."""
        if not self.sure:
            logger.warning(
                "%s: the file of its weights does not say how images are prepared: mode %r is "
                "taken, as such files mostly want it.",
                name,
                self.mode,
            )


# By the layers of each network of the package, of which a model that is made of it has some.
_PREPARATIONS: weakref.WeakKeyDictionary[Any, Preparation] = weakref.WeakKeyDictionary()


def remember(layers: Iterable[Any], facts: Preparation) -> None:
    """Notes how the images of the network are prepared that has these layers."""
    inside = facts.inside and weakref.ref(facts.inside)
    _PREPARATIONS.update(dict.fromkeys(layers, dataclasses.replace(facts, inside=inside)))


def model_preprocessing(model: Any) -> Callable[..., Any]:
    """Gives `preprocess_input` as a model's weights want it.

    It follows the weights that the network was built with: `VGG16(weights="imagenet")` wants
    `"caffe"`, `VGG16(weights="imagenet/timm-tv")` wants `"torch"`. A model that prepares images
    itself wants none. A file of weights alone does not say what they want: what such files mostly
    want is taken, and a warning logged. `load_weights` of another set changes nothing here.

    Args:
        model: A network of this package, or a model that contains one.

    Returns:
        A function of images, `functools.partial` of `preprocess_input`; `.keywords["mode"]` is the
        mode.

    Raises:
        ValueError: If the model holds no network that this process has built, as one from a saved
            file or a clone does not, or several whose images are prepared in different ways.
    """
    if not hasattr(model, "_flatten_layers"):
        raise ValueError(f"`model` must be a Keras model. Received: {model!r}")
    layers = {id(layer): layer for layer in model._flatten_layers()}.values()
    known = (_PREPARATIONS[layer] for layer in layers if layer in _PREPARATIONS)
    found = {id(facts): facts for facts in known}
    wanted = set()
    for facts in found.values():
        inside = facts.inside is not None and any(facts.inside() is layer for layer in layers)
        wanted.add(("none", False) if inside else (facts.mode, facts.adapted))
        if not inside:
            facts.warn_if_unsure(model.name)
    if not found and any(getattr(layer, "prepares_images", False) for layer in layers):
        wanted.add(("none", False))
    if len(wanted) != 1:
        modes = " and ".join(repr(mode) for mode, _ in sorted(wanted))
        raise ValueError(
            "The model must hold one network that `keras_cnn_classics` has built in this process; "
            "neither a saved file nor a clone says how images are prepared. Call "
            "`preprocess_input` with the mode, or build the network with "
            "`include_preprocessing=True` before it is saved. Received a model "
            f"{f'whose networks want {modes}' if modes else 'of which nothing is known'}."
        )
    ((mode, adapted),) = wanted
    return functools.partial(preprocess_input, mode=mode, adapt_channels=adapted)


def check_mode(mode: str, channels: int = 3) -> None:
    """Refuses a mode that there is not, or that is for another number of channels.

    Raises:
        ValueError: As `preprocess_input` raises it.
    """
    preprocess_input(np.zeros((1, 1, channels)), mode, "channels_last")


class _Namespace(NamedTuple):
    """The two functions that arithmetic on arrays of a library needs."""

    take: Any
    constant: Any


def _as_float(x: Any) -> tuple[Any, _Namespace]:
    """`x` as floats, and the functions of the library that it belongs to."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and tensorflow.is_tensor(x):
        dtype = x.dtype if x.dtype.is_floating else tensorflow.float32

        def take(y: Any, indices: list[int], axis: int) -> Any:
            if indices == [2, 1, 0]:  # four times faster, on a CPU
                return tensorflow.reverse(y, [axis])
            return tensorflow.gather(y, indices, axis=axis)

        def constant(value: Any) -> Any:
            # TensorFlow on a CPU repeats an image along a batch three times faster than three
            # numbers along an image.
            one = x.shape[-max(3, len(x.shape) - 1) :]
            if np.size(value) > 1 and one.is_fully_defined():
                value = np.broadcast_to(value.reshape(value.shape[-len(one) :]), one)
            return tensorflow.constant(value, dtype)

        return tensorflow.cast(x, dtype), _Namespace(take, constant)
    if isinstance(x, (np.ndarray, list, tuple)) or not hasattr(x, "dtype"):
        array = np.asarray(x)
        floats = array.astype(array.dtype if array.dtype.kind == "f" else "float32", copy=False)
        return floats, _Namespace(np.take, lambda value: np.asarray(value, floats.dtype))
    from keras import backend, ops

    kind = backend.standardize_dtype(x.dtype)
    kind = kind if "float" in kind else "float32"
    return ops.cast(x, kind), _Namespace(
        ops.take, lambda value: ops.convert_to_tensor(value, dtype=kind)
    )


class Prediction(NamedTuple):
    """One guess of a classifier: a tuple, as `keras.applications` gives it."""

    id: str
    name: str
    score: float


def decode_predictions(
    preds: Any, top: int = 5, class_names: Sequence[str] | None = None
) -> list[list[Prediction]]:
    """Names the classes that a classifier thinks most likely.

    Args:
        preds: Scores or probabilities of shape `(batch, classes)`.
        top: How many classes to name; at most all.
        class_names: Names of the classes, in order. By default ImageNet's 1,000.

    Returns:
        For each image, a list of `(id, name, score)`, best first. The id is ImageNet's WordNet
        number, or the index of the class where `class_names` is given.

    Raises:
        ValueError: If `preds` does not have one column for each class.
    """
    if hasattr(preds, "detach"):
        preds = preds.detach().cpu()
    scores = np.asarray(preds, "float64")
    classes = (
        imagenet_classes()
        if class_names is None
        else tuple((str(i), name) for i, name in enumerate(class_names))
    )
    if scores.ndim != 2 or scores.shape[1] != len(classes):
        hint = " Give `class_names` for other data than ImageNet." if class_names is None else ""
        raise ValueError(
            f"`preds` must have the shape (batch, {len(classes)}).{hint} "
            f"Received the shape {scores.shape}."
        )
    if not isinstance(top, (int, np.integer)) or top < 1:
        raise ValueError(f"`top` must be a positive integer. Received: {top=}")
    if not np.isfinite(scores).all():
        raise ValueError("`preds` must be finite. Received NaN or infinity among them.")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [
        [Prediction(classes[i][0], classes[i][1], float(row[i])) for i in indices]
        for row, indices in zip(scores, best, strict=True)
    ]


@functools.cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """WordNet number and name of ImageNet's 1,000 classes, in the order of the ILSVRC."""
    file = resources.files("keras_cnn_classics") / "imagenet_classes.csv"
    with file.open("r", encoding="utf-8") as stream:
        return tuple((row["wnid"], row["name"]) for row in csv.DictReader(stream))
