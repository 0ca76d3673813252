"""What a network has answered to images, found again by the images themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, KeysView, Sequence
from typing import Any

import keras
import numpy as np

Answers = dict[str, np.ndarray]


class ChangingError(ValueError):
    """Images are others each time that the data are gone through."""


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
        self._owners: tuple[str, ...] = ()

    def belongs_to(self, *keys: str) -> None:
        """Forgets everything if it was recorded of networks with other keys."""
        if keys != self._owners:
            self.keep(())
            self._owners = keys

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def keys(self) -> KeysView[bytes]:
        """The digests of all images."""
        return self._rows.keys()

    @property
    def nbytes(self) -> int:
        """What all answers take in memory."""
        return sum(part.nbytes for parts in self._parts.values() for part in parts)

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

    def find(self, keys: Sequence[bytes]) -> tuple[Answers, np.ndarray]:
        """The answers to images by their digests, and which of them are known.

        The answers to the others are zeros.
        """
        rows = np.array([self._rows.get(key, -1) for key in keys])
        known = rows >= 0
        found = {name: array[rows] for name, array in self._all().items()}
        for array in found.values():
            array[~known] = 0
        return found, known

    def keep(self, keys: Collection[bytes]) -> None:
        """Forgets all images but these."""
        kept = {key: row for key, row in self._rows.items() if key in keys}
        rows = list(kept.values())
        self._parts = {name: [array[rows]] for name, array in self._all().items()}
        self._rows = {key: i for i, key in enumerate(kept)}
        self._joined = {}

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
    """A digest of the pixels of each image, and of how many there are of what kind."""
    images = np.ascontiguousarray(images)
    kind = hashlib.blake2b(f"{images.shape[1:]} {images.dtype}".encode(), digest_size=16)
    rows = images.reshape(len(images), -1).view(np.uint8)
    found = []
    for row in rows:
        digest = kind.copy()
        digest.update(row.data)
        found.append(digest.digest())
    return found


def batches_of(x: Any, y: Any, batch_size: int) -> Iterable[tuple[Any, ...]]:
    """The batches (images, ...) of arrays, a data set or a `PyDataset`, once, as arrays."""
    if hasattr(x, "shape"):
        for start in range(0, len(x), batch_size):
            part = slice(start, start + batch_size)
            yield tuple(np.asarray(a[part]) for a in (x, y) if a is not None)
        return
    batches = (x[i] for i in range(x.num_batches)) if isinstance(x, keras.utils.PyDataset) else x
    for batch in batches:
        parts = batch if isinstance(batch, (tuple, list)) else (batch,)
        yield tuple(None if p is None else keras.ops.convert_to_numpy(p) for p in parts)


def recurring(
    x: Any, batch_size: int, known: KeysView[bytes] | None = None
) -> Iterator[tuple[Any, ...]]:
    """The batches (images, ...) of data that have the same images each time.

    A data set is gone through for the digests of its images alone first, so that those that change
    are found out before anything is done with them. It may leave out less than a batch of other
    images each time, as `drop_remainder` does of shuffled ones: then a third pass gives what the
    second one has left out.

    Args:
        x: An array of images, a `tf.data.Dataset` or a `PyDataset`, which ends.
        batch_size: Images in a batch, for an array.
        known: Digests of images for which nothing is to be done. If all are, there are no batches.

    Raises:
        ChangingError: If images come that were not there the first time: as many as in a batch.
    """
    if hasattr(x, "shape"):
        yield from batches_of(x, None, batch_size)
        return
    first = {key for images, *_ in batches_of(x, None, 0) for key in digests(images)}
    if known is not None and first <= known:
        return
    missing, new, size = set(first), 0, 0
    for images, *rest in batches_of(x, None, 0):
        keys = digests(images)
        new, size = new + sum(key not in first for key in keys), max(size, len(keys))
        if new >= size:
            raise ChangingError("The images are others each time.")
        missing.difference_update(keys)
        yield images, *rest
    if not missing:
        return
    for batch in batches_of(x, None, 0):
        keys = digests(batch[0])
        chosen = [i for i, key in enumerate(keys) if key in missing]
        missing.difference_update(keys)
        if chosen:
            yield tuple(None if part is None else part[chosen] for part in batch)


def joined(x: Any, recorded: Recorded) -> Any:
    """Batches (images, ...) with the answers: ({"images": images, "answers": {...}}, ...).

    Those of data sets also have in `known` which of the images have an answer: of the others, which
    none has seen before, it is zeros.

    Args:
        x: An array of images that are all recorded, a `tf.data.Dataset` or a `PyDataset`.
        recorded: The answers.

    Raises:
        TypeError: For other data.
    """
    if hasattr(x, "shape"):
        return {"images": x, "answers": recorded.find(digests(np.asarray(x)))[0]}
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
    dtypes = [tf.bool, *(sample[name].dtype for name in names)]
    shapes = [(), *(sample[name].shape[1:] for name in names)]

    def find(images: np.ndarray) -> list[np.ndarray]:
        answers, known = recorded.find(digests(images))
        return [known, *(answers[name] for name in names)]

    def with_answers(*batch: Any) -> Any:
        images = batch[0]
        known, *found = (
            tf.ensure_shape(one, (images.shape[0], *shape))
            for one, shape in zip(tf.numpy_function(find, [images], dtypes), shapes, strict=True)
        )
        answers = dict(zip(names, found, strict=True))
        return ({"images": images, "answers": answers, "known": known}, *batch[1:])

    return x.map(with_answers, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


class _Joined(keras.utils.PyDataset):
    """Another data set, with the answers."""

    def __init__(self, inner: Any, recorded: Recorded) -> None:
        super().__init__(inner.workers, inner.use_multiprocessing, inner.max_queue_size)
        self.inner, self.recorded = inner, recorded

    def __len__(self) -> int:
        return int(self.inner.num_batches)

    def __getitem__(self, index: int) -> Any:
        batch = self.inner[index]
        images, *rest = batch if isinstance(batch, (tuple, list)) else (batch,)
        images = np.asarray(images)
        answers, known = self.recorded.find(digests(images))
        return ({"images": images, "answers": answers, "known": known}, *rest)

    def on_epoch_begin(self) -> None:
        self.inner.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.inner.on_epoch_end()
