"""Answers of networks that do not change while another one learns, recorded once."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_cnn_classics.data.recorded import Answers, Recorded, batches_of
from keras_cnn_classics.training import _snapshot, distribution

_LOGGER = logging.getLogger("keras_cnn_classics")
_NO_MATTER = ("name", "trainable", "seed")  # for the answers of a layer in use
CHANGING = (
    "responses='recorded' needs images that are the same in each epoch, in an array, a "
    "tf.data.Dataset or a PyDataset that ends. Take responses='live' for images that are augmented."
)


def key_of(model: keras.Model) -> str:
    """A digest of a model's layers and weights."""
    found = hashlib.blake2b(digest_size=16)
    for layer in model.layers:
        config = {key: v for key, v in layer.get_config().items() if key not in _NO_MATTER}
        found.update(json.dumps(config, sort_keys=True, default=str).encode())
    for weights in model.get_weights():
        found.update(np.ascontiguousarray(weights).view(np.uint8).data)
    return found.hexdigest()


def answering(model: keras.Model) -> Callable[[np.ndarray], Answers]:
    """A function that gives the answers of a model to a batch, a dict of float32 arrays."""

    def answer(images: np.ndarray) -> Answers:
        return {
            name: np.asarray(value, "float32") for name, value in outputs(model, images).items()
        }

    return answer


def outputs(model: keras.Model, images: np.ndarray) -> Any:
    """What a model gives for a batch, as arrays."""
    if distribution.replicas() == 1:
        return model.predict_on_batch(images)
    # Every replica would be given the whole batch.
    return model.predict(images, batch_size=len(images), verbose=0)


def record(
    recorded: Recorded,
    x: Any,
    *,
    batch_size: int | None = None,
    verbose: Any = 0,
    what: str = "answers",
) -> bool:
    """Records the answers to all images of some data.

    Args:
        recorded: Where to; what it knows already is not computed again.
        x: An array, a `tf.data.Dataset` or a `PyDataset`.
        batch_size: Images of an array that are computed at a time. Defaults to 32.
        verbose: Whether a bar shows the progress, as in `keras.Model.fit`.
        what: What is recorded, for the log.

    Returns:
        Whether the images are the same each time, so that the answers will be found again. Data
        without an end, and those that workers share, are taken not to be.
    """
    if not is_finite(x):
        return False
    size = batch_size or 32
    total = -(-len(x) // size) if hasattr(x, "__len__") else None
    bar = None
    for images, *_ in batches_of(x, None, size):
        if recorded.add(images) and verbose not in (0, None) and bar is None:
            _LOGGER.info("Recording %s.", what)
            bar = keras.utils.Progbar(total, unit_name="batch")
        if bar is not None:
            bar.add(1)
    if bar is not None and total is None:
        bar.update(bar.target or bar._seen_so_far, finalize=True)
    if hasattr(x, "shape"):
        return True
    images = next(iter(batches_of(x, None, size)))[0]
    return recorded.known(images) == len(images)


def is_finite(x: Any) -> bool:
    """Whether data are an array or batches that end, which can be gone through."""
    if hasattr(x, "shape") or isinstance(x, keras.utils.PyDataset):
        return True
    return hasattr(x, "cardinality") and int(x.cardinality()) != -1  # without an end


def read(recorded: Recorded, path: Path, key: str, what: str) -> None:
    """Takes up what `write` has left for the same network.

    Raises:
        ValueError: If the file is of another network, or no such file.
    """
    try:
        state = _snapshot.read(path)
        theirs = state["key"]
    except FileNotFoundError:
        return
    except (_snapshot.DamagedError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} holds no {what}, or is damaged ({error}): delete it, and they are computed "
            "again."
        ) from None
    if theirs != key:
        raise ValueError(
            f"{path} holds the {what} of another network, or of other weights: delete it, or name "
            "another file."
        )
    recorded.restore(state)


def write(recorded: Recorded, path: Path, key: str) -> None:
    """Writes all that is recorded; a disk that is full is a warning."""
    try:
        _snapshot.write(path, {"key": key, **recorded.state()})
    except OSError as error:
        _LOGGER.warning("%s. They are kept in memory only.", error)
