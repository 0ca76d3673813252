"""What can go wrong between `weights=` and a model that has them, one class for each kind.

All are `WeightsError`. Those of finding and fetching a file are `OSError` too, and those of its
contents `ValueError`, so that code which knows only Python's own exceptions catches them.
"""

from __future__ import annotations


class WeightsError(Exception):
    """Weights could not be had."""


class OfflineError(WeightsError, OSError):
    """The file is not in the cache, and there is no network or none may be used."""


class NotPublishedError(WeightsError, OSError):
    """The server says that there is no such file, or that it is not for everybody."""


class DownloadError(WeightsError, OSError):
    """The transfer broke off, again and again."""


class HashError(WeightsError, OSError):
    """What arrived is not the file that was published."""


class PageError(HashError):
    """A page of text arrived in place of the file."""


class ArchiveError(HashError):
    """What arrived is a damaged archive, or one that does not hold the file."""


class CacheError(WeightsError, OSError):
    """The cache cannot be written."""


class CacheFullError(CacheError):
    """The cache has no room for the file."""


class CacheReadOnlyError(CacheError):
    """The cache may not be written."""


class UnsafeError(WeightsError, ValueError):
    """Reading it could run code, write outside its folder, or trust an insecure connection."""


class FormatError(WeightsError, ValueError):
    """It is no file of weights, a damaged one, or one of a format that is not read here."""


class MismatchError(WeightsError, ValueError):
    """It holds the weights of another model, or of this one with other options."""
