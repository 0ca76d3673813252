"""Downloads of published weights into Keras's cache.

A file has its name only when it is whole and its hash is right. Until then it is `<name>.part`,
which a later call, of this process or of another, goes on with.
"""

from __future__ import annotations

import errno
import http.client
import ipaddress
import os
import shutil
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import h5py
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from keras_cnn_classics.registry import WeightsFile
from keras_cnn_classics.weights import _files, _hub
from keras_cnn_classics.weights.errors import (
    CacheError,
    DownloadError,
    HashError,
    NotPublishedError,
    OfflineError,
    UnsafeError,
    WeightsError,
)

ATTEMPTS = 5
FIRST_WAIT = 0.5  # seconds; each later wait is twice as long
TIMEOUT = 30.0  # seconds without a byte
_BLOCK = 1 << 20
_PAGE = (b"<!doctype", b"<html", b"<?xml")


class _BrokenOff(Exception):
    """A transfer that is worth another attempt."""


def cache_dir() -> Path:
    """The folder of downloaded weights: `$KERAS_HOME/models`, by default `~/.keras/models`."""
    return Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"


def cached(file: WeightsFile) -> Path | None:
    """The path of a file in the cache, if it is there and its hash is right."""
    target = cache_dir() / file.name
    if target.is_file() and _files.has_digest(target, file.digest):
        return target
    return _hub.cached(file) if file.hub else None


def fetch(file: WeightsFile) -> Path:
    """Gives the path of a published file, downloaded unless the cache has it.

    `KCC_OFFLINE=1` and `HF_HUB_OFFLINE=1` forbid downloads. `KCC_WEIGHTS_MIRROR` is the address of
    a folder that has the files, unpacked, under the names that they have in the cache.

    Args:
        file: The file and its hash.

    Returns:
        A path in `cache_dir()`.

    Raises:
        WeightsError: One of its kinds, if the file is not cached and cannot be had. Nothing but a
            whole and verified file is ever left under the file's name.
    """
    found = cached(file)
    if found:
        return found
    target = cache_dir() / file.name
    mirror = os.environ.get("KCC_WEIGHTS_MIRROR")
    url = f"{mirror.rstrip('/')}/{file.name}" if mirror else file.url
    what = f"{file.name} from the archive {file.url}" if file.archive else f"the file {file.url}"
    by_hand = f"put {what} at {target} by hand"
    for name in ("KCC_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(name, "0") not in ("", "0"):
            raise OfflineError(
                f"The weights are not in the cache, and {name} is set: unset it, or {by_hand}."
            )
    if file.hub and not mirror:
        return _hub.fetch(file, by_hand)
    check_url(url)
    try:
        locks = target.parent / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(locks / f"{target.name}.lock"):
            # Another process may have brought it while this one waited.
            if not cached(file):
                _bring(file, url, target, by_hand)
    except WeightsError:
        raise
    except OSError as error:
        why = "is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "cannot be written"
        raise CacheError(
            f"The cache {target.parent} {why} ({error.strerror or error}): make room, set "
            f"KERAS_HOME to another folder, or download {file.url} and give `weights` its path."
        ) from error
    return target


def check_url(url: str) -> None:
    """Refuses addresses that anyone on the way could answer for.

    Raises:
        UnsafeError: If the address is neither `https`, nor a file, nor of this very machine.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme in ("https", "file") or (parts.scheme == "http" and _is_loopback(parts)):
        return
    raise UnsafeError(
        f"Weights are downloaded from https:// and file:// addresses only. Received: {url}"
    )


def _is_loopback(parts: urllib.parse.SplitResult) -> bool:
    host = parts.hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bring(file: WeightsFile, url: str, target: Path, by_hand: str) -> None:
    """Downloads, unpacks, verifies and renames."""
    archive = file.archive and url == file.url
    part = target.with_name(f"{target.name}{'.zip' if archive else ''}.part")
    whole = target.with_name(f"{target.name}.whole") if archive else part
    resume = bool(file.digest)  # without it nothing could tell whether two pieces belong together
    resumed = resume and part.is_file()
    try:
        _transfer(url, part, by_hand, resume=resume)
        problem = _problem(part, whole, file)
        if problem and resumed:  # what an earlier call left was perhaps of another version
            part.unlink()
            _transfer(url, part, by_hand, resume=resume)
            problem = _problem(part, whole, file)
        if problem:
            part.unlink()
            raise HashError(f"{url} {problem}. Nothing was kept: try again, or {by_hand}.")
        os.replace(whole, target)
    finally:
        if archive:
            whole.unlink(missing_ok=True)
    part.unlink(missing_ok=True)


def _problem(part: Path, whole: Path, file: WeightsFile) -> str:
    """What is wrong with what arrived, or nothing; unpacks it if it is an archive."""
    with part.open("rb") as stream:
        start = stream.read(64).lstrip().lower()
    if start.startswith(_PAGE):
        return "gave a page of text in place of the file, as a proxy or a login would"
    if whole != part:
        reason = _unpack(part, file.name, whole)
        if reason:
            return reason
    if not _files.has_digest(whole, file.digest):
        algorithm, _, expected = file.digest.partition(":")
        return (
            f"gave a file whose {algorithm} is {_files.digest_of(whole, algorithm)}, not {expected}"
        )
    if not file.digest and file.name.endswith(".h5") and not h5py.is_hdf5(whole):
        return "gave something that is no HDF5 file"
    return ""


def _unpack(archive: Path, member: str, target: Path) -> str:
    """Writes one member of an archive; what else it holds, and where to, does not matter."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [name for name in opened.namelist() if Path(name).name == member]
            if len(names) != 1:
                return f"gave an archive without {member}"
            with opened.open(names[0]) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, _BLOCK)
    # The last two are zipfile's, for a compression or an encryption that it does not know.
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        return f"gave a damaged archive ({error})"
    return ""


def _transfer(url: str, part: Path, by_hand: str, *, resume: bool) -> None:
    """Downloads to `part`, in several attempts."""
    wait = FIRST_WAIT
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _attempt(url, part, resume=resume)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500 and error.code not in (408, 416, 429):
                raise NotPublishedError(
                    f"{url} answers {error.code} {error.reason}: the file is not there any more, "
                    f"or not for everybody. Take another set of weights, or {by_hand}."
                ) from error
            reason = f"{error.code} {error.reason}"
            if error.code == 416:  # what is there already is longer than the file
                part.unlink(missing_ok=True)
        except urllib.error.URLError as error:
            if isinstance(error.reason, FileNotFoundError):
                raise NotPublishedError(
                    f"{url} does not exist. Take another set of weights, or {by_hand}."
                ) from error
            if isinstance(error.reason, socket.gaierror):
                raise OfflineError(
                    f"The host of {url} is unknown ({error.reason.strerror}): is there a network, "
                    f"and does it need a proxy (HTTPS_PROXY)? Try again then, or {by_hand}."
                ) from error
            reason = str(error.reason)
        except (_BrokenOff, TimeoutError, ConnectionError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
        if attempt < ATTEMPTS:
            time.sleep(wait)
            wait *= 2
    raise DownloadError(
        f"{url} could not be downloaded in {ATTEMPTS} attempts; the last one ended in: {reason}. "
        f"What arrived is kept, to go on with: try again later, or {by_hand}."
    )


def _attempt(url: str, part: Path, *, resume: bool) -> None:
    """One attempt: goes on where the last one broke off, if the server can do that."""
    begin = part.stat().st_size if resume and part.is_file() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "keras-cnn-classics"})
    if begin:
        request.add_header("Range", f"bytes={begin}-")
    opener = urllib.request.build_opener(_Redirects)
    with opener.open(request, timeout=TIMEOUT) as answer:
        if answer.status != 206:
            begin = 0
        length = answer.headers.get("Content-Length")
        total = begin + int(length) if length else None
        _check_room(part, (total or 0) - begin)
        with part.open("ab" if begin else "wb") as sink, _progress(url, begin, total) as advance:
            while block := answer.read(_BLOCK):
                sink.write(block)
                advance(len(block))
    arrived = part.stat().st_size
    if total is not None and arrived < total:
        raise _BrokenOff(f"{arrived:,} of {total:,} bytes arrived")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to safe addresses only."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        check_url(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_room(part: Path, needed: int) -> None:
    if needed > shutil.disk_usage(part.parent).free:
        raise OSError(errno.ENOSPC, f"{needed / 1e6:,.0f} MB are needed")


@contextmanager
def _progress(url: str, begin: int, total: int | None) -> Iterator[Any]:
    """A bar on a terminal or in a notebook, which goes when it is full."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    shown = console.is_terminal or console.is_jupyter
    with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task(url.rsplit("/", 1)[-1], completed=begin, total=total)
        yield lambda n: bar.advance(task, n)
