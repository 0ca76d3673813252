"""Answers of networks that do not change while another one learns, recorded once."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_cnn_classics.data.batches.recorded import (
    Answers,
    ChangingError,
    Recorded,
    joined,
    recurring,
)
from keras_cnn_classics.training import _snapshot, distribution
from keras_cnn_classics.training._layers import as_array

_LOGGER = logging.getLogger("keras_cnn_classics")
_NO_MATTER = ("trainable", "seed", "compile_config")  # for the answers of a layer in use
CHANGING = (
    "responses='recorded' needs images that are the same in each epoch, in an array, a "
    "tf.data.Dataset or a PyDataset that ends. Take responses='live' for images that are augmented."
)


def key_of(model: keras.Model) -> str:
    """A digest of a Functional model: its layers, how they are connected, and its weights."""
    config = json.dumps(_numbered(model.get_config(), {}), sort_keys=True, default=str)
    found = hashlib.blake2b(config.encode(), digest_size=16)
    for weights in model.get_weights():
        found.update(np.ascontiguousarray(weights).view(np.uint8).data)
    return found.hexdigest()


def key_of_data(data: Any) -> Any:
    """What tells data from others, in the form of JSON.

    Of arrays it is a digest of all that is in them; of what `data.load` gives, its facts and a
    digest of the first images that are not learned from; of other data their form alone.
    """
    if isinstance(data, Mapping):
        return {name: key_of_data(one) for name, one in data.items()}
    if isinstance(data, (tuple, list)):
        return [key_of_data(one) for one in data]
    if hasattr(data, "position"):
        held = data.validation if data.test is None else data.test
        first = tuple(next(iter(held), ())) if held is not None else ()
        return {
            "source": data.name,
            "sizes": dict(data.sizes),
            "class_names": list(data.class_names),
            "image_shape": list(data.image_shape),
            "steps": data.steps,
            "first": key_of_data(first),
        }
    if hasattr(data, "shape"):
        array = np.ascontiguousarray(as_array(data))
        digest = hashlib.blake2b(array.view(np.uint8).data if array.size else b"", digest_size=8)
        return f"{array.dtype} {array.shape} {digest.hexdigest()}"
    return None if data is None else repr(getattr(data, "element_spec", type(data).__name__))


def _numbered(value: Any, numbers: Mapping[str, int]) -> Any:
    """A config with numbers for the names of layers, which differ from session to session."""
    if isinstance(value, dict):
        if "layers" in value:  # of a model
            names = [layer["config"]["name"] for layer in value["layers"]]
            numbers = {value["name"]: -1, **{name: i for i, name in enumerate(names)}}
        return {
            key: numbers.get(one, one)
            if key == "name" and isinstance(one, str)
            else _numbered(one, numbers)
            for key, one in value.items()
            if key not in _NO_MATTER
        }
    if isinstance(value, (list, tuple)):
        if value and isinstance(value[0], str) and value[0] in numbers:  # where a tensor is from
            return [numbers[value[0]], *value[1:]]
        return [_numbered(one, numbers) for one in value]
    return value


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


def recording(
    recorded: Recorded,
    x: Any,
    *,
    batch_size: int | None = None,
    verbose: Any = 0,
    what: str = "answers",
    again: bool = True,
) -> Iterator[tuple[Any, ...]]:
    """Records the answers to all images of some data, and gives the batches (images, ...).

    Args:
        recorded: Where to; what it knows already is not computed again.
        x: An array, a `tf.data.Dataset` or a `PyDataset`.
        batch_size: Images of an array that are computed at a time. Defaults to 32.
        verbose: How the progress is shown, as in `keras.Model.fit`: 2 is one line in the end.
        what: What is recorded, for the log.
        again: Whether data come, too, whose images are all known.

    Raises:
        ChangingError: If the images are others each time, or the data have no end, or workers share
            them. Nothing of them is then recorded.
    """
    if not is_finite(x):
        raise ChangingError("The data are not known to end.")
    size = batch_size or 32
    before = set(recorded.keys)
    total = -(-len(x) // size) if hasattr(x, "shape") else None
    bar, shown = None, 0
    try:
        for batch in recurring(x, size, None if again else recorded.keys):
            if recorded.add(batch[0]) and verbose not in (0, None) and bar is None:
                _LOGGER.info("Recording %s.", what)
                bar = keras.utils.Progbar(
                    total, verbose=2 if verbose == 2 else 1, unit_name="batch"
                )
            if bar is not None:
                shown += 1
                bar.update(shown, finalize=False)
            yield batch
    except ChangingError:
        recorded.keep(before)
        raise
    if bar is not None:
        # A bar of one line shows nothing of what has no known number.
        bar.target = bar.target or shown
        bar.update(bar.target, finalize=True)


def with_answers(
    recorded: Recorded, x: Any, how: str, what: str, options: Mapping[str, Any]
) -> Any:
    """The data with their answers, or as they are if a network must answer at each step.

    Args:
        recorded: Where answers are kept.
        x: The data.
        how: `"recorded"`, `"live"` or `"auto"`.
        what: What the answers are, for the log.
        options: The arguments of `fit`.

    Raises:
        ValueError: If answers shall be recorded for images that change.
    """
    if how == "live":
        return x
    try:
        if how == "auto" and options.get("steps_per_epoch") is not None:
            raise ChangingError("The data are not known to end.")
        size, verbose = options.get("batch_size"), options.get("verbose")
        for _ in recording(recorded, x, batch_size=size, verbose=verbose, what=what, again=False):
            pass
    except ChangingError:
        if how == "recorded":
            raise ValueError(CHANGING) from None
        _LOGGER.info("The images change or have no end: %s are computed at each step.", what)
        return x
    return joined(x, recorded)


def answers_of(inputs: Any, live: Callable[[Any], Answers]) -> Any:
    """The answers to a batch: those that come with it, or those of `live` for its images.

    Images may come that were not there when answers were recorded, say as `drop_remainder` had left
    them out: to their batch the network answers. That is done within the step, as the threads that
    make batches must not compute by a network.
    """
    if not isinstance(inputs, dict):
        return live(inputs)
    if "known" not in inputs:
        return inputs["answers"]
    return keras.ops.cond(
        keras.ops.all(inputs["known"]),
        lambda: inputs["answers"],
        lambda: keras.tree.map_structure(
            lambda one: keras.ops.cast(one, "float32"), live(inputs["images"])
        ),
    )


def is_finite(x: Any) -> bool:
    """Whether data are an array or batches that end, which can be gone through."""
    if isinstance(x, keras.utils.PyDataset):
        return x.num_batches is not None
    if hasattr(x, "shape"):
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
