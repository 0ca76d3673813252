"""Batches of more than images and labels: with recorded answers, or of several tasks in turn."""

# Whenever Keras is imported, the classes that it may have to load are, and they need what is here.
# That must not begin in the middle of one of these modules.
import keras  # noqa: F401
