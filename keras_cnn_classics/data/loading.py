"""`load`: one call from a name or a folder to the three splits."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_cnn_classics.data import images, sources, splits
from keras_cnn_classics.data.position import Position

if TYPE_CHECKING:
    import tensorflow as tf

_FOLDER_SIZE = 224  # pixels, for images of no size of their own


@dataclass(frozen=True)
class ImageData:
    """The splits of a data set, as batches of (images, labels).

    Attributes:
        name: The source's name; of a folder, its last part.
        train: Batches of float32 images and labels, shuffled and augmented anew each epoch. Each
            iterator is one epoch; `position` says which.
        validation: The same for the validation split, in a fixed order, or `None`.
        test: The same for the test split, or `None`.
        class_names: Name of each label.
        image_shape: Shape of one image as the model sees it.
        sizes: Images in `"train"`, `"validation"` and `"test"`.
        skipped: Paths of the bad files that were left out.
        position: Where the next iterator of the training images starts, so that a run that was
            killed can go on exactly.
        steps: Full batches in an epoch of training, for `fit(steps_per_epoch=...)`. The last
            batch of `train` is smaller where there is an image more; `train.take(steps)` is an
            epoch without it.
    """

    name: str
    train: tf.data.Dataset
    validation: tf.data.Dataset | None
    test: tf.data.Dataset | None
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    sizes: dict[str, int]
    skipped: tuple[str, ...]
    position: Position
    steps: int
    _endless: Callable[[int, int], tf.data.Dataset] = field(repr=False)
    _plain: Callable[[], tf.data.Dataset] = field(repr=False)

    def endless(self, worker: int = 0, workers: int = 1) -> tf.data.Dataset:
        """The training batches of epoch after epoch, in one iterator without end.

        For `fit(data.endless(), steps_per_epoch=data.steps)` under `tf.distribute`, where a new
        iterator for every epoch is dear and batches must be of one size. Its epochs are those of
        `train`, without a partial last batch. An iterator starts at `position`, which it leaves
        alone.

        With several workers that each open the data themselves
        (`strategy.distribute_datasets_from_function`), each decodes its own share of every batch:
        side by side, the shares are the batch. Only operations that mix a batch mix within them.

        Args:
            worker: Which worker this is, from 0.
            workers: How many there are; a divisor of the batch size.

        Returns:
            Batches of `batch_size / workers` images.

        Raises:
            ValueError: If there are fewer images than one batch, or the batch cannot be shared.
        """
        return self._endless(worker, workers)

    def plain(self) -> tf.data.Dataset:
        """The training images once, in their order, neither augmented nor preprocessed.

        For what is measured on a data set. `position` has no part in it.

        Returns:
            Batches of float32 images, pixels from 0 to 255, and labels.
        """
        return self._plain()


def load(
    source: str | os.PathLike[str],
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    batch_size: int = 32,
    validation: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    resize: str = "crop",
    resize_side: int | None = None,
    augment: Sequence[Callable[..., Any]] = (),
    one_hot: bool = False,
    preprocess: str | Callable[[Any], Any] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    on_bad_image: str = "skip",
    class_names: Sequence[str] | None = None,
    only: Sequence[str | int] | None = None,
) -> ImageData:
    """Loads labelled images, split and batched.

    The source's own test split is used if it has one; a validation split alone serves as test
    split. What is missing is held out of the training images: from folders and digits the same
    fraction of each class, from TFDS sets a fraction of the whole. The splits are disjoint, and
    the same for the same `seed`.

    Sets of one image size that are small enough are kept decoded in memory. The order of the
    training images in an epoch, and all that is random in them, depends on `seed` and the number
    of the epoch only: not on what else draws random numbers, nor on the threads at work. Sets
    that are read as a stream are shuffled 4,096 at a time.

    Args:
        source: `"digits"` (scikit-learn's, which need no download and always have the same 599
            test images), a name TFDS knows, or a folder with one folder of images per class, or
            with `train/`, `validation/` and `test/` of that form. What could be both is a name,
            unless it is an `os.PathLike` or has a path separator.
        image_size: Side in pixels, or `(height, width)`. Defaults to the source's own, and to
            224 if its images differ.
        channels: 1 for grey (ITU-R 601 luma) or 3 for RGB. Defaults to the source's own, and to
            3 for folders.
        batch_size: Images per batch. The last batch may be smaller.
        validation: Fraction of the training images held out for validation; 0 for none.
        test: Fraction of all images held out as test split; 0 for none.
        seed: Decides the held-out images and the order and augmentation of training, 0 or more.
        resize: `"crop"`, `"stretch"` or `"pad"`; see `fit_image`.
        resize_side: With `"crop"`, the shorter side in pixels that images are scaled to before
            the centre is taken, such as 256 for an image size of 224. Defaults to what just
            covers the size; see `fit_image`.
        augment: Operations of `data.augmentation` for the training images, in their order. One
            that chooses a window of the image (`RandomResizedCrop`, `RandomCrop`, `ScaleJitter`)
            must come first, and gets the image as it is in the file. Without such, images are
            fitted first, as those of the other splits are. Those that mix a batch come last, and
            make the labels of all splits one-hot.
        one_hot: Whether labels are one-hot float32, `(batch, classes)`, instead of int32.
        preprocess: `None` for pixels from 0 to 255, a mode of
            `keras_cnn_classics.preprocessing.preprocess_input`, or a function of a batch with
            channels last.
        data_dir: Folder of TFDS's prepared sets. Defaults to TFDS's own choice.
        download: Whether a TFDS set that is not there is downloaded. The environment variable
            `KCC_OFFLINE=1` forbids it too.
        on_bad_image: For files of a folder that cannot be read: `"skip"` leaves them out with
            one warning, `"error"` raises.
        class_names: The classes the source must have, in the order of their labels. This is how
            data is matched to a trained model.
        only: Classes to keep, by name or by number; the images of others are left out. Labels are
            numbered anew, in this order. A set that is read as a stream is read once for it.

    Returns:
        The splits and what is known of them.

    Raises:
        ValueError: For wrong arguments, or data that is not as described.
        FileNotFoundError: If the folder is missing.
        ConnectionError: If a TFDS set is not there and cannot be downloaded.
    """
    images.check_resize(resize)
    augment = tuple(augment)
    _check_augment(augment)
    if image_size is not None:
        image_size = images.check_size(image_size)
    if channels is not None:
        images.check_channels(channels)
    for name, fraction in (("validation", validation), ("test", test)):
        if not isinstance(fraction, (int, float)) or not 0 <= fraction < 1:
            raise ValueError(f"`{name}` must be at least 0 and below 1. Received: {fraction!r}")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"`batch_size` must be an integer, at least 1. Received: {batch_size!r}")
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"`seed` must be an integer from 0 to 2**32 - 1. Received: {seed!r}")
    if on_bad_image not in ("skip", "error"):
        raise ValueError(f"`on_bad_image` must be 'skip' or 'error'. Received: {on_bad_image!r}")

    if not isinstance(source, (str, os.PathLike)) or source == "":
        raise ValueError(
            f"`source` must be 'digits', a TFDS name or an existing folder. Received: {source!r}"
        )

    found, stratify = _open(source, data_dir, download, on_bad_image)
    found = sources.with_classes(sources.narrowed(found, only), class_names)
    found = splits.split(found, validation=validation, test=test, seed=seed, stratify=stratify)

    from keras_cnn_classics.data.pipeline import Batching

    height, width, own_channels = found.shape
    _check_preprocess(preprocess, channels or (1 if own_channels == 1 else 3))
    size = image_size or (height or _FOLDER_SIZE, width or _FOLDER_SIZE)
    images.check_resize_side(resize_side, resize, size)
    if one_hot or any(getattr(op, "mixes", False) for op in augment):
        classes = len(found.class_names)
    else:
        classes = None
    batching = Batching(
        size=size,
        channels=channels or (1 if own_channels == 1 else 3),
        resize=resize,
        batch_size=batch_size,
        preprocess=preprocess,
        resize_side=resize_side,
        augment=augment,
        classes=classes,
    )
    position = Position(-(-len(found.train) // batch_size))
    stream = batching.training(found.train, seed, position)
    try:
        train = stream()
    except ValueError as error:
        # TensorFlow puts the places in the code before what an operation says, when it is traced.
        says = str(error).rpartition("ValueError: ")[2].strip()
        raise ValueError(says) from error

    def endless(worker: int, workers: int) -> tf.data.Dataset:
        if len(found.train) < batch_size:
            raise ValueError(
                f"`batch_size` must be at most the {len(found.train)} training images, for there "
                f"is no end to wait for a full batch. Received: {batch_size}"
            )
        if not 0 <= worker < workers or batch_size % workers:
            raise ValueError(
                f"`workers` must be a divisor of the batch size {batch_size}, and `worker` from 0 "
                f"to below it. Received: {worker=}, {workers=}"
            )
        return stream(True, worker, workers)

    return ImageData(
        name=found.name,
        train=train,
        validation=found.validation and batching.dataset(found.validation),
        test=found.test and batching.dataset(found.test),
        class_names=found.class_names,
        image_shape=tuple(train.element_spec[0].shape[1:]),
        sizes={
            "train": len(found.train),
            "validation": len(found.validation or ()),
            "test": len(found.test or ()),
        },
        skipped=found.skipped,
        position=position,
        steps=len(found.train) // batch_size,
        _endless=endless,
        _plain=lambda: replace(batching, preprocess=None).dataset(found.train),
    )


def _check_augment(ops: tuple[Any, ...]) -> None:
    mixing = [bool(getattr(op, "mixes", False)) for op in ops]
    windows = [hasattr(op, "window") for op in ops]
    if not all(map(callable, ops)):
        fault = "operations of `data.augmentation`"
    elif mixing != sorted(mixing):
        fault = "operations for single images first, those that mix a batch after them"
    elif any(windows) and not windows[0]:
        fault = "the operation that chooses a window of the image first"
    else:
        return
    raise ValueError(f"`augment` must have {fault}. Received: {list(ops)!r}")


def _check_preprocess(preprocess: Any, channels: int) -> None:
    if isinstance(preprocess, str):
        from keras_cnn_classics.preprocessing import check_mode

        check_mode(preprocess, channels)
    elif preprocess is not None and not callable(preprocess):
        raise ValueError(
            "`preprocess` must be None, a mode of `preprocess_input` or a function. "
            f"Received: {preprocess!r}"
        )


def _open(
    source: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None,
    download: bool,
    on_bad_image: str,
) -> tuple[sources.Source, bool]:
    """The source, and whether its classes are split one by one."""
    from keras_cnn_classics.data import digits, folders, tfds_builders

    path = Path(source)
    separated = isinstance(source, os.PathLike) or os.sep in source or "/" in source
    if isinstance(source, os.PathLike) or (separated and path.is_dir()):
        return folders.load_folder(path, on_bad_image), True
    if source == "digits":
        return digits.load_digits(), True
    known = tfds_builders.names()
    # A TFDS name may have a configuration behind a slash and a version behind a colon.
    if source.split("/")[0].split(":")[0] in known:
        return tfds_builders.load_tfds(source, data_dir, download), False
    if separated or path.is_dir():
        return folders.load_folder(path, on_bad_image), True
    near = difflib.get_close_matches(source, ["digits", *known])
    meant = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise ValueError(
        f"`source` must be 'digits', a TFDS name or an existing folder. Received: {source!r}, "
        f"which is none of them. {meant}Check the name, or give a folder that exists."
    )
