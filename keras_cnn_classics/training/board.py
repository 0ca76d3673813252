"""What TensorBoard shows of a run beside Keras's own curves."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_cnn_classics.data import contact_sheet
from keras_cnn_classics.preprocessing import to_pixels
from keras_cnn_classics.training._layers import as_array

COLUMNS = 8  # of the picture with mistakes


def write_hyperparameters(
    log_dir: str | os.PathLike[str], values: Mapping[str, Any], name: str | None = None
) -> None:
    """Writes a run's settings for TensorBoard's tab HParams, which compares runs by them.

    Args:
        log_dir: Folder of the run's log, that of Keras's `TensorBoard` callback.
        values: Settings by name. What is no number, string or boolean is written as text, and
            `None` is left out; settings in settings get names with dots.
        name: How the run is called there, before a few letters for its folder. Defaults to the last
            part of `log_dir`.
    """
    import tensorflow as tf
    from tensorboard.plugins.hparams import api

    writer = tf.summary.create_file_writer(str(log_dir), filename_suffix=".hparams")
    with writer.as_default():
        # Runs of one name and other folders would be taken for one.
        place = hashlib.sha1(str(Path(log_dir).absolute()).encode()).hexdigest()
        api.hparams(_flat(values), trial_id=f"{name or Path(log_dir).name}-{place[:6]}")
    writer.close()


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{name}.")
        elif value is not None:
            plain = isinstance(value, (bool, int, float, str))
            found[before + name] = value if plain else str(value)
    return found


def write_mistakes(
    log_dir: str | os.PathLike[str],
    model: Any,
    batches: Any,
    class_names: Sequence[str],
    *,
    preprocessing: str | None = None,
    step: int = 0,
    most: int = 32,
) -> int:
    """Writes the images that a classifier gets most wrong for TensorBoard's tab Images.

    The worst come first: those whose score for the wrong class is furthest above that for the right
    one. Below each stands what the model says, and what would have been right.

    Args:
        log_dir: Folder of the run's log.
        model: A classifier.
        batches: Pairs of images, as the model takes them, and labels, integers or one-hot.
        class_names: Name of each label.
        preprocessing: Mode of `preprocess_input` that the images were prepared in. With `None` each
            image is drawn from its own darkest value to its brightest.
        step: Where it stands on TensorBoard's axis, such as the number of epochs.
        most: At most so many images are drawn.

    Returns:
        How many mistakes there were. Without any, nothing is written.
    """
    import tensorflow as tf

    worst: list[tuple[float, np.ndarray, str]] = []
    count = 0
    for images, labels in batches:
        images, labels = as_array(images), as_array(labels)
        one_hot = labels.ndim == 2 and labels.shape[-1] > 1
        true = labels.argmax(-1) if one_hot else labels.astype(int).reshape(-1)
        scores = as_array(model(images, training=False))
        said = scores.argmax(-1)
        wrong = np.flatnonzero(said != true)
        count += len(wrong)
        for i in wrong:
            above = float(scores[i, said[i]] - scores[i, true[i]])
            caption = f"{_name(class_names, said[i])}, not {_name(class_names, true[i])}"
            worst.append((above, images[i], caption))
        worst = sorted(worst, key=lambda one: one[0], reverse=True)[:most]
    if not count:
        return 0
    pictures = np.stack([image for _, image, _ in worst])
    if keras.config.image_data_format() == "channels_first":
        pictures = np.moveaxis(pictures, 1, -1)
    if preprocessing is None:
        low, high = (f(pictures, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
        pictures = np.rint(255 * (pictures - low) / np.maximum(high - low, 1e-9)).astype("uint8")
    else:
        pictures = to_pixels(pictures, preprocessing, "channels_last")
    captions = [caption for _, _, caption in worst]
    rows = -(-len(worst) // COLUMNS)
    numbered = list(zip(pictures, itertools.count(), strict=False))
    sheet = contact_sheet(numbered, rows, min(COLUMNS, len(worst)), captions)
    writer = tf.summary.create_file_writer(str(log_dir), filename_suffix=".images")
    with writer.as_default():
        tf.summary.image("mistakes", np.asarray(sheet)[None], step=step)
    writer.close()
    return count


def _name(class_names: Sequence[str], label: int) -> str:
    """The name of a class; a model may have more outputs than there are names."""
    return str(class_names[label]) if label < len(class_names) else str(label)
