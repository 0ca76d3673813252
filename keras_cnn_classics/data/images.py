"""Reading one image file, and fitting an image to a size.

Pillow is imported where it is used, since many users of the package never read a file.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
RESIZE_MODES = ("crop", "stretch", "pad")


class _QuietPillow:
    """Keeps Pillow's warnings from the user while any thread is in it.

    `warnings.catch_warnings` replaces the process's list of filters and puts the old one back,
    which goes wrong when threads overlap. This adds one filter and takes that one away.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._filter = threading.Lock(), 0, None

    def __enter__(self) -> None:
        filters: list[Any] = warnings.filters  # type: ignore[assignment]
        with self._lock:
            self._inside += 1
            if self._filter is None or self._filter not in filters:
                warnings.filterwarnings("ignore", module=r"PIL\b")
                self._filter = filters[0]

    def __exit__(self, *exception: object) -> None:
        filters: list[Any] = warnings.filters  # type: ignore[assignment]
        with self._lock:
            self._inside -= 1
            if not self._inside:
                with contextlib.suppress(ValueError):
                    filters.remove(self._filter)
                self._filter = None


_quiet_pillow = _QuietPillow()


def decode_image(path_or_bytes: str | os.PathLike[str] | bytes, channels: int = 3) -> np.ndarray:
    """Reads an image file as 8-bit pixels, upright.

    The camera's orientation (EXIF) is applied, transparency is laid on white, 16-bit grey is
    scaled to 8 bits, palettes and CMYK become RGB, and of several frames the first is taken.

    Args:
        path_or_bytes: A path, or the contents of an image file.
        channels: 3 for RGB, or 1 for grey, which is the ITU-R 601 luma
            (0.299 R + 0.587 G + 0.114 B).

    Returns:
        An array of uint8, `(height, width, channels)`.

    Raises:
        ValueError: If it is not an image, or one that is damaged or too large, or for another
            number of channels.
        FileNotFoundError: If there is no such file.
    """
    check_channels(channels)
    with _opened(path_or_bytes) as image:
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels[..., None] if channels == 1 else pixels


def fault(path: str) -> str | None:
    """Decodes a file once and says what is wrong with it, or `None` if nothing is."""
    if os.path.splitext(path)[1].lower() not in EXTENSIONS:
        return f"not an image: {path} (its extension is none of {' '.join(EXTENSIONS)})"
    if not os.path.isfile(path):  # a pipe would be waited for, for ever
        return f"not an image: {path} (it is not a regular file)"
    try:
        with _opened(path, quickly=True):
            return None
    except (ValueError, OSError) as error:
        return str(error)


@contextlib.contextmanager
def _opened(source: str | os.PathLike[str] | bytes, quickly: bool = False) -> Iterator[Image.Image]:
    """The decoded image, upright, in mode L or RGB. `quickly` lets JPEG shrink it eightfold."""
    from PIL import Image, ImageOps

    with _quiet_pillow:
        try:
            file = io.BytesIO(source) if isinstance(source, bytes) else os.fspath(source)
            with Image.open(file) as image:
                if quickly:
                    image.draft(None, (image.width // 8, image.height // 8))
                image.load()
                result = _plain(ImageOps.exif_transpose(image))
        except FileNotFoundError:
            raise FileNotFoundError(f"There is no image file {str(source)!r}.") from None
        # Pillow's readers raise many kinds on damaged files: SyntaxError, struct.error, EOFError.
        except Exception as error:
            name = "these bytes" if isinstance(source, bytes) else os.fspath(source)
            raise ValueError(f"not an image that can be read: {name} ({error})") from error
        yield result


def _plain(image: Image.Image) -> Image.Image:
    """The image in mode L or RGB, whatever it was in."""
    from PIL import Image

    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its pixels have more than 16 bits")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its pixels are floats; convert it to 8 or 16 bits")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def fit_image(
    array: np.ndarray,
    size: int | tuple[int, int],
    resize: str = "crop",
    resize_side: int | None = None,
) -> np.ndarray:
    """Brings an image to a size, with Pillow's antialiased bilinear filter.

    Args:
        array: Array of uint8, `(height, width, channels)` with 1 or 3 channels.
        size: Side of a square, or `(height, width)`, in pixels.
        resize: `"crop"`: scaled so that it just covers the size, and the centre taken.
            `"stretch"`: scaled without regard to its aspect. `"pad"`: never enlarged; shrunk to
            fit if it is larger, then centred on zeros.
        resize_side: With `"crop"`, the shorter side in pixels to which the image is scaled before
            the centre is taken, as in testing on ImageNet (256, then the centre's 224). Defaults
            to what just covers the size.

    Returns:
        An array of uint8, `(*size, channels)`.

    Raises:
        ValueError: For an unknown `resize`, a size below one pixel, or a `resize_side` below the
            size or without `"crop"`.
    """
    check_resize(resize)
    (height, width), (h, w) = check_size(size), array.shape[:2]
    check_resize_side(resize_side, resize, (height, width))
    if (h, w) == (height, width) and resize_side is None:
        return array
    if resize == "stretch":
        return _scaled(array, height, width, (0, 0, w, h))
    if resize == "crop":
        # The crop is made in the source's pixels, so a very long image needs no more memory.
        scale = max(height / h, width / w) if resize_side is None else resize_side / min(h, w)
        x, y = (w - width / scale) / 2, (h - height / scale) / 2
        box = (max(x, 0.0), max(y, 0.0), min(w - x, w), min(h - y, h))
        return _scaled(array, height, width, box)
    scale = min(height / h, width / w)
    if scale < 1:
        h2, w2 = max(1, round(h * scale)), max(1, round(w * scale))
        array = _scaled(array, h2, w2, (0, 0, w, h))
    h, w = array.shape[:2]
    top, left = (height - h) // 2, (width - w) // 2
    return np.pad(array, ((top, height - h - top), (left, width - w - left), (0, 0)))


def _scaled(
    array: np.ndarray, height: int, width: int, box: tuple[float, float, float, float]
) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box))
    return pixels[..., None] if array.shape[-1] == 1 else pixels


def to_channels(array: np.ndarray, channels: int) -> np.ndarray:
    """Turns RGB to grey or grey to RGB along the last axis, with the values of Pillow's."""
    if array.shape[-1] == channels:
        return array
    if channels == 3:
        return np.repeat(array, 3, axis=-1)
    # Pillow's own fixed-point weights, so that a folder and an array give the same grey.
    luma = array @ np.array([19595, 38470, 7471], np.uint32)
    return ((luma + 32768) >> 16).astype(np.uint8)[..., None]


def check_channels(channels: object) -> None:
    """Refuses another number of channels than 1 or 3."""
    if channels not in (1, 3):
        raise ValueError(f"`channels` must be 1 (grey) or 3 (RGB). Received: {channels=}")


def check_resize(resize: object) -> None:
    """Refuses an unknown way of resizing."""
    if resize not in RESIZE_MODES:
        known = ", ".join(map(repr, RESIZE_MODES))
        raise ValueError(f"`resize` must be one of {known}. Received: {resize=}")


def check_resize_side(resize_side: object, resize: str, size: tuple[int, int]) -> None:
    """Refuses a shorter side that does not cover the size, or is of no use."""
    if resize_side is None:
        return
    if not isinstance(resize_side, (int, np.integer)) or resize_side < max(size):
        raise ValueError(
            "`resize_side` must be an integer, at least the larger side of the image size, "
            f"{max(size)}. Received: {resize_side!r}"
        )
    if resize != "crop":
        raise ValueError(f"`resize_side` is for resize='crop' only. Received: {resize=}")


def check_size(size: object) -> tuple[int, int]:
    """The size as `(height, width)`."""
    pair = size if isinstance(size, (tuple, list)) else (size, size)
    if len(pair) != 2 or not all(isinstance(n, (int, np.integer)) and n >= 1 for n in pair):
        raise ValueError(
            "`image_size` must be a positive integer or a pair (height, width) of them. "
            f"Received: {size!r}"
        )
    return int(pair[0]), int(pair[1])
