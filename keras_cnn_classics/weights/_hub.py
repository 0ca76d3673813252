"""Downloads from the Hugging Face hub, by its own library and into its own cache."""

from __future__ import annotations

import re
from pathlib import Path

from keras_cnn_classics.registry import WeightsFile
from keras_cnn_classics.weights import _files
from keras_cnn_classics.weights.errors import (
    CacheError,
    DownloadError,
    HashError,
    NotPublishedError,
    OfflineError,
)


def find(file: WeightsFile) -> Path | None:
    """The path of a file in the hub's cache, if it is there, whatever it holds."""
    from huggingface_hub import try_to_load_from_cache

    assert file.hub
    repository, revision, name = file.hub
    found = try_to_load_from_cache(repository, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def cached(file: WeightsFile) -> Path | None:
    """The path of a file in the hub's cache, if it is there and its hash is right."""
    found = find(file)
    return found if found and _files.has_digest(found, digest(found)) else None


def fetch(file: WeightsFile, by_hand: str) -> Path:
    """Gives the path of a file of the hub, downloaded unless the hub's cache has it.

    Raises:
        WeightsError: One of its kinds, if the file cannot be had.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    assert file.hub
    repository, revision, name = file.hub
    try:
        path = Path(hf_hub_download(repository, name, revision=revision))
    except LocalEntryNotFoundError as error:
        raise OfflineError(
            f"The Hugging Face hub cannot be reached: is there a network, and does it need a proxy "
            f"(HTTPS_PROXY)? Try again then, or {by_hand}."
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status >= 500 or status == 429:
            raise DownloadError(
                f"{file.url} could not be downloaded ({status}): try again later, or {by_hand}."
            ) from error
        raise NotPublishedError(
            f"{file.url} answers {status}: the file is not there any more, or not for everybody. "
            f"Take another set of weights, or {by_hand}."
        ) from error
    except OSError as error:
        raise CacheError(
            f"The hub's cache cannot be written ({error.strerror or error}): make room, set "
            f"HF_HOME to another folder, or {by_hand}."
        ) from error
    except Exception as error:  # of the HTTP library below, which changes with the hub's versions
        raise DownloadError(
            f"{file.url} could not be downloaded ({error}): try again later, or {by_hand}."
        ) from error
    if not _files.has_digest(path, digest(path)):
        remove(path)
        raise HashError(
            f"{file.url} gave a file whose SHA-256 is not the one that the hub tells. Nothing was "
            f"kept: try again, or {by_hand}."
        )
    return path


def digest(path: Path) -> str:
    """The hash that the hub's cache calls a file by, as `WeightsFile` states it, or nothing."""
    name = path.resolve().name
    # A cache without links has names that tell nothing.
    return f"sha256:{name}" if re.fullmatch(r"[0-9a-f]{64}", name) else ""


def remove(path: Path) -> None:
    """Removes a file from the hub's cache: the link, and what it leads to."""
    path.resolve().unlink()
    path.unlink(missing_ok=True)
