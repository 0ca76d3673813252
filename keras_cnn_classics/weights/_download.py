"""Downloads of published weights into Keras's cache."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import keras

from keras_cnn_classics.registry import WeightsFile


def fetch(file: WeightsFile) -> Path:
    """Gives the path of a published file, downloaded unless the cache has it.

    Args:
        file: The file and its hash.

    Returns:
        A path in `$KERAS_HOME/models`, by default `~/.keras/models`.

    Raises:
        OSError: If the file is not cached and cannot be downloaded, or arrives damaged.
    """
    folder = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"
    target = folder / file.url.rsplit("/", 1)[-1]
    algorithm, digest = file.digest.split(":")
    if target.is_file() and _hash(target, algorithm) == digest:
        return target
    by_hand = f"put the file from {file.url} at {target} by hand."
    if os.environ.get("KCC_OFFLINE", "0") not in ("", "0"):
        raise OSError(
            f"The weights are not in the cache, and KCC_OFFLINE is set: unset it, or {by_hand}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    # Keras writes to the final name from the start, so it gets a folder that goes when it fails.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
        try:
            arrived = keras.utils.get_file(
                target.name,
                file.url,
                file_hash=digest,
                hash_algorithm=algorithm,
                cache_dir=scratch,
                cache_subdir="",
            )
        except Exception as error:  # get_file raises bare Exceptions
            reason = " ".join(str(error).split()).rstrip(".")
            raise OSError(
                f"The weights could not be downloaded ({reason}): try again, or {by_hand}"
            ) from error
        os.replace(arrived, target)
    return target


def _hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()
