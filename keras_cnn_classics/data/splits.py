"""Holding images out of the training split, reproducibly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from keras_cnn_classics.data.sources import Images, Source, Stream

# Each held-out split draws from a stream of its own, so that changing the fraction of one does
# not reshuffle the other's draw.
_STREAMS = {"test": 1, "validation": 0}


def split(source: Source, *, validation: float, test: float, seed: int, stratify: bool) -> Source:
    """Gives the source a test and a validation split, unless it has its own.

    Args:
        source: The source. A validation split without a test split serves as test split.
        validation: Fraction of the training images, after the test images have left.
        test: Fraction of all images.
        seed: Decides which images are drawn.
        stratify: Whether the same fraction of every class is drawn.
    """
    if source.test is None and source.validation is not None:
        source = replace(source, test=source.validation, validation=None)
    if source.test is None and test:
        kept, held = _hold_out(source, test, "test", seed, stratify)
        source = replace(source, train=kept, test=held)
    if not validation:
        return replace(source, validation=None)
    if source.validation is None:
        kept, held = _hold_out(source, validation, "validation", seed, stratify)
        source = replace(source, train=kept, validation=held)
    return source


def _hold_out(
    source: Source, fraction: float, name: str, seed: int, stratify: bool
) -> tuple[Images, Images]:
    images, rng = source.train, np.random.default_rng([seed, _STREAMS[name]])
    if stratify and not isinstance(images, Stream):
        labels: np.ndarray = images.labels
        groups: Sequence[np.ndarray] = [
            np.flatnonzero(labels == label) for label in range(len(source.class_names))
        ]
        called = [f"Class {class_name!r}" for class_name in source.class_names]
    else:
        groups, called = [np.arange(len(images))], ["The training split"]
    held = []
    for group, what in zip(groups, called, strict=True):
        count = max(1, round(fraction * len(group)))
        if count >= len(group):
            raise ValueError(
                f"{what} of {source.name!r} has {len(group)} image(s) left to train on, too few "
                f"to hold out {name}={fraction}. Add images, or lower `{name}` (0 holds none out)."
            )
        held.append(rng.permutation(group)[:count])
    chosen = np.sort(np.concatenate(held))
    rest = np.setdiff1d(np.arange(len(images)), chosen, assume_unique=True)
    return images.select(rest), images.select(chosen)
