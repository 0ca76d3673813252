"""Weights: find, download, verify, convert and load."""

from keras_cnn_classics.weights._load import load

__all__ = ["load"]
