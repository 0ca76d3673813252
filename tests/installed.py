"""What must work where only the wheel is installed; `make package` runs it there."""

import sys
from importlib import metadata
from pathlib import Path

import keras

import keras_cnn_classics as kcc

place = Path(kcc.__file__).resolve()
assert Path(sys.prefix).resolve() in place.parents, f"{place} is not of this environment"
assert metadata.version("keras-cnn-classics") == kcc.__version__
for name in ("py.typed", "models.json", "imagenet_classes.csv", "applications/__init__.pyi"):
    assert (place.parent / name).is_file(), f"{name} is not in the wheel"
model = keras.saving.load_model("quick-start/best.keras")
data = kcc.data.load("digits", image_size=32, resize="pad", preprocess="lenet")
right = sum(
    (model.predict_on_batch(images).argmax(1) == labels).sum()
    for images, labels in data.test.as_numpy_iterator()
)
assert right > 0.5 * data.sizes["test"], right
print(f"{len(kcc.list_models())} networks; {right} of {data.sizes['test']} digits are right.")
