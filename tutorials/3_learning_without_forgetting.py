# %% [markdown]
# # Learning without Forgetting
#
# A network that knows one task is taught another, and the images of the first are gone. Fine-tuning
# teaches it the second and lets it forget the first. Learning without Forgetting ([Li and Hoiem,
# 2016](https://arxiv.org/abs/1606.09282)) keeps both.
#
# **What to expect.** LeNet-5 learns the handwritten digits 0 to 4, and then 5 to 9, in two ways.
# Two curves show what it forgets on the way, and two maps of its answers show why.
#
# **How long.** 16 min on 2 cores of a CPU (an Intel Xeon, shared with other jobs; 9 min of
# computing). On a GPU it was not measured; our estimate is 3 min, since the networks are small and
# most of the time goes into starting. The first run in Colab also downloads 12 MB.

# %% [markdown]
# In Colab this installs the package; where it is installed, nothing happens.

# %%
import importlib.util

if importlib.util.find_spec("keras_cnn_classics") is None:
    # %pip install --quiet keras_cnn_classics
    importlib.invalidate_caches()

# %% [markdown]
# Everything that you may want to change stands here. `OLD_WEIGHTS` says how much the old task
# counts beside the new one.

# %%
import os

DATA = "mnist"
OPTIONS = {"output": "dense"}  # of LeNet-5
OLD_CLASSES, NEW_CLASSES = range(5), range(5, 10)
BATCH = 128
OLD_EPOCHS = 5
EPOCHS, WARMUP = 8, 2
RATE = 1e-2
OLD_WEIGHTS = [0.1, 1, 10]

# %% [markdown]
# The tests of the package run this notebook without network, on 1,198 small digits that come with
# scikit-learn.

# %%
if os.environ.get("KCC_SMALL") == "1":
    DATA = "digits"
    OPTIONS = {"output": "dense", "connections": "dense", "subsampling": "max"}
    BATCH = 32
    OLD_EPOCHS = 4
    EPOCHS, WARMUP = 3, 1
    OLD_WEIGHTS = [1]

# %% [markdown]
# ## Two tasks
#
# `only` keeps some of the classes, and numbers their labels anew from 0: the digit 5 is the class 0
# of the new task.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_cnn_classics as kcc
from keras_cnn_classics import data, transfer

how = {"image_size": 32, "resize": "pad", "preprocess": "lenet", "batch_size": BATCH}
old = data.load(DATA, only=OLD_CLASSES, validation=0, **how)
new = data.load(DATA, only=NEW_CLASSES, validation=0, **how)
tests = {"old": old.test, "new": new.test}
print(f"old task: {old.class_names}, {old.sizes['train']} images to learn from")
print(f"new task: {new.class_names}, {new.sizes['train']}")

# %% [markdown]
# A network for the old task. LeNet-5 of 1998 ends in fixed drawings of the ten digits;
# `output="dense"` gives it a layer of weights for any classes instead. `shuffle=False` is for
# Keras: `data.load` has put the images into a new order already.

# %%
keras.utils.set_random_seed(0)
model = kcc.LeNet5(weights=None, classes=len(old.class_names), **OPTIONS)
model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
model.fit(old.train, epochs=OLD_EPOCHS, shuffle=False, verbose=2)
before = transfer.accuracies(model, {"old": old.test})["old"]
print(f"{100 * before:.2f} % of the test images of the old task are right")

# %% [markdown]
# ## What the old network says of the new digits
#
# It has no names for them, but its answers are not arbitrary: they say what each resembles. This is
# what Learning without Forgetting holds on to in place of the old images.

# %%
new_images, new_labels = (
    np.concatenate(part) for part in zip(*new.test.as_numpy_iterator(), strict=True)
)


def draw(axes, answers, title):
    """A map of the mean answer to each new class, in old classes."""
    means = [answers[new_labels == label].mean(0) for label in range(len(new.class_names))]
    axes.imshow(means, vmin=0, vmax=1, cmap="Blues")
    axes.set(title=title, xlabel="old task's answer", ylabel="what is shown")
    axes.set_xticks(range(len(old.class_names)), old.class_names)
    axes.set_yticks(range(len(new.class_names)), new.class_names)


figure, axes = plt.subplots(figsize=(4, 4))
draw(axes, model.predict(new_images, verbose=0), "mean probability")
plt.show()

# %% [markdown]
# ## Teach it the new task
#
# Each method gives the network a second head. It learns alone for `WARMUP` epochs, so that random
# weights send no large gradients into the layers below; then all layers learn. After each epoch we
# look at both tasks, which a real project could not do for the old one.


# %%
def teach(method, **options):
    """The learner, and its accuracies after each epoch."""
    keras.utils.set_random_seed(0)
    learner = method(model, len(new.class_names), "new", warmup_epochs=WARMUP, **options)
    course = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: course.append(transfer.accuracies(learner, tests))
    )
    learner.compile(keras.optimizers.SGD(RATE, momentum=0.9))
    learner.fit(new.train, epochs=EPOCHS, shuffle=False, callbacks=[watch], verbose=0)
    return learner, course


# %% [markdown]
# Fine-tuning cares for the new labels alone.

# %%
tuned, tuned_course = teach(transfer.FineTuning)
print({task: f"{100 * share:.2f} %" for task, share in tuned_course[-1].items()})

# %% [markdown]
# Learning without Forgetting first records the old network's answers to all new images. Its loss is
#
#     L = L_new + old_weight * L_old + decay
#
# where `L_old` is the cross-entropy between what the old head answered and what it answers now,
# both softened by a temperature of 2, so that small probabilities count too.

# %%
kept, kept_course = teach(transfer.LearningWithoutForgetting)
print({task: f"{100 * share:.2f} %" for task, share in kept_course[-1].items()})

# %% [markdown]
# ## What was forgotten, and when
#
# In the warm-up the shared layers do not change, and nothing is lost. Then look at the left panel.
# On MNIST, in one run, 99.16 % of the old test images were right before; after 8 epochs it was
# 82.29 % by fine-tuning and 98.99 % without forgetting, and of the new ones 98.68 and 98.17 %.

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharex=True)
for panel, task in zip(axes, tests, strict=True):
    for name, course in (("fine-tuning", tuned_course), ("without forgetting", kept_course)):
        shares = [100 * accuracies[task] for accuracies in course]
        panel.plot(range(1, EPOCHS + 1), shares, "o-", label=name)
    panel.axvline(WARMUP + 0.5, color="grey", linestyle=":", label="end of the warm-up")
    panel.set(title=f"{task} task", xlabel="epochs", ylabel="test accuracy, %")
axes[0].axhline(100 * before, color="grey", linestyle="--", label="before")
axes[0].legend()
plt.show()

# %% [markdown]
# The maps of old answers again: fine-tuning has changed them, though no old image was seen. What an
# old head says of new images drifts, and what it says of old ones drifts with it.

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 4))
for panel, (name, learner) in zip(
    axes, {"fine-tuning": tuned, "without forgetting": kept}.items(), strict=True
):
    draw(panel, learner.export_model("old").predict(new_images, verbose=0), name)
figure.tight_layout()
plt.show()

# %% [markdown]
# ## How much the old task counts
#
# A larger `old_weight` holds more of the old task, and may leave less room for the new one.
# Fine-tuning is the end of this road, without a weight. Up and to the right is better. On MNIST,
# from 0.1 to 10, the new task lost about one percent.

# %%
figure, axes = plt.subplots(figsize=(6, 4))
for weight in OLD_WEIGHTS:
    _, course = teach(transfer.LearningWithoutForgetting, old_weight=weight)
    axes.plot(100 * course[-1]["old"], 100 * course[-1]["new"], "o", label=f"weight {weight}")
last = tuned_course[-1]
axes.plot(100 * last["old"], 100 * last["new"], "s", label="fine-tuning")
axes.axvline(100 * before, color="grey", linestyle="--", label="before")
axes.set(xlabel="old task, test accuracy, %", ylabel="new task, test accuracy, %")
axes.legend()
plt.show()

# %% [markdown]
# ## One network for both
#
# `export_model` gives a plain model of Keras that answers to all tasks. It can be saved, and taught
# a third task: then the first two are kept.

# %%
both = kept.export_model()
both.save("both.keras")
answers = both.predict(new_images[:1], verbose=0)
print({task: np.round(100 * one[0], 1).tolist() for task, one in answers.items()}, "%")

# %% [markdown]
# ## Next
#
# - `transfer.compare` runs all methods with several seeds and gives a table with spreads: the
#   command `keras-cnn-classics transfer`, and the page "Transfer" of the documentation.
# - Other classes: `OLD_CLASSES = [0, 2, 4, 6, 8]`. Another pair of tasks: `DATA = "fashion_mnist"`.
# - If the old images are still there, `transfer.JointTraining` uses them.
