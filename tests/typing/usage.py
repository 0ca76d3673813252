"""What a type checker sees of the package. `make lint` checks this file; pytest does not run it.

Mypy and Pyright do, as strict as for a user who sets nothing. An ignored error that one of them
does not find is an error itself.
"""

from typing import assert_type

import keras_cnn_classics as kcc
from keras_cnn_classics import VGG16, data, evaluation, inspection, layers, training, transfer
from keras_cnn_classics.applications import LeNet5
from keras_cnn_classics.applications.resnet50 import ResNet50, preprocess_input
from keras_cnn_classics.registry import Builder

assert_type(kcc.VGG16, Builder)
assert_type(VGG16, Builder)
assert_type(LeNet5, Builder)
assert_type(kcc.list_models("VGG*"), list[str])
assert_type(kcc.get_builder("VGG16"), Builder)

ResNet50(weights=None)
preprocess_input([[[0.0] * 3]])
VGG16(False, None, pooling="avg", depths=(1, 1, 1, 1, 1))
VGG16(weights=3)  # type: ignore[arg-type]
LeNet5(include_top="yes")  # type: ignore[arg-type]
kcc.VGG17()  # type: ignore[attr-defined]
kcc.preprocessing.preprocess_input([[[0.0]]], mode=1)  # type: ignore[arg-type]

images = data.load("digits", image_size=32, resize="pad", preprocess="lenet")
assert_type(images, data.ImageData)
model = LeNet5(classes=len(images.class_names), classifier_activation=None)
assert_type(inspection.count(model).params, int)
recipe = training.recipe("LeNet5", "quick")
assert_type(recipe, training.Recipe)
training.train(model, images, recipe, "runs/lenet5", callbacks=[training.EarlyStopping("val_loss")])
learner = transfer.LearningWithoutForgetting(model, classes=5, task="letters")
learner.export_model().save("both.keras")
evaluation.fully_convolutional(model, offsets=False)
layers.DropBlock2D(0.1, block_size="7")  # type: ignore[arg-type]
