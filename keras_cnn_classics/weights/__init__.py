"""Weights: find, download, verify, convert and load."""

from keras_cnn_classics.weights._load import load, preprocessing_of
from keras_cnn_classics.weights.errors import (
    ArchiveError,
    CacheError,
    CacheFullError,
    CacheReadOnlyError,
    DownloadError,
    FormatError,
    HashError,
    MismatchError,
    NotPublishedError,
    OfflineError,
    PageError,
    UnsafeError,
    WeightsError,
)

__all__ = [
    "ArchiveError",
    "CacheError",
    "CacheFullError",
    "CacheReadOnlyError",
    "DownloadError",
    "FormatError",
    "HashError",
    "MismatchError",
    "NotPublishedError",
    "OfflineError",
    "PageError",
    "UnsafeError",
    "WeightsError",
    "load",
    "preprocessing_of",
]
