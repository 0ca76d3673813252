# %% [markdown]
# # Distil a big network into a small one
#
# A label says "shirt". A trained network says "shirt, a little like a T-shirt, not at all like a
# bag", and it says so of images that nobody has labelled. A small network, the student, can learn
# from such answers of a big one, the teacher ([Hinton et al.,
# 2015](https://arxiv.org/abs/1503.02531)).
#
# **What to expect.** A ResNet-20 learns the clothes of Fashion-MNIST. A LeNet-5, which needs a
# hundredth of its multiply-adds, learns them from few labels, from all labels, from labels and
# answers, and from answers alone; a table has the errors and what each network costs.
#
# **How long.** 29 min on 2 cores of a CPU (an Intel Xeon, shared with other jobs; 16 min of
# computing), most of it for the teacher. On a GPU it was not measured; by our estimate 3 min. The
# first run in Colab also downloads 30 MB.

# %% [markdown]
# In Colab this installs the package; where it is installed, nothing happens.

# %%
import importlib.util

if importlib.util.find_spec("keras_cnn_classics") is None:
    # %pip install --quiet keras_cnn_classics
    importlib.invalidate_caches()

# %% [markdown]
# Everything that you may want to change stands here. `HELD_OUT` is the share of the training images
# that nobody learns from: with all 60,000 the notebook takes six times as long.

# %%
import os

DATA = "fashion_mnist"
HELD_OUT = 5 / 6
TEACHER, TEACHER_OPTIONS = "ResNet20", {}
STUDENT = "LeNet5"
STUDENT_OPTIONS = {"activation": "relu", "subsampling": "max", "output": "dense"}
TEACHER_EPOCHS, EPOCHS = 8, 15
FEW = 16  # batches of 64 images, the labels of which are the few
TEMPERATURE, ALPHA = 4, 0.9

# %% [markdown]
# The tests of the package run this notebook without network, on 1,198 small digits that come with
# scikit-learn, with smaller networks.

# %%
if os.environ.get("KCC_SMALL") == "1":
    DATA = "digits"
    HELD_OUT = 0.1
    TEACHER = "LeNet5"
    TEACHER_OPTIONS = STUDENT_OPTIONS = {**STUDENT_OPTIONS, "connections": "dense"}
    TEACHER_EPOCHS, EPOCHS = 6, 2
    FEW = 2

# %% [markdown]
# ## Two networks
#
# `inspection.count` adds up what a network costs for one image: parameters, and multiply-adds
# (MACs), most of the work.

# %%
import time

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_cnn_classics as kcc
from keras_cnn_classics import data, inspection, transfer

images = data.load(DATA, image_size=32, preprocess="unit", validation=HELD_OUT, batch_size=64)
print(f"{images.sizes['train']} images to learn from, {images.sizes['test']} for the test")


def build(name, options):
    """A network for these images, with the same new weights each time."""
    keras.utils.set_random_seed(0)
    shape, classes = images.image_shape, len(images.class_names)
    return kcc.build(name, weights=None, input_shape=shape, classes=classes, **options)


teacher, alone = build(TEACHER, TEACHER_OPTIONS), build(STUDENT, STUDENT_OPTIONS)
for role, model in (("teacher", teacher), ("student", alone)):
    cost = inspection.count(model)
    print(f"{role}, {model.name}: {cost.params:,} parameters, {cost.macs / 1e6:.2f} million MACs")

# %% [markdown]
# ## The teacher learns from labels
#
# The rate falls to 0 by a cosine, so that the last epochs are quiet.


# %%
def adam(epochs):
    """An optimizer for so many epochs."""
    steps = epochs * len(images.train)
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps))


loss = "sparse_categorical_crossentropy"
teacher.compile(adam(TEACHER_EPOCHS), loss, metrics=["accuracy"])
teacher.fit(images.train, epochs=TEACHER_EPOCHS, shuffle=False, verbose=2)

# %% [markdown]
# ## What its answers hold
#
# For most images nearly all of the probability goes to one class, and the rest is hidden in small
# numbers. A *temperature* brings it out: the scores are divided by it before the softmax. Here is
# an image of which the teacher is not quite sure.

# %%
x, labels = (np.concatenate(part) for part in zip(*images.test.as_numpy_iterator(), strict=True))
answers = teacher.predict(x, verbose=0)
chosen = answers.max(1).argsort()[len(x) // 10]

figure, axes = plt.subplots(1, 3, figsize=(12, 3.5))
axes[0].imshow(x[chosen], cmap="gray")
axes[0].set_title(f"label: {images.class_names[labels[chosen]]}")
for panel, temperature in zip(axes[1:], (1, TEMPERATURE), strict=True):
    soft = answers[chosen] ** (1 / temperature)
    panel.barh(images.class_names, soft / soft.sum())
    panel.set(xlabel="probability", xlim=(0, 1), title=f"temperature {temperature}")
figure.tight_layout()
plt.show()

# %% [markdown]
# ## The student alone
#
# First from the labels of a few images, in as many steps as all others have, then from all labels.

# %%
few = [
    np.concatenate(part) for part in zip(*images.train.take(FEW).as_numpy_iterator(), strict=True)
]
student = build(STUDENT, STUDENT_OPTIONS)
student.compile(adam(EPOCHS), loss)
student.fit(*few, batch_size=64, epochs=EPOCHS * len(images.train) // FEW, verbose=0)

alone.compile(adam(EPOCHS), loss)
alone.fit(images.train, epochs=EPOCHS, shuffle=False, verbose=0)

# %% [markdown]
# ## The student with the teacher
#
# The loss is `alpha * T^2 * L_soft + (1 - alpha) * L_labels`. `L_soft` is the cross-entropy with
# the teacher's softened answers; the factor keeps its gradients as large as at a temperature of 1.
# The answers are recorded once, since the images are the same in each epoch.

# %%
new = build(STUDENT, STUDENT_OPTIONS)
learner = transfer.Distillation(new, teacher, temperature=TEMPERATURE, alpha=ALPHA)
learner.compile(adam(EPOCHS))
learner.fit(images.train, epochs=EPOCHS, shuffle=False, verbose=0)
distilled = learner.export_model()

# %% [markdown]
# ## Without any label
#
# Answers do not need labels. Here `map` throws them away, and the teacher is all that the student
# has. In practice these would be new images that nobody has labelled.

# %%
learner = transfer.Distillation(new, teacher, temperature=TEMPERATURE)
learner.compile(adam(EPOCHS))
learner.fit(images.train.map(lambda x, y: x), epochs=EPOCHS, shuffle=False, verbose=0)
unlabelled = learner.export_model()

# %% [markdown]
# ## What came out
#
# The time is that of this machine, for the test images, after a first pass that does not count. It
# need not fall as much as the multiply-adds: small layers leave much of a machine idle.

# %%
models = {
    "teacher": teacher,
    f"student, {len(few[1])} labels": student,
    "student, all labels": alone,
    "student, all labels and answers": distilled,
    "student, answers alone": unlabelled,
}
errors, milliseconds = {}, {}
for name, model in models.items():
    model.predict(x, batch_size=256, verbose=0)
    started = time.perf_counter()
    wrong = model.predict(x, batch_size=256, verbose=0).argmax(1) != labels
    milliseconds[name] = 1000 * (time.perf_counter() - started) / len(x)
    errors[name] = 100 * wrong.mean()
    print(f"{name:31} {errors[name]:5.2f} % wrong, {milliseconds[name]:.3f} ms for an image")

# %% [markdown]
# On Fashion-MNIST, in one run with one seed, 10.67 % were wrong by the teacher, 20.37 % by the
# student of 1,024 labels, 14.14 % by that of all labels, 14.49 % with labels and answers, and 14.14
# % with answers alone. So the answers were worth as much as all labels, without needing one; beside
# the labels they brought nothing, for such small differences may be chance. They may bring more
# elsewhere: in Hinton's experiment on MNIST, with a student that has room to learn by heart, 127
# errors of a student became 113 (`docs/results.md`, one run again).

# %%
figure, axes = plt.subplots(figsize=(7, 3))
axes.barh(list(errors), list(errors.values()))
axes.invert_yaxis()
axes.set(xlabel="test error, %")
figure.tight_layout()
plt.show()

# %% [markdown]
# ## Next
#
# - A higher temperature or a larger share `ALPHA` of the answers: both are constants above.
# - `hints={"layer of the teacher": "layer of the student"}` also makes a layer give what one of the
#   teacher's gives, as in FitNets; a list of teachers is averaged.
# - `benchmarks/dark_knowledge.py` repeats Hinton's experiment on MNIST.
