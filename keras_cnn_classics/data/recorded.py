"""What a network has answered to images, found again by the images themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

Answers = dict[str, np.ndarray]


class UnknownImageError(LookupError):
    """An image has no recorded answer."""


class Recorded:
    """The answers of a network to images, each under a digest of its pixels.

    Whatever order the images come in, an answer goes with its own image. Images that change from
    epoch to epoch, as augmented ones do, are not found again.

    Args:
        compute: Gives the answers for a batch of images, a dict of arrays.
    """

    def __init__(self, compute: Callable[[np.ndarray], Answers]) -> None:
        self.compute = compute
        self._rows: dict[bytes, int] = {}
        self._parts: dict[str, list[np.ndarray]] = {}
        self._joined: Answers = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, images: np.ndarray) -> int:
        """Records what is not known yet of a batch.

        Returns:
            The number of new images.
        """
        keys = digests(images)
        new = {key: i for i, key in enumerate(keys) if key not in self._rows}
        if new:
            chosen = images if len(new) == len(images) else images[list(new.values())]
            for name, answers in self.compute(chosen).items():
                if len(answers) != len(chosen):
                    raise ValueError(
                        f"There must be one answer to each image. Received: {len(answers)} of "
                        f"{name!r} to {len(chosen)} images"
                    )
                self._parts.setdefault(name, []).append(np.asarray(answers))
            for key in new:
                self._rows[key] = len(self._rows)
            self._joined = {}
        return len(new)

    def known(self, images: np.ndarray) -> int:
        """How many images of a batch have been recorded."""
        return sum(key in self._rows for key in digests(images))

    def answers(self, images: np.ndarray) -> Answers:
        """The answers to a batch; those to blanks, which stand for skipped images, are zeros.

        Raises:
            UnknownImageError: If an image was never recorded.
        """
        rows = [self._rows.get(key, -1) for key in digests(images)]
        missing = np.flatnonzero(np.array(rows) < 0)
        if len(missing) and images[missing].any():
            raise UnknownImageError(
                f"{len(missing)} of {len(images)} images of a batch were not there when the "
                "answers were recorded: they change from epoch to epoch, as augmented images do, "
                "or are others."
            )
        found = {name: array[rows] for name, array in self._all().items()}
        for array in found.values():
            array[missing] = 0
        return found

    def _all(self) -> Answers:
        if not self._joined:
            self._joined = {name: np.concatenate(parts) for name, parts in self._parts.items()}
            self._parts = {name: [array] for name, array in self._joined.items()}
        return self._joined

    def state(self) -> dict[str, Any]:
        """Everything as arrays, for a file."""
        keys = np.frombuffer(b"".join(self._rows), np.uint8)
        return {"digests": keys.reshape(len(self._rows), -1), "answers": dict(self._all())}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up what `state` gave."""
        self._rows = {row.tobytes(): i for i, row in enumerate(state["digests"])}
        self._parts = {name: [array] for name, array in state["answers"].items()}
        self._joined = {}


def digests(images: np.ndarray) -> list[bytes]:
    """A digest of the pixels of each image."""
    images = np.ascontiguousarray(images)
    return [hashlib.blake2b(memoryview(row).cast("B"), digest_size=16).digest() for row in images]


def batches_of(x: Any, y: Any, batch_size: int) -> Iterable[tuple[Any, ...]]:
    """The batches (images, ...) of arrays, a data set or a `PyDataset`, once, as arrays."""
    if hasattr(x, "shape"):
        for start in range(0, len(x), batch_size):
            part = slice(start, start + batch_size)
            yield tuple(np.asarray(a[part]) for a in (x, y) if a is not None)
        return
    batches = (x[i] for i in range(len(x))) if isinstance(x, keras.utils.PyDataset) else x
    for batch in batches:
        parts = batch if isinstance(batch, (tuple, list)) else (batch,)
        yield tuple(None if p is None else keras.ops.convert_to_numpy(p) for p in parts)


def joined(x: Any, recorded: Recorded) -> Any:
    """Batches (images, ...) with the answers: ({"images": images, "answers": {...}}, ...).

    Args:
        x: An array of images, a `tf.data.Dataset` or a `PyDataset`.
        recorded: The answers to all of the images.

    Raises:
        TypeError: For other data.
    """
    if hasattr(x, "shape"):
        return {"images": x, "answers": recorded.answers(np.asarray(x))}
    if isinstance(x, keras.utils.PyDataset):
        return _Joined(x, recorded)
    import tensorflow as tf

    if not isinstance(x, tf.data.Dataset):
        raise TypeError(
            "Answers can be recorded for arrays, a tf.data.Dataset or a keras.utils.PyDataset. "
            f"Received: {type(x).__name__}"
        )
    sample = recorded._all()
    names = list(sample)

    def find(images: np.ndarray) -> list[np.ndarray]:
        found = recorded.answers(images)
        return [found[name] for name in names]

    def with_answers(*batch: Any) -> Any:
        images = batch[0]
        found = tf.numpy_function(find, [images], [sample[name].dtype for name in names])
        for one, name in zip(found, names, strict=True):
            one.set_shape((images.shape[0], *sample[name].shape[1:]))
        answers = dict(zip(names, found, strict=True))
        return ({"images": images, "answers": answers}, *batch[1:])

    return x.map(with_answers, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


class _Joined(keras.utils.PyDataset):
    """Another data set, with the answers."""

    def __init__(self, inner: Any, recorded: Recorded) -> None:
        super().__init__(inner.workers, inner.use_multiprocessing, inner.max_queue_size)
        self.inner, self.recorded = inner, recorded

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        images, *rest = self.inner[index]
        images = np.asarray(images)
        return ({"images": images, "answers": self.recorded.answers(images)}, *rest)

    def on_epoch_end(self) -> None:
        self.inner.on_epoch_end()
