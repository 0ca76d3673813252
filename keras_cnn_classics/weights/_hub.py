"""Downloads from the Hugging Face hub, by its own library and into its own cache."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_cnn_classics.registry import WeightsFile
from keras_cnn_classics.weights import _faults
from keras_cnn_classics.weights.errors import (
    DownloadError,
    HashError,
    NotPublishedError,
    OfflineError,
    PageError,
    WeightsError,
)

_BUSY = (408, 429)


def find(file: WeightsFile) -> Path | None:
    """The path of a file in the hub's cache, if it is there, whatever it holds."""
    from huggingface_hub import try_to_load_from_cache

    assert file.hub
    repository, revision, name = file.hub
    found = try_to_load_from_cache(repository, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def fetch(file: WeightsFile, by_hand: str) -> Path:
    """Gives the path of a file of the hub, downloaded anew if what the hub's cache has is bad.

    Raises:
        WeightsError: One of its kinds, if the file cannot be had.
    """
    from huggingface_hub import constants, hf_hub_download

    assert file.hub
    repository, revision, name = file.hub
    cache = Path(constants.HF_HUB_CACHE)
    bad = find(file) is not None
    try:
        with _quiet():
            _ask(file, cache, by_hand)
            path = hf_hub_download(repository, name, revision=revision, force_download=bad)
    except WeightsError:
        raise
    except OSError as error:
        if error.errno in (*_faults.FULL, *_faults.READ_ONLY):
            raise _faults.of_cache(error, cache, "HF_HOME", by_hand) from error
        raise _explained(error, file, by_hand) from error
    except Exception as error:  # of the HTTP library below, which changes with the hub's versions
        raise _explained(error, file, by_hand) from error
    problem = _faults.of_file(Path(path), digest(Path(path)))
    if problem:
        remove(Path(path))
        raise HashError(
            f"{file.url} gave something else than what the hub tells: {problem}. Nothing was kept: "
            f"try again, or {by_hand}."
        )
    return Path(path)


def _ask(file: WeightsFile, cache: Path, by_hand: str) -> None:
    """Finds out in one attempt whether the hub can be reached, and there is room for the file.

    Its own download makes many attempts, over half a minute, before it says so.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    assert file.hub
    repository, revision, name = file.hub
    try:
        answer = get_hf_file_metadata(hf_hub_url(repository, name, revision=revision))
    except HfHubHTTPError as error:
        if error.response.status_code >= 500 or error.response.status_code in _BUSY:
            return  # that passes, and the download knows how long to wait
        raise
    if answer.commit_hash is None:
        raise PageError(
            f"{file.url} gave something that is not of the hub, as a proxy or a login would. Try "
            f"again without it, or {by_hand}."
        )
    _faults.check_room(cache, answer.size or 0)


def _explained(error: Exception, file: WeightsFile, by_hand: str) -> WeightsError:
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    # Without the hub its library looks for the file in its cache, and complains about that.
    cause = error.__cause__ if isinstance(error, (LocalEntryNotFoundError, ValueError)) else error
    if _faults.no_way(error) or isinstance(cause, OfflineModeIsEnabled):
        return OfflineError(
            f"The Hugging Face hub cannot be reached: is there a network, and does it need a proxy "
            f"(HTTPS_PROXY)? Try again then, or {by_hand}."
        )
    reason = " ".join(str(cause or error).split()) or type(error).__name__
    if isinstance(cause, HfHubHTTPError):
        status = cause.response.status_code
        if status < 500 and status not in _BUSY:
            return NotPublishedError(
                f"{file.url} answers {status}: the file is not there any more, or not for "
                f"everybody. Take another set of weights, or {by_hand}."
            )
        reason = f"it answers {status}"
    return DownloadError(
        f"{file.url} could not be downloaded ({reason}): try again later, or {by_hand}."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what the hub's library logs of every attempt to itself: the error says it."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def digest(path: Path) -> str:
    """The hash that the hub's cache calls a file by, as `WeightsFile` states it, or nothing."""
    name = path.resolve().name
    # A cache without links has names that tell nothing.
    return f"sha256:{name}" if re.fullmatch(r"[0-9a-f]{64}", name) else ""


def remove(path: Path) -> None:
    """Removes a file from the hub's cache: the link, and what it leads to."""
    path.resolve().unlink()
    path.unlink(missing_ok=True)
