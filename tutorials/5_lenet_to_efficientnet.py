# %% [markdown]
# # The journey from LeNet to EfficientNet
#
# Twenty years of convolutional networks, told by running them: where the parameters went, why small
# filters are stacked, what a bottleneck saves, why plain depth fails and a shortcut mends it, and
# what accuracy costs.
#
# **What to expect.** Six pictures. Most of them need no training: the registry knows what the
# papers report, and costs are counted on the networks themselves. Two networks of one depth are
# trained, one plain and one residual.
#
# **How long.** About 25 min on 2 cores of a CPU, an Intel Xeon shared with other jobs, nearly all
# of it for the training of two networks; everything else took 2 min. On a GPU it was not measured;
# our estimate is 4 min. The first run also downloads 160 MB.

# %% [markdown]
# In Colab this installs the package; where it is installed, nothing happens.

# %%
import importlib.util

if importlib.util.find_spec("keras_cnn_classics") is None:
    # %pip install --quiet keras_cnn_classics
    importlib.invalidate_caches()

# %% [markdown]
# Everything that you may want to change stands here. `DEPTH` is 6n + 2 layers; the paper trains 20,
# 32, 44 and 56 of them for 182 epochs.

# %%
import os

DATA = "cifar10"
HELD_OUT = 0.9
DEPTH, EPOCHS = 44, 6
RATE = 0.01
DEEP = "VGG19"  # in which signals are followed
SIZE = 64  # pixels of the images in that

# %% [markdown]
# The tests of the package run this notebook without network, on small digits and with fewer layers.

# %%
if os.environ.get("KCC_SMALL") == "1":
    DATA = "digits"
    HELD_OUT = 0.8
    DEPTH, EPOCHS = 8, 1
    DEEP = "VGG11"
    SIZE = 32

# %% [markdown]
# ## Who came when
#
# Each entry of the registry states its paper, its size and the errors that the paper reports, from
# AlexNet on those on ImageNet.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_cnn_classics as kcc
from keras_cnn_classics import data, inspection, training

STATIONS = ["LeNet5", "AlexNet", "ZFNet", "VGG16", "GoogLeNet", "ResNet152", "DenseNet121"]
STATIONS += ["SENet154", "MobileNetV2", "EfficientNetB0", "EfficientNetB7"]
specs = [kcc.get_builder(name).spec for name in STATIONS]
print("year  network          parameters          MACs  top-1 / top-5 error, %, of the paper")
for spec in sorted(specs, key=lambda spec: spec.year):
    print(f"{spec.year}  {spec.name:15} {spec.params:11,} {spec.macs:13,}  {spec.results()}")

# %% [markdown]
# ## Where the parameters are, and where the work is
#
# LeNet-5 and AlexNet have the same pattern: convolutions, then dense layers. `inspection.count`
# adds up each layer. The convolutions of AlexNet do nearly all of the work, and its dense layers
# hold nearly all of the parameters. That is why later networks replace the dense layers by an
# average.

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 4))
for panel, name in zip(axes, ("LeNet5", "AlexNet"), strict=True):
    layers = [one for one in inspection.count(kcc.build(name, weights=None)).layers if one.macs]
    places = np.arange(len(layers))
    for shift, what in ((-0.2, "params"), (0.2, "macs")):
        values = np.array([getattr(one, what) for one in layers])
        panel.bar(places + shift, 100 * values / values.sum(), 0.4, label=what)
    panel.set_xticks(places, [one.name for one in layers], rotation=45)
    panel.set(title=name, ylabel="share of the network, %")
axes[0].legend()
figure.tight_layout()
plt.show()

# %% [markdown]
# ## What a unit sees
#
# A unit of the first layer sees as many pixels as its filter is wide. With each layer the field
# grows: by the width of the filter less one, times the steps of all layers before. A stack of 3x3
# filters, as in VGG, comes to see as much as a large filter.


# %%
def fields(model):
    """How many pixels along a side a unit of each convolution and pool sees."""
    side, step, found = 1, 1, {}
    for layer in model.layers:
        config = layer.get_config()
        width = config.get("kernel_size", config.get("pool_size"))
        if width is not None:
            side += (np.max(width) - 1) * step
            step *= np.max(config["strides"])
            found[layer.name] = int(side)
    return found


figure, axes = plt.subplots(figsize=(7, 4))
for name in ("AlexNet", "ZFNet", "VGG16"):
    seen = fields(kcc.build(name, weights=None, include_top=False))
    axes.plot(range(1, len(seen) + 1), seen.values(), "o-", label=name)
axes.set(xlabel="convolutions and pools", ylabel="receptive field, pixels along a side")
axes.legend()
plt.show()

# %% [markdown]
# The same by experiment: a deconvnet goes back from one unit to all pixels that it sees. It finds
# the numbers of the rule.

# %%
network = kcc.VGG16(weights=None, include_top=False)
images = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
for name in ("block1_conv2", "block2_conv2", "block3_conv3"):
    seen = inspection.Deconvnet(network, name)(images, position=(8, 8)).pixels[0]
    rows = np.flatnonzero(np.abs(seen).sum((1, 2)))
    print(f"{name}: {fields(network)[name]} by the rule, {np.ptp(rows) + 1} by the deconvnet")

# %% [markdown]
# ## What a layer costs: the bottleneck
#
# From 256 channels to 256, on a map of 14x14. One filter of 7x7 sees what three of 3x3 see, for
# nearly twice the price. A bottleneck goes down to fewer channels by a 1x1 filter, works there, and
# comes back (GoogLeNet 2014, ResNet 2015). A depthwise filter looks at each channel alone, and a
# 1x1 filter mixes them (MobileNet 2017).

# %%
from keras.layers import Conv2D, DepthwiseConv2D

WAYS = {
    "one 7x7": [Conv2D(256, 7, padding="same")],
    "three 3x3": [Conv2D(256, 3, padding="same") for _ in range(3)],
    "one 3x3": [Conv2D(256, 3, padding="same")],
    "bottleneck of 64": [Conv2D(64, 1), Conv2D(64, 3, padding="same"), Conv2D(256, 1)],
    "depthwise 3x3, then 1x1": [DepthwiseConv2D(3, padding="same"), Conv2D(256, 1)],
}
costs = {}
for name, layers in WAYS.items():
    cost = inspection.count(keras.Sequential([keras.Input((14, 14, 256)), *layers]))
    costs[name] = cost.macs / 1e6
    print(f"{name:25} {cost.params:11,} parameters  {costs[name]:8.1f} million MACs")

figure, axes = plt.subplots(figsize=(7, 3))
axes.barh(list(costs), list(costs.values()))
axes.set(xlabel="million MACs")
figure.tight_layout()
plt.show()

# %% [markdown]
# ## Why depth was hard
#
# Before batch normalization, a deep network hardly began to learn: with weights drawn with a
# deviation of 0.01, as for AlexNet, the signal fades from layer to layer, and so does the gradient
# on its way back. VGG's authors started their deep networks from shallow ones. Initial weights
# whose size fits the width of each layer (He et al. 2015) keep both alive.

# %%
batch = np.random.default_rng(0).normal(size=(8, SIZE, SIZE, 3)).astype("float32")
figure, axes = plt.subplots(1, 2, figsize=(11, 4))
for start in ("gaussian", "he"):
    deep = kcc.build(DEEP, weights=None, include_top=False, input_shape=(SIZE, SIZE, 3))
    training.initialize(deep, start)
    found = training.variance_by_depth(deep, batch)
    for panel, way in zip(axes, ("forward", "backward"), strict=True):
        panel.semilogy(range(1, len(found.layers) + 1), getattr(found, way), "o-", label=start)
        panel.set(xlabel=f"layer of {DEEP}", ylabel=f"variance, {way}")
axes[0].legend()
figure.tight_layout()
plt.show()

# %% [markdown]
# ## Residual against plain
#
# Batch normalization keeps signals alive at any depth, and yet a plain network gets worse when it
# gets deeper, even on the images that it learns from. A block of a residual network gives what is
# to be *added* to its input: to do nothing, it has only to become zero. Here are two networks with
# the same layers and the same number of weights, one with shortcuts.

# %%
images = data.load(
    DATA, image_size=32, channels=3, preprocess="cifar10", validation=HELD_OUT, batch_size=32
)
losses = {}
for kind, build in (("plain", kcc.PlainNet20), ("residual", kcc.ResNet20)):
    keras.utils.set_random_seed(0)
    model = build(weights=None, depth=DEPTH)
    model.compile(keras.optimizers.SGD(RATE, momentum=0.9), "sparse_categorical_crossentropy")
    history = model.fit(images.train, epochs=EPOCHS, shuffle=False, verbose=2)
    losses[kind] = history.history["loss"]

# %%
figure, axes = plt.subplots(figsize=(6, 4))
for kind, loss in losses.items():
    axes.plot(range(1, EPOCHS + 1), loss, "o-", label=f"{kind}, {DEPTH} layers")
axes.set(xlabel="epochs", ylabel="training loss")
axes.legend()
plt.show()

# %% [markdown]
# With 44 layers, 5,000 images of CIFAR-10 and 6 epochs, one run of each came to a training loss of
# 1.44 with shortcuts and 1.97 without; 2.30 is that of a guess. The plain network is not too big
# for the images: it is the training images themselves that it learns more slowly.

# %% [markdown]
# ## What accuracy costs
#
# All networks whose papers report an error on ImageNet, over their parameters. The area of a point
# is its multiply-adds. The papers do not measure alike (one crop or ten, one scale or several), so
# look at the whole and not at single points.

# %%
specs = [kcc.get_builder(name).spec for name in kcc.list_models(year=(2012, 2019))]
specs = [spec for spec in specs if spec.classes == 1000 and spec.top1_error]
accuracy = [100 - spec.top1_error for spec in specs]
figure, axes = plt.subplots(figsize=(10, 6))
shown = axes.scatter(
    [spec.params / 1e6 for spec in specs],
    accuracy,
    s=[spec.macs / 5e7 for spec in specs],
    c=[spec.year for spec in specs],
    cmap="viridis",
    alpha=0.6,
)
for spec, height in zip(specs, accuracy, strict=True):
    if spec.name in STATIONS:
        axes.annotate(spec.name, (spec.params / 1e6, height))
axes.set(xscale="log", xlabel="million parameters", ylabel="top-1 accuracy of the paper, %")
figure.colorbar(shown, label="year")
plt.show()

# %% [markdown]
# EfficientNet asks how to spend more work: on depth, width and image size together, by one factor.
# The eight networks are one network at eight sizes.

# %%
for name in kcc.list_models("EfficientNetB*"):
    spec = kcc.get_builder(name).spec
    print(
        f"{name}: {spec.input_size} pixels, {spec.params / 1e6:5.1f} million parameters, "
        f"{spec.macs / 1e9:5.2f} billion MACs, top-1 error {spec.top1_error} %"
    )

# %% [markdown]
# ## Next
#
# - `help(kcc.ResNet50)` and the file of each network, which reads like its paper.
# - `benchmarks/plain_against_residual.py` trains as the paper does; `benchmarks/highway.py` and
#   `benchmarks/nin.py` repeat other figures.
# - The page "Models" of the documentation has all networks with their numbers.
