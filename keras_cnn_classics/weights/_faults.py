"""What is wrong with a file, a network or a disk."""

from __future__ import annotations

import errno
import shutil
import socket
from pathlib import Path

import h5py
from safetensors import safe_open

from keras_cnn_classics.weights import _files
from keras_cnn_classics.weights.errors import CacheError, CacheFullError, CacheReadOnlyError

FULL = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ECONNREFUSED)
_PAGE = (b"<!doctype", b"<!--", b"<html", b"<?xml", b"<head", b"<body")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def is_page(path: Path) -> bool:
    """Whether a file is one of HTML, as a proxy or a login gives in place of others."""
    with path.open("rb") as stream:
        start = stream.read(64)
    return start.removeprefix(_BYTE_ORDER_MARK).lstrip().lower().startswith(_PAGE)


def of_file(path: Path, digest: str, name: str = "") -> str:
    """What is wrong with a file, or nothing; one without a hash must at least be whole.

    Args:
        path: The file.
        digest: Its hash, as `WeightsFile` states it.
        name: The name that it will have, which tells its format.
    """
    algorithm, _, expected = digest.partition(":")
    try:
        if expected:
            found = _files.digest_of(path, algorithm)[: len(expected)]
            return "" if found == expected else f"its {algorithm} is {found}, not {expected}"
        if not path.stat().st_size:
            return "it is empty"
        name = name or path.name
        if name.endswith(".h5"):
            with h5py.File(path):
                pass
        elif name.endswith(".safetensors"):
            with safe_open(path, "numpy"):
                pass
    except Exception as error:  # both libraries have errors of their own
        return f"it cannot be opened ({' '.join(str(error).split()) or type(error).__name__})"
    return ""


def no_way(error: BaseException) -> bool:
    """Whether an error, or what it came from, says that a host cannot be reached."""
    cause: BaseException | None = error
    while cause:
        # An HTTP library puts the system's error beneath its own, in one place or the other.
        if isinstance(cause, socket.gaierror) or getattr(cause, "errno", None) in _NO_WAY:
            return True
        reason = getattr(cause, "reason", None)
        cause = reason if isinstance(reason, OSError) else cause.__cause__ or cause.__context__
    return False


def check_room(folder: Path, needed: int) -> None:
    """Raises an error if so many bytes do not fit."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise no_room(needed, free)


def no_room(needed: int, free: int) -> OSError:
    """The error of a disk that is full."""
    return OSError(
        errno.ENOSPC, f"{needed / 1e6:,.1f} MB are needed, {free / 1e6:,.1f} MB are free"
    )


def of_cache(error: OSError, folder: Path, variable: str, otherwise: str) -> CacheError:
    """The error to raise where a cache could not be written.

    Args:
        error: What the system says.
        folder: The cache.
        variable: Name of the variable that moves it.
        otherwise: What else to do.
    """
    reason = error.strerror or str(error)
    move = f"set {variable} to another folder, or {otherwise}."
    if error.errno in FULL:
        return CacheFullError(f"The cache {folder} is full ({reason}): make room, {move}")
    if error.errno in READ_ONLY:
        return CacheReadOnlyError(f"The cache {folder} is read-only ({reason}): {move}")
    return CacheError(f"The cache {folder} cannot be written ({reason}): {move}")
