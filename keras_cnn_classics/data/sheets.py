"""A contact sheet: many images in one, to see what a pipeline gives."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_cnn_classics.data.images import fit_image, to_channels

if TYPE_CHECKING:
    from PIL import Image

_SMALLEST = 64  # pixels of a cell; smaller images are enlarged by a whole number
_GAP, _LINE = 4, 14  # pixels between cells, and of a line of text


def contact_sheet(
    images: Any, rows: int, columns: int, class_names: Sequence[str] | None = None
) -> Image.Image:
    """Draws images on a grid, row by row, each with its class below it.

    Args:
        images: Pixels from 0 to 255, channels last, before they are preprocessed: an array of
            several images, a `tf.data.Dataset`, or another iterable of images or batches, each
            alone or as `(images, labels)`. Only as many are taken as are shown.
        rows: Rows of the grid.
        columns: Columns of the grid.
        class_names: Name of each label. Without them no class is written. Of a mixed label the
            two greatest shares are.

    Returns:
        A Pillow image in RGB. A smaller image stands in the middle of its cell, and cells
        without an image are white.

    Raises:
        ValueError: If there are no images, they are no pixels from 0 to 255, or the grid is empty.
    """
    from PIL import Image, ImageDraw

    if rows < 1 or columns < 1:
        raise ValueError(f"`rows` and `columns` must be positive. Received: {rows=}, {columns=}")
    examples = list(itertools.islice(_examples(images), rows * columns))
    pixels = _checked([image for image, _ in examples])
    height, width = np.max([image.shape[:2] for image in pixels], axis=0)
    scale = max(1, -(-_SMALLEST // max(height, width)))
    text = _LINE if class_names is not None else 0
    down, right = height * scale + text + _GAP, width * scale + _GAP
    sheet = Image.new("RGB", (columns * right + _GAP, rows * down + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (image, (_, label)) in enumerate(zip(pixels, examples, strict=True)):
        x, y = _GAP + i % columns * right, _GAP + i // columns * down
        cell = fit_image(to_channels(image, 3), (height, width), "pad")
        sheet.paste(Image.fromarray(cell.repeat(scale, 0).repeat(scale, 1)), (x, y))
        if class_names is not None and label is not None:
            name = _caption(label, class_names)
            while name and draw.textlength(name) > right - _GAP:
                name = name[:-1]
            draw.text((x, y + height * scale + 1), name, fill="black")
    return sheet


def _examples(images: Any) -> Iterator[tuple[np.ndarray, Any]]:
    """Single images with their labels, `None` for those without."""
    for element in [images] if hasattr(images, "shape") else images:
        batch, labels = element if isinstance(element, (tuple, list)) else (element, None)
        batch = np.asarray(batch)
        if batch.ndim == 3:
            yield batch, labels
        elif batch.ndim == 4:
            every = [None] * len(batch) if labels is None else np.asarray(labels)
            yield from zip(batch, every, strict=True)
        else:
            raise ValueError(
                "A contact sheet shows images of shape (height, width, channels), or batches of "
                f"them. Received: shape {batch.shape}"
            )


def _checked(images: list[np.ndarray]) -> list[np.ndarray]:
    """The images as uint8; preprocessed ones are refused."""
    if not images:
        raise ValueError("A contact sheet needs at least one image. Received none.")
    low, high = min(image.min() for image in images), max(image.max() for image in images)
    floats = any(image.dtype != np.uint8 for image in images)
    channels = {image.shape[-1] for image in images}
    if low < 0 or high > 255 or (floats and 0 < high <= 1) or not channels <= {1, 3}:
        raise ValueError(
            "A contact sheet shows grey or RGB pixels from 0 to 255, channels last. Received: "
            f"pixels from {low:g} to {high:g}, {sorted(channels)} channels. Show the images before "
            "they are preprocessed."
        )
    return [np.rint(image).astype(np.uint8) for image in images]


def _caption(label: Any, class_names: Sequence[str]) -> str:
    shares = np.asarray(label)
    if shares.ndim == 0:
        return str(class_names[int(shares)])
    best = [i for i in np.argsort(-shares, kind="stable")[:2] if shares[i] > 0]
    if len(best) == 1:
        return str(class_names[best[0]])
    return " ".join(f"{shares[i]:.0%} {class_names[i]}" for i in best)
