"""Data sets of TensorFlow Datasets (TFDS)."""

from __future__ import annotations

import contextlib
import http.client
import io
import logging
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_cnn_classics.data.sources import Arrays, Images, Source, Stream, check_labels

if TYPE_CHECKING:
    import tensorflow as tf

MEMORY_LIMIT = 512 * 2**20  # bytes of uint8 pixels of one split that are kept decoded
_PATIENCE = 10  # seconds; a host that says nothing for so long counts as out of reach
_HOSTS_TRIED = 3
_LOGGER = logging.getLogger("keras_cnn_classics")


def names() -> list[str]:
    """The names TFDS knows by itself; those of communities would need the network."""
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)


def load_tfds(name: str, data_dir: str | os.PathLike[str] | None, download: bool) -> Source:
    """Opens a TFDS image classification set, downloading it if it must and may.

    Args:
        name: TFDS name, perhaps with configuration and version, such as `"mnist:3.0.1"`.
        data_dir: Folder of prepared sets, or `None` for TFDS's own choice.
        download: Whether to download a set that is not there. The environment variable
            `KCC_OFFLINE=1` forbids it too.

    Raises:
        ValueError: If TFDS has no such version, or the set is not for image classification.
        ConnectionError: If the set is not there and cannot be downloaded.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=None if data_dir is None else os.fspath(data_dir))
    # TFDS raises ValueError for an unknown configuration, AssertionError for a version.
    except (ValueError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"TFDS cannot open {name!r}: {first} Check its name.") from error
    features = builder.info.features
    _check_features(name, features)
    if not builder.is_prepared():
        _prepare(name, builder, download)
    splits = {split: info.num_examples for split, info in builder.info.splits.items()}
    if "train" not in splits:
        raise ValueError(
            f"Expected a split 'train' in {name!r}. Received {', '.join(splits)}. Take another set."
        )
    parts = {
        split: _images(builder, split, count, features["image"].shape)
        for split, count in splits.items()
        if split in ("train", "validation", "test")
    }
    return Source(
        name=name,
        class_names=tuple(features["label"].names),
        shape=features["image"].shape,
        train=parts["train"],
        validation=parts.get("validation"),
        test=parts.get("test"),
    )


def _check_features(name: str, features: Any) -> None:
    import tensorflow_datasets as tfds

    found = dict(features) if isinstance(features, tfds.features.FeaturesDict) else {}
    image, label = found.get("image"), found.get("label")
    if (
        not isinstance(image, tfds.features.Image)
        or not isinstance(label, tfds.features.ClassLabel)
        or np.dtype(image.np_dtype) != np.uint8
    ):
        raise ValueError(
            f"Expected an image classification set with the features 'image' (8 bits) and 'label'. "
            f"Received {name!r} with {', '.join(map(repr, found)) or features}. Take another set."
        )


def _images(builder: Any, split: str, count: int, shape: tuple[int | None, ...]) -> Images:
    """The images of a split: in memory when they are of one size and few enough."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    classes = builder.info.features["label"].num_classes
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    known = [size for size in shape if size is not None]
    if len(known) < 3 or shape[-1] not in (1, 3) or count * np.prod(known) > MEMORY_LIMIT:
        decoders = {"image": tfds.decode.SkipDecoding()}

        def opened() -> tf.data.Dataset:
            encoded = builder.as_dataset(split=split, decoders=decoders, read_config=config)
            return encoded.map(labelled)

        def labelled(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            label = example["label"]
            known = tf.debugging.Assert(
                (label >= 0) & (label < classes), ["A label is outside the classes:", label]
            )
            with tf.control_dependencies([known]):
                return example["image"], tf.identity(label)

        return Stream(opened, count)
    pixels, labels = np.empty((count, *known), np.uint8), np.empty(count, np.int32)
    dataset = builder.as_dataset(split=split, read_config=config, batch_size=1024)
    done = 0
    for batch in dataset.prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
        end = done + len(batch["label"])
        pixels[done:end], labels[done:end] = batch["image"], batch["label"]
        done = end
    return Arrays(pixels, check_labels(labels, builder.info.features["label"].names, split))


def _prepare(name: str, builder: Any, download: bool) -> None:
    """Downloads a set. Whatever goes wrong, nothing half-written stays behind."""
    import tensorflow_datasets as tfds

    folder = builder.data_path
    advice = (
        f"{name!r} is not prepared in {str(folder)!r}. Pass the folder that has it as `data_dir`, "
        "or load it once with a network connection"
    )
    if os.environ.get("KCC_OFFLINE", "0") not in ("", "0"):
        raise ConnectionError(f"{advice} (KCC_OFFLINE forbids it now).")
    if not download:
        raise ConnectionError(f"{advice} and `download=True`.")
    # TFDS tries an unreachable host eleven times, for minutes; this finds it out at once. Recorded
    # hosts may include abandoned mirrors, so one that answers is enough.
    hosts = _hosts(builder)[:_HOSTS_TRIED]
    if hosts and not any(map(_reachable, hosts)):
        raise ConnectionError(f"{advice} ({', '.join(hosts)} cannot be reached now).")
    _LOGGER.info("Downloading %r to %s", name, folder)
    tfds.disable_progress_bar()
    root = Path(builder.data_dir_root)
    with _cleaned(root, root / builder.name):
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare()
        except Exception as error:
            raise ConnectionError(
                f"{advice} (downloading it failed now: {type(error).__name__}: {error})."
            ) from error


def _hosts(builder: Any) -> list[str]:
    """The web hosts a set is downloaded from, as far as TFDS has recorded them."""
    parsed = [urllib.parse.urlparse(url) for url in builder.url_infos or ()]
    web = [url for url in parsed if url.scheme in ("http", "https")]
    return sorted({f"{url.scheme}://{url.netloc}" for url in web})


def _reachable(host: str) -> bool:
    """Whether a host answers at all. An error page is an answer."""
    request = urllib.request.Request(host, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, http.client.HTTPException):
        return False


@contextlib.contextmanager
def _cleaned(root: Path, own: Path) -> Iterator[None]:
    """Removes on failure what has appeared below `root` for the set, and nothing else."""

    def entries() -> set[Path]:
        downloads = root / "downloads"
        found = {path for path in (root, downloads, own) if path.exists()}
        return found.union(downloads.glob("*"), own.glob("*"), own.glob("*/*"))

    before = entries()
    try:
        yield
    except BaseException:
        for path in sorted(entries() - before):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        raise
