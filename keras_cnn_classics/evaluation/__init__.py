"""Evaluation: what a trained classifier says of whole images."""

from keras_cnn_classics.evaluation.dense import (
    OVERFEAT_SIZES,
    fully_convolutional,
    score_maps,
    vote,
)

__all__ = ["OVERFEAT_SIZES", "fully_convolutional", "score_maps", "vote"]
