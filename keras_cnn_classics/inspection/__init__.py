"""Looking into a network: what it costs, and what its units see."""

from keras_cnn_classics.inspection.counts import LayerCount, ModelCount, count
from keras_cnn_classics.inspection.deconvnet import Deconvnet, Projection

__all__ = ["Deconvnet", "LayerCount", "ModelCount", "Projection", "count"]
