# %% [markdown]
# # Predict with a pretrained network
#
# A network that was trained on a million photographs names what is in yours. You will see how a
# photograph is prepared, what becomes of the answer if it is prepared wrongly, how the answers of
# two networks differ, and which part of a picture an answer depends on.
#
# **What to expect.** Tables of the five likeliest of ImageNet's 1,000 classes, for two photographs
# that come with scikit-learn, and a map of one of them.
#
# **How long.** 50 s on 2 cores of a CPU (an Intel Xeon, other jobs beside it). That was measured
# with weights drawn at random: the first run also downloads 120 MB. On a GPU it was not measured;
# by our estimate it takes half as long, since most of the time goes into starting.

# %% [markdown]
# In Colab this installs the package; where it is installed, nothing happens.

# %%
import importlib.util

if importlib.util.find_spec("keras_cnn_classics") is None:
    # %pip install --quiet keras_cnn_classics
    importlib.invalidate_caches()

# %% [markdown]
# Everything that you may want to change stands here. Put paths of your own photographs into
# `PHOTOS`. Every network that `kcc.list_models(pretrained=True)` names can stand in `NETWORKS`.

# %%
import os
from pathlib import Path

import sklearn

PHOTOS = sorted((Path(sklearn.__file__).parent / "datasets" / "images").glob("*.jpg"))
NETWORKS = ["ResNet50", "MobileNetV2"]
WEIGHTS = "imagenet"
OPTIONS = {}
SQUARES = 8  # places of a covering square along each side

# %% [markdown]
# The tests of the package run this notebook without network, on weights that have learned nothing.
# Then the answers mean nothing.

# %%
if os.environ.get("KCC_SMALL") == "1":
    NETWORKS = ["SqueezeNet1_1", "ResNet18"]
    WEIGHTS = None
    OPTIONS = {"input_shape": (64, 64, 3)}
    SQUARES = 3

# %% [markdown]
# ## Choose a network
#
# The registry knows of each network what its paper says and what its weights reach, without
# building it.

# %%
import keras_cnn_classics as kcc

print(f"{len(kcc.list_models())} networks, {len(kcc.list_models(pretrained=True))} with weights")
for name in NETWORKS:
    spec = kcc.get_builder(name).spec
    print(f"\n{name}, {spec.year}: {spec.paper}")
    print(f"{spec.params / 1e6:.1f} million parameters, {spec.macs / 1e9:.2f} billion MACs")
    for tag, published in spec.weights.items():
        print(f"  weights={tag!r}: top-1 {published.top1} %, {published.license}")

# %% [markdown]
# A builder is a function, `kcc.ResNet50(weights="imagenet")`. `kcc.build` takes its name instead.
# Weights are downloaded once, into Keras's cache, and their hash is checked.

# %%
model = kcc.build(NETWORKS[0], weights=WEIGHTS, **OPTIONS)
print(f"{model.name}: images of {model.input_shape[1:]}, answers of {model.output_shape[1:]}")

# %% [markdown]
# ## Prepare photographs
#
# The network takes squares of one size. `fit_image` scales the shorter side to that size and cuts
# out the centre, so what lies at the long ends is not seen.

# %%
import matplotlib.pyplot as plt
import numpy as np

from keras_cnn_classics import data

size = model.input_shape[1]
files = [data.decode_image(path) for path in PHOTOS]
photos = np.stack([data.fit_image(file, (size, size)) for file in files])

figure, axes = plt.subplots(2, len(PHOTOS), figsize=(4 * len(PHOTOS), 6), squeeze=False)
for column, (path, file, photo) in enumerate(zip(PHOTOS, files, photos, strict=True)):
    axes[0, column].imshow(file)
    axes[0, column].set_title(f"{path.name}, {file.shape[1]} x {file.shape[0]} pixels")
    axes[1, column].imshow(photo)
    axes[1, column].set_title(f"what the network gets, {size} x {size}")
figure.tight_layout()
plt.show()

# %% [markdown]
# Pixels from 0 to 255 are not what it learned from. Some networks were trained on values from -1 to
# 1, others on blue before red with a mean subtracted. `model_preprocessing` follows the weights.

# %%
from keras_cnn_classics.preprocessing import decode_predictions, model_preprocessing

prepare = model_preprocessing(model)
x = prepare(photos)
print(f"mode {prepare.keywords['mode']!r}: pixels from {photos.min()} to {photos.max()}")
print(f"become values from {x.min():.2f} to {x.max():.2f}")

# %% [markdown]
# ## Ask
#
# The answer is a probability for each class. `decode_predictions` gives the names of the likeliest.


# %%
def show(scores, top=5):
    """Prints the likeliest classes of each photograph."""
    for path, answers in zip(PHOTOS, decode_predictions(scores, top), strict=True):
        print(path.name)
        for answer in answers:
            print(f"  {100 * answer.score:5.1f} %  {answer.name}")


scores = model.predict(x, verbose=0)
show(scores)

# %% [markdown]
# The probabilities of all classes add up to 1, whatever the picture shows. A photograph of
# something that is no class at all gets an answer, too: a high probability is no proof.
#
# ## The usual mistake
#
# Nothing fails if an image is prepared in another way: shapes and types are the same. Only the
# answers get worse, sometimes so little that nobody notices. Here are pixels as they are in the
# file.

# %%
show(model.predict(photos.astype("float32"), verbose=0), top=2)

# %% [markdown]
# ## Ask another network
#
# It is another name. What `model_preprocessing` gives is another function, too.

# %%
other = kcc.build(NETWORKS[1], weights=WEIGHTS, **OPTIONS)
prepare_other = model_preprocessing(other)
print(f"{other.name}, mode {prepare_other.keywords['mode']!r}")
show(other.predict(prepare_other(photos), verbose=0))

# %% [markdown]
# ## What does the answer depend on?
#
# Zeiler and Fergus covered a part of the picture with a grey square and looked how the probability
# of the answer changes ([2013](https://arxiv.org/abs/1311.2901), figure 6). If it falls, that part
# mattered. The square goes over all places of a grid; all pictures are one batch.

# %%
photo, answer = photos[0], scores[0].argmax()
side = size // SQUARES
covered = np.repeat(photo[None], SQUARES**2, axis=0)
for i in range(SQUARES**2):
    top, left = side * (i // SQUARES), side * (i % SQUARES)
    covered[i, top : top + side, left : left + side] = 128
without = model.predict(prepare(covered), verbose=0)[:, answer]
fall = 100 * (scores[0, answer] - without.reshape(SQUARES, SQUARES))

# %% [markdown]
# Red squares are what the answer needs. Where it is blue, the network is surer without that part.

# %%
name = decode_predictions(scores[:1], top=1)[0][0].name
most = np.abs(fall).max()
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
left.imshow(photo)
left.set_title(f"{name}: {100 * scores[0, answer]:.1f} %")
shown = right.imshow(fall, cmap="RdBu_r", vmin=-most, vmax=most)
figure.colorbar(shown, label="fall of the probability, percentage points")
right.set(xlabel="column of squares", ylabel="row of squares", title="with a square covered")
plt.show()

# %% [markdown]
# ## Next
#
# - Change `PHOTOS` and `NETWORKS`, and run all cells again.
# - On the command line: `keras-cnn-classics predict ResNet50 photo.jpg`.
# - The classes that you need are not among the 1,000? `2_transfer_learning` teaches a network
#   yours.
