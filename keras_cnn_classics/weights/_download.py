"""Downloads of published weights into Keras's cache.

A file has its name only when it is whole and its hash is right. Until then it is `<name>.part`,
which a later call, of this process or of another, goes on with.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import shutil
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from keras_cnn_classics.registry import WeightsFile
from keras_cnn_classics.weights import _faults, _hub
from keras_cnn_classics.weights.errors import (
    ArchiveError,
    DownloadError,
    HashError,
    NotPublishedError,
    OfflineError,
    PageError,
    UnsafeError,
    WeightsError,
)

ATTEMPTS = 5
FIRST_WAIT = 0.5  # seconds; each later wait is twice as long
TIMEOUT = 30.0  # seconds without a byte
UNPACKED = 4 << 30  # bytes; no network here has as many weights
_BLOCK = 1 << 16
_MIRROR = "KCC_WEIGHTS_MIRROR"


class _BrokenOff(Exception):
    """A transfer that is worth another attempt."""


# What an attempt can end in, other than by the cache.
_NETWORK = (
    _BrokenOff,
    ConnectionError,
    TimeoutError,
    ValueError,
    http.client.HTTPException,
    ssl.SSLError,
    urllib.error.URLError,
)


def cache_dir() -> Path:
    """The folder of downloaded weights: `$KERAS_HOME/models`, by default `~/.keras/models`."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"


def cached(file: WeightsFile) -> Path | None:
    """The path of a file in the cache, if it is there and right."""
    return _look(file)[0]


def _look(file: WeightsFile) -> tuple[Path | None, str]:
    """The path of a file in the cache, if it is right, or else what is wrong with what is there."""
    places = [(cache_dir() / file.name, file.digest)]
    in_hub = _hub.find(file) if file.hub else None
    if in_hub:
        places.append((in_hub, _hub.digest(in_hub)))
    wrong = ""
    for path, digest in places:
        if path.is_file():
            problem = _faults.of_file(path, digest)
            if not problem:
                return path, ""
            wrong = wrong or f"{path} is there, but {problem}"
    return None, wrong


def fetch(file: WeightsFile) -> Path:
    """Gives the path of a published file, downloaded unless the cache has it.

    `KCC_OFFLINE=1` and `HF_HUB_OFFLINE=1` forbid downloads. `KCC_WEIGHTS_MIRROR` is a folder, or
    its address, that has the files, unpacked, under the names that they have in the cache.

    Args:
        file: The file and its hash.

    Returns:
        A path in `cache_dir()`, or in the hub's cache.

    Raises:
        WeightsError: One of its kinds, if the file is not cached and cannot be had. Nothing but a
            whole and verified file is ever left under the file's name.
    """
    found, wrong = _look(file)
    if found:
        return found
    target = cache_dir() / file.name
    what = f"{file.name} from the archive {file.url}" if file.archive else f"the file {file.url}"
    by_hand = f"put {what} at {target} by hand" + (f" ({wrong})" if wrong else "")
    for name in ("KCC_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(name, "").strip().lower() not in ("", "0", "false", "no", "off"):
            state = "as they should be in the cache" if wrong else "in the cache"
            raise OfflineError(
                f"The weights are not {state}, and {name} is set: unset it, or {by_hand}."
            )
    mirror = os.environ.get(_MIRROR, "")
    if file.hub and not mirror:
        return _hub.fetch(file, by_hand)
    url = _in_mirror(mirror, file.name) if mirror else file.url
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
        otherwise = f"download {file.url} and give `weights` its path"
        raise _faults.of_cache(error, target.parent, "KERAS_HOME", otherwise) from error
    return target


def _in_mirror(mirror: str, name: str) -> str:
    """The address of a file in a mirror, which is an address or a folder of this machine."""
    if Path(mirror).is_absolute():
        return (Path(mirror) / name).as_uri()
    if "://" not in mirror:
        raise UnsafeError(
            f"{_MIRROR} must be the address of a folder, as https://host/folder or "
            f"file:///some/folder, or a path that begins with /. Received: {mirror}"
        )
    # A folder may have spaces or # in its name; it has nothing that a browser would need.
    return urllib.parse.quote(f"{mirror.rstrip('/')}/{name}", safe="/:@%[]!$&'()*+,;=?~")


def check_url(url: str) -> None:
    """Refuses addresses that anyone on the way could answer for.

    Raises:
        UnsafeError: If the address is neither `https`, nor a file, nor of this very machine.
    """
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError as error:
        raise UnsafeError(f"This is no address ({error}). Received: {url}") from error
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
    if part.is_symlink() or not resume:
        part.unlink(missing_ok=True)
    resumed = part.is_file()
    try:
        _transfer(url, part, by_hand, resume=resume)
        problem = _problem(part, whole, file)
        if problem and resumed:  # what an earlier call left was perhaps of another version
            part.unlink()
            _transfer(url, part, by_hand, resume=resume)
            problem = _problem(part, whole, file)
        if problem:
            part.unlink()
            kind, reason = problem
            raise kind(f"{url} gave {reason}. Nothing was kept: try again, or {by_hand}.")
        os.replace(whole, target)
    finally:
        if archive:
            whole.unlink(missing_ok=True)
        if part.is_file() and (not resume or not part.stat().st_size):
            part.unlink()
    part.unlink(missing_ok=True)


def _problem(part: Path, whole: Path, file: WeightsFile) -> tuple[type[HashError], str] | None:
    """What is wrong with what arrived, if anything; unpacks it if it is an archive."""
    if _faults.is_page(part):
        return PageError, "a page of text in place of the file, as a proxy or a login would"
    if whole != part:
        damage = _unpack(part, file.name, whole)
        if damage:
            return ArchiveError, damage
    problem = _faults.of_file(whole, file.digest, file.name)
    return (HashError, f"something else than the file: {problem}") if problem else None


def _unpack(archive: Path, member: str, target: Path) -> str:
    """Writes one member of an archive; what else it holds, and where to, does not matter."""
    try:
        with zipfile.ZipFile(archive) as opened:
            found = [info for info in opened.infolist() if Path(info.filename).name == member]
            if len(found) != 1:
                return f"an archive without {member}"
            if found[0].file_size > UNPACKED:
                return f"an archive with a {member} of {found[0].file_size / 1e9:,.0f} GB"
            # The module writes no more than this, whatever the archive holds.
            _faults.check_room(target.parent, found[0].file_size)
            target.unlink(missing_ok=True)
            with opened.open(found[0]) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, _BLOCK)
    # The last two are zipfile's, for a compression or an encryption that it does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        return f"a damaged archive ({error})"
    return ""


def _transfer(url: str, part: Path, by_hand: str, *, resume: bool) -> None:
    """Downloads to `part`, in several attempts."""
    wait = FIRST_WAIT
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _attempt(url, part, resume=resume)
        except _NETWORK as error:
            final = _final(error, url, by_hand)
            if final:
                raise final from error
            reason = _reason(error)
            if isinstance(error, urllib.error.HTTPError) and error.code == 416:
                part.unlink(missing_ok=True)  # what is there already is longer than the file
        if attempt < ATTEMPTS:
            time.sleep(wait)
            wait *= 2
    kept = resume and part.is_file() and part.stat().st_size
    raise DownloadError(
        f"{url} could not be downloaded in {ATTEMPTS} attempts; the last one ended in: {reason}. "
        f"{'What arrived is kept, to go on with: t' if kept else 'T'}ry again later, or {by_hand}."
    )


def _final(error: Exception, url: str, by_hand: str) -> WeightsError | None:
    """The error to raise for what another attempt would not change."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        if error.code < 400:
            return DownloadError(
                f"{url} is redirected in a circle, or to nowhere ({_reason(error)}): try again "
                f"later, or {by_hand}."
            )
        if error.code < 500 and error.code not in (408, 416, 429):
            return NotPublishedError(
                f"{url} answers {error.code} {error.reason}: the file is not there any more, or "
                f"not for everybody. Take another set of weights, or {by_hand}."
            )
    elif isinstance(error, urllib.error.URLError):
        if url.startswith("file:"):
            gone = isinstance(error.reason, FileNotFoundError)
            state = "does not exist" if gone else f"cannot be read ({_reason(error)})"
            return NotPublishedError(f"{url} {state}. Take another set of weights, or {by_hand}.")
        if _faults.no_way(error):
            return OfflineError(
                f"The host of {url} cannot be reached ({_reason(error)}): is there a network, and "
                f"does it need a proxy (HTTPS_PROXY)? Try again then, or {by_hand}."
            )
    elif isinstance(error, ValueError):  # an address, also one that a server has sent
        kind = type(error) if isinstance(error, WeightsError) else DownloadError
        return kind(f"{url} leads to where nothing is taken from: {error}. Instead, {by_hand}.")
    return None


def _reason(error: Exception) -> str:
    """An error in one line; a `URLError` says more of itself than of its reason."""
    said = str(error.reason if type(error) is urllib.error.URLError else error)
    return " ".join(said.split()) or type(error).__name__


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
        length = answer.headers.get("Content-Length") or ""
        total = begin + int(length) if length.isdecimal() else None
        _faults.check_room(part.parent, (total or begin) - begin)
        try:
            with part.open("ab" if begin else "wb") as sink, _progress(url, begin, total) as show:
                _copy(answer, sink, show, None if total is None else total - begin)
        except OSError as error:
            if error.errno in _faults.FULL and total:
                free = shutil.disk_usage(part.parent).free
                raise _faults.no_room(total - part.stat().st_size, free) from error
            raise
    arrived = part.stat().st_size
    if total is not None and arrived < total:
        raise _BrokenOff(f"{arrived:,} of {total:,} bytes arrived")


def _copy(answer: Any, sink: Any, show: Any, rest: int | None) -> None:
    """Copies what is left, or all; `read1` gives what is there, so that a slow line is seen."""
    while rest != 0:
        try:
            block = answer.read1(_BLOCK)
        except OSError as error:  # else it would look like one of writing
            raise _BrokenOff(_reason(error)) from error
        if not block:
            return
        sink.write(block)
        show(len(block))
        if rest is not None:
            rest = max(rest - len(block), 0)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to safe addresses only."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except ValueError:  # of an address
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        check_url(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def _progress(url: str, begin: int, total: int | None) -> Iterator[Any]:
    """A bar on a terminal or in a notebook, which goes when it is full."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    shown = console.is_terminal or console.is_jupyter
    with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task(url.rsplit("/", 1)[-1], completed=begin, total=total)
        yield lambda n: bar.advance(task, n)
