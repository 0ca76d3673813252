"""Looking into a network: what it costs."""

from keras_cnn_classics.inspection.counts import LayerCount, ModelCount, count

__all__ = ["LayerCount", "ModelCount", "count"]
