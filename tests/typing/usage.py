"""What a type checker sees of the package. `make lint` checks this file; pytest does not run it.

An ignored error that mypy does not find is an error itself (`warn_unused_ignores`).
"""

from typing import assert_type

import keras_cnn_classics as kcc
from keras_cnn_classics import VGG16
from keras_cnn_classics.applications import LeNet5
from keras_cnn_classics.registry import Builder

assert_type(kcc.VGG16, Builder)
assert_type(VGG16, Builder)
assert_type(LeNet5, Builder)
assert_type(kcc.list_models("VGG*"), list[str])
assert_type(kcc.get_builder("VGG16"), Builder)

VGG16(False, None, pooling="avg", depths=(1, 1, 1, 1, 1))
VGG16(weights=3)  # type: ignore[arg-type]
LeNet5(include_top="yes")  # type: ignore[arg-type]
kcc.VGG17()  # type: ignore[attr-defined]
kcc.preprocessing.preprocess_input([[[0.0]]], mode=1)  # type: ignore[arg-type]
