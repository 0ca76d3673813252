"""What a source of images gives before it becomes batches.

Three kinds of images: arrays in memory, files on disk, and a stream of encoded images from TFDS.
All three know how many they are and can be narrowed to some of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf


class Images(Protocol):
    """Images with labels, in a fixed order."""

    @property
    def labels(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def select(self, indices: np.ndarray) -> Self:
        """Those at `indices`, which are sorted."""

    def relabel(self, order: np.ndarray) -> Self:
        """The same images with `order[label]` for `label`."""


@dataclass(frozen=True)
class Arrays:
    """Decoded images of one size: uint8 `(n, height, width, channels)`, and int32 labels."""

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: np.ndarray) -> Arrays:
        return Arrays(self.pixels[indices], self.labels[indices])

    def relabel(self, order: np.ndarray) -> Arrays:
        return replace(self, labels=order[self.labels])


@dataclass(frozen=True)
class Files:
    """Paths of image files, and int32 labels."""

    paths: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: np.ndarray) -> Files:
        return Files(self.paths[indices], self.labels[indices])

    def relabel(self, order: np.ndarray) -> Files:
        return replace(self, labels=order[self.labels])


@dataclass(frozen=True)
class Stream:
    """Images too many or too uneven for memory.

    Attributes:
        opened: Gives a dataset of (encoded image, integer label) in a fixed order.
        size: How many `opened` gives.
        indices: Positions of those that are meant, sorted, or `None` for all.
        order: New label of each label, or `None` for the same.
    """

    opened: Callable[[], tf.data.Dataset]
    size: int
    indices: np.ndarray | None = None
    order: np.ndarray | None = None

    def __len__(self) -> int:
        return self.size if self.indices is None else len(self.indices)

    def select(self, indices: np.ndarray) -> Stream:
        return replace(self, indices=indices if self.indices is None else self.indices[indices])

    def relabel(self, order: np.ndarray) -> Stream:
        return replace(self, order=order if self.order is None else order[self.order])

    @property
    def labels(self) -> np.ndarray:
        """All labels, for which the whole stream is read."""
        read = np.array([label for _, label in self.opened().as_numpy_iterator()], np.int32)
        chosen = read if self.indices is None else read[self.indices]
        return chosen if self.order is None else self.order[chosen]


@dataclass(frozen=True)
class Source:
    """All that is known of a data set before it is split and batched.

    `shape` is `(height, width, channels)`, with `None` where images differ.
    """

    name: str
    class_names: tuple[str, ...]
    shape: tuple[int | None, int | None, int | None]
    train: Images
    validation: Images | None = None
    test: Images | None = None
    skipped: tuple[str, ...] = ()


def check_labels(labels: np.ndarray, class_names: Sequence[str], split: str) -> np.ndarray:
    """Refuses labels outside the classes, such as the -1 of unlabelled test images."""
    outside = labels[(labels < 0) | (labels >= len(class_names))]
    if len(outside):
        raise ValueError(
            f"Labels must be from 0 to {len(class_names) - 1}. Received {len(outside)} others in "
            f"the split {split!r}, the first {int(outside[0])}. Take a set whose images are all "
            "labelled."
        )
    return labels


def narrowed(source: Source, only: Sequence[str | int] | None) -> Source:
    """The source with the images of some classes alone, which are numbered anew in their order."""
    if only is None:
        return source
    known = source.class_names
    chosen: list[Any] = [known.index(one) if one in known else one for one in only]
    right = all(isinstance(one, int) and 0 <= one < len(known) for one in chosen)
    if isinstance(only, str) or not chosen or not right or len(set(chosen)) != len(chosen):
        raise ValueError(
            f"`only` must have classes of {source.name!r}, each once, by name or by number from 0 "
            f"to {len(known) - 1}: {', '.join(known)}. Received: {only!r}"
        )
    order = np.full(len(known), -1, np.int32)
    order[chosen] = np.arange(len(chosen))

    def part(images: Images | None) -> Any:
        if images is None:
            return None
        return images.select(np.flatnonzero(order[images.labels] >= 0)).relabel(order)

    return replace(
        source,
        class_names=tuple(known[one] for one in chosen),
        train=part(source.train),
        validation=part(source.validation),
        test=part(source.test),
    )


def with_classes(source: Source, class_names: Sequence[str] | None) -> Source:
    """The source with its labels in the order of `class_names`, which must be its classes."""
    if class_names is None or tuple(class_names) == source.class_names:
        return source
    names = tuple(class_names)
    unexpected = [name for name in source.class_names if name not in names]
    missing = [name for name in names if name not in source.class_names]
    if unexpected or missing or len(set(names)) != len(names):
        raise ValueError(
            f"The classes of {source.name!r} must be those of `class_names`, each once. "
            f"Unexpected: {unexpected or 'none'}; missing: {missing or 'none'}. Take data of the "
            "classes that the network knows, or rename the folders."
        )
    order = np.array([names.index(name) for name in source.class_names], np.int32)
    parts = (source.train, source.validation, source.test)
    train, validation, test = (part and part.relabel(order) for part in parts)
    assert train is not None
    return replace(source, class_names=names, train=train, validation=validation, test=test)
