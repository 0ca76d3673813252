# %% [markdown]
# # Transfer learning on your own photographs
#
# A few hundred photographs are too few to train a deep network from nothing. A network that has
# seen a million others already has features that fit. Either only a new head is put on it, which is
# *feature extraction*, or its last layers learn too, which is *fine-tuning*.
#
# **What to expect.** Five kinds of flowers, told apart by a MobileNetV2 that was trained on
# ImageNet; both ways compared on all photographs and on few of them; a network on disk that takes
# photographs as they are.
#
# **How long.** About 45 min on 2 cores of a CPU, an Intel Xeon shared with other jobs. That is an
# estimate from a part that was run there, with weights drawn at random: the features of 3,100
# photographs took 2 min, an epoch of fine-tuning 2 to 3 min. On a GPU it was not measured; our
# estimate is 5 min. The first run also downloads 230 MB.

# %% [markdown]
# In Colab this installs the package; where it is installed, nothing happens.

# %%
import importlib.util

if importlib.util.find_spec("keras_cnn_classics") is None:
    # %pip install --quiet keras_cnn_classics
    importlib.invalidate_caches()

# %% [markdown]
# Everything that you may want to change stands here. For your own photographs, `PHOTOS` is the path
# of a folder that holds one folder for each class, `Path("photos")`. `TRAIN_FROM` is the first
# layer that fine-tuning changes.

# %%
import os

from keras_cnn_classics.data import augmentation

PHOTOS = "tf_flowers"
NETWORK, WEIGHTS, OPTIONS = "MobileNetV2", "imagenet", {}
SIZE = 160
TRAIN_FROM = "block_14*"
AUGMENT = [augmentation.RandomResizedCrop(SIZE, area=(0.5, 1.0)), augmentation.RandomFlip()]
EPOCHS, WARMUP = 8, 2
HEAD_RATE, RATE = 1e-3, 1e-3  # of a new head alone, by Adam; of fine-tuning, by momentum
COUNTS, FEW_EPOCHS = [5, 20, 80], 20

# %% [markdown]
# The tests of the package run this notebook without network. The photographs are then small
# pictures of digits, and the network has learned nothing before.

# %%
if os.environ.get("KCC_SMALL") == "1":
    PHOTOS = "digits"
    NETWORK, WEIGHTS, OPTIONS = "LeNet5", None, {"activation": "relu", "subsampling": "max"}
    SIZE = 32
    TRAIN_FROM = "c3"
    AUGMENT = [augmentation.PadAndCrop(2)]
    EPOCHS, WARMUP = 3, 1
    HEAD_RATE, RATE = 1e-2, 1e-2
    COUNTS, FEW_EPOCHS = [10], 2

# %% [markdown]
# ## The photographs
#
# `load` finds the classes, leaves unreadable files out with a warning, and holds images back: a
# fifth for the test in the end, a tenth to watch the training. The test images decide nothing.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_cnn_classics as kcc
from keras_cnn_classics import data, transfer

photos = data.load(PHOTOS, image_size=SIZE, channels=3)
classes = len(photos.class_names)
print(f"{classes} classes: {', '.join(photos.class_names)}")
print(photos.sizes)

# %% [markdown]
# Look at them before anything else: a wrong folder or a bad crop is seen at once.

# %%
figure, axes = plt.subplots(figsize=(10, 5))
axes.imshow(data.contact_sheet(photos.train, 3, 8, photos.class_names))
axes.axis("off")
plt.show()

# %% [markdown]
# ## The trained network
#
# `include_top=False` leaves out the classifier of ImageNet's classes, and `pooling="avg"` makes one
# vector of the last map. `include_preprocessing=True` puts the preparation of pixels into the
# network, so that nobody can forget it later.

# %%
keras.utils.set_random_seed(0)
trunk = kcc.build(
    NETWORK,
    include_top=False,
    weights=WEIGHTS,
    input_shape=(SIZE, SIZE, 3),
    pooling="avg",
    include_preprocessing=True,
    **OPTIONS,
)
print(f"{trunk.name}: {trunk.count_params():,} parameters, {trunk.output_shape[1]} features")

# %% [markdown]
# ## Which way?
#
# It depends on how many photographs of a class there are, and on whether they are near to what the
# network knows. `advise` has the rule of thumb of the lectures.

# %%
for count in (30, 3000):
    for task in ("near", "far"):
        print(f"{count} of a class, {task}: {transfer.advise(count, task).call}")

labels = np.concatenate([batch for _, batch in photos.train.as_numpy_iterator()])
print(f"\nHere: {transfer.advise(np.bincount(labels).min(), 'near')}")

# %% [markdown]
# ## Feature extraction
#
# The network stays as it is. It is computed once for each photograph, and only the head learns on
# what it gives, so all epochs but the first are cheap. `cache=None` keeps the features in memory;
# without it they are kept on disk for the next run.


# %%
def extraction():
    """A learner of a new head alone."""
    learner = transfer.FeatureExtraction(trunk, classes, "photos", old_task=None, cache=None)
    learner.compile(keras.optimizers.Adam(HEAD_RATE), metrics=["accuracy"])
    return learner


extracted = extraction()
fit = {"validation_data": photos.validation, "shuffle": False, "verbose": 2}
extracted_history = extracted.fit(photos.train, epochs=EPOCHS, **fit).history

# %% [markdown]
# ## Fine-tuning
#
# For `WARMUP` epochs the new head learns alone, at 10 times the rate: random weights would send
# large gradients into layers that are good already. Then the layers from `TRAIN_FROM` on learn with
# it. Batch normalization keeps the statistics of ImageNet; those of small batches would harm.


# %%
def tuning():
    """A learner of a new head and the last layers."""
    learner = transfer.FineTuning(
        trunk, classes, "photos", old_task=None, train_from=TRAIN_FROM, warmup_epochs=WARMUP
    )
    learner.compile(keras.optimizers.SGD(RATE, momentum=0.9), metrics=["accuracy"])
    return learner


# %% [markdown]
# Layers that learn can learn photographs by heart. So each one is changed at random in each epoch;
# `validation` and `test` stay as they are.

# %%
changed = data.load(PHOTOS, image_size=SIZE, channels=3, augment=AUGMENT)
tuned = tuning()
tuned_history = tuned.fit(changed.train, epochs=EPOCHS, **fit).history

# %%
figure, axes = plt.subplots(figsize=(6, 4))
for name, history in (("extraction", extracted_history), ("fine-tuning", tuned_history)):
    axes.plot(range(1, EPOCHS + 1), 100 * np.array(history["val_accuracy"]), "o-", label=name)
axes.axvline(WARMUP + 0.5, color="grey", linestyle=":", label="fine-tuning: end of the warm-up")
axes.set(xlabel="epochs", ylabel="validation accuracy, %")
axes.legend()
plt.show()

# %% [markdown]
# Now the test images, once.

# %%
test = {"photos": photos.test}
for name, learner in (("feature extraction", extracted), ("fine-tuning", tuned)):
    print(f"{name}: {100 * transfer.accuracies(learner, test)['photos']:.2f} % right")

# %% [markdown]
# ## When which: with few photographs
#
# Both ways again, with only a few photographs of each class.


# %%
def first(count):
    """The first photographs of each class, as many of each."""
    found = {label: [] for label in range(classes)}
    for batch in photos.train.as_numpy_iterator():
        for image, label in zip(*batch, strict=True):
            if len(found[label]) < count:
                found[label].append(image)
    x = np.concatenate([np.stack(images) for images in found.values()])
    return x, np.repeat(list(found), [len(images) for images in found.values()])


# %%
figure, axes = plt.subplots(figsize=(6, 4))
for name, make in (("feature extraction", extraction), ("fine-tuning", tuning)):
    right = []
    for count in COUNTS:
        keras.utils.set_random_seed(0)
        learner = make()
        learner.fit(*first(count), epochs=FEW_EPOCHS, verbose=0)
        right.append(100 * transfer.accuracies(learner, test)["photos"])
        print(f"{name}, {count} of a class: {right[-1]:.2f} % right")
    axes.plot(COUNTS, right, "o-", label=name)
axes.set(xlabel="photographs of a class", ylabel="test accuracy, %", xscale="log")
axes.legend()
plt.show()

# %% [markdown]
# One run says little. Three runs of another network, a ResNet-20 that was trained on CIFAR-10, with
# other flowers at 32 pixels, gave these accuracies (`docs/results.md` has the command):
#
# | photographs of a class | feature extraction, % | fine-tuning, % | from nothing, % |
# | ---: | ---: | ---: | ---: |
# | 10 | 36.69 ± 3.32 | 38.43 ± 2.96 | 33.83 ± 4.24 |
# | 30 | 43.87 ± 2.52 | 45.87 ± 5.23 | 41.17 ± 3.02 |
# | 100 | 47.88 ± 0.66 | 53.90 ± 2.78 | 49.50 ± 0.71 |
#
# With 10 or 30 of a class the two ways are within each other's spread, and feature extraction is
# many times cheaper. With 100, fine-tuning is clearly better.
#
# ## Use it
#
# `export_model` gives a plain model of Keras. It takes pixels from 0 to 255, so the file is all
# that one needs, with the names of the classes.

# %%
tuned.export_model("photos").save("photos.keras")
network = keras.saving.load_model("photos.keras")

images, labels = next(photos.test.as_numpy_iterator())
scores = network.predict(images, verbose=0)
figure, axes = plt.subplots(2, 4, figsize=(10, 6))
for panel, image, label, score in zip(axes.flat, images, labels, scores, strict=False):
    answer = photos.class_names[score.argmax()]
    panel.imshow(image.astype("uint8"))
    panel.set_title(
        f"{answer}, {100 * score.max():.0f} %", color="black" if score.argmax() == label else "red"
    )
    panel.axis("off")
plt.show()

# %% [markdown]
# ## Next
#
# - `transfer.fit_two_stage` is fine-tuning as one call, which keeps the best network in a folder
#   and goes on there after an interruption.
# - On the command line: `keras-cnn-classics transfer --from ResNet50 --weights imagenet --data
#   photos/ --methods all`.
# - `3_learning_without_forgetting`: the network shall still know what it knew before.
