"""Weights: find, download, verify, convert and load."""

from keras_cnn_classics.weights._load import load, preprocessing_of

__all__ = ["load", "preprocessing_of"]
