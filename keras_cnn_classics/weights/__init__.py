"""Weights: find, download, verify, convert and load."""

from keras_cnn_classics.weights._load import load, preprocessing_of
from keras_cnn_classics.weights.errors import (
    CacheError,
    DownloadError,
    FormatError,
    HashError,
    MismatchError,
    NotPublishedError,
    OfflineError,
    UnsafeError,
    WeightsError,
)

__all__ = [
    "CacheError",
    "DownloadError",
    "FormatError",
    "HashError",
    "MismatchError",
    "NotPublishedError",
    "OfflineError",
    "UnsafeError",
    "WeightsError",
    "load",
    "preprocessing_of",
]
