# %% [markdown]
# # Several GPUs and several machines
#
# The same program, on one device or many, with the same result: each batch is shared out to all
# GPUs, or to all machines and their GPUs, and their gradients are added up before each step.
#
# **What to expect.** A ResNet trains on all GPUs of this machine, and the weights are compared with
# those of one device after some steps. Then a script trains in two processes that find each other
# as two machines would, and a second start goes on where the first one ended. It needs TensorFlow.
#
# **How long.** 30 min on 2 cores of a CPU, an Intel Xeon shared with other jobs, by an estimate
# from a run on a twentieth of the images, with the processor as two devices. Neither one GPU nor
# several were tried; our estimate is 3 min on one.

# %% [markdown]
# In Colab this installs the package; where it is installed, nothing happens.

# %%
import importlib.util

if importlib.util.find_spec("keras_cnn_classics") is None:
    # %pip install --quiet keras_cnn_classics
    importlib.invalidate_caches()

# %% [markdown]
# Everything that you may want to change stands here. `"auto"` takes all GPUs that it finds, and one
# device where there is but one. `STRATEGY = "mirrored", "cpu:2"` splits the processor in two
# instead: that is no faster, but it is the same program as on two GPUs.

# %%
import os

STRATEGY = "auto", None
DATA, BATCH = "cifar10", 256
NETWORK, OPTIONS = "ResNet20", {}
EPOCHS = 2
STEPS = 1  # for the comparison with one device
RATE = 0.01
WORKERS = 2
STARTS = [1, 2]  # epochs that shall be done after each start of the script

# %% [markdown]
# The tests of the package run this notebook without network, on small digits, with a smaller
# network, on a processor that is split in two. They start the script once.

# %%
if os.environ.get("KCC_SMALL") == "1":
    STRATEGY = "mirrored", "cpu:2"
    DATA, BATCH = "digits", 64
    NETWORK, OPTIONS = "LeNet5", {"activation": "relu", "subsampling": "max", "output": "dense"}
    EPOCHS = 1
    STARTS = [1]

# %% [markdown]
# ## The strategy comes first
#
# A process can be told which devices it has only before it uses one. So this cell stands before all
# others that compute; if you have run one already, start the notebook again.

# %%
from keras_cnn_classics.training import distribution

name, devices = STRATEGY
strategy = distribution.strategy(name, devices=devices)
with strategy.scope():
    replicas = distribution.replicas()
print(f"{replicas} replicas: each takes {BATCH // replicas} images of a batch of {BATCH}")

# %% [markdown]
# ## Train in its scope
#
# A batch is the *global* batch. Its size decides the result, and the number of devices does not:
# the learning rate stays as it is.
#
# `prepare` makes right what Keras alone does in another way on each replica: gradients are summed
# before they are clipped, batch normalization sees the whole batch, dropout differs.

# %%
import time

import keras
import numpy as np

import keras_cnn_classics as kcc
from keras_cnn_classics import data

images = data.load(DATA, image_size=32, preprocess="unit", batch_size=BATCH)


def build():
    """A network that is ready to train, with the same weights each time."""
    keras.utils.set_random_seed(0)
    model = kcc.build(NETWORK, weights=None, input_shape=images.image_shape, classes=10, **OPTIONS)
    optimizer = keras.optimizers.SGD(RATE, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return distribution.prepare(model)


# %% [markdown]
# `images.endless()` gives batches of one size from one iterator for the whole run; a new iterator
# for each epoch costs time under TensorFlow's strategies.

# %%
with strategy.scope():
    model = build()
    started = time.perf_counter()
    model.fit(
        images.endless(),
        steps_per_epoch=images.steps,
        epochs=EPOCHS,
        validation_data=images.validation,
        shuffle=False,
        verbose=2,
    )
seconds = time.perf_counter() - started
print(f"{EPOCHS * images.steps * BATCH / seconds:.0f} images a second, compilation included")

# %% [markdown]
# ## The same as on one device
#
# Two networks begin with the same weights and see the same batch, one in the scope and one outside
# of it. The sums are those of the same numbers, added in another order, so that the last digits
# differ. Such roundings grow from step to step, most where the loss still jumps, so only the first
# steps tell whether two programs do the same. Look at the difference beside the way that the
# weights have gone.


# %%
def few_steps():
    """The weights before and after some steps."""
    model = build()
    first = model.get_weights()
    model.fit(images.endless(), steps_per_epoch=STEPS, shuffle=False, verbose=0)
    return first, model.get_weights()


def farthest(ones, others):
    """The greatest difference of any weight."""
    return max(np.abs(a - b).max() for a, b in zip(ones, others, strict=True))


with strategy.scope():
    first, shared = few_steps()
_, single = few_steps()
print(f"after {STEPS} steps the weights have moved by {farthest(first, single):.1e} at most")
print(f"{replicas} replicas and one device differ by {farthest(shared, single):.1e} at most")

# %% [markdown]
# ## Several machines
#
# Every machine runs the same script, and the environment variable `TF_CONFIG` says who the others
# are. Here it is written to a file. It differs from the above in three things:
#
# - `distribution.shares` lets each worker read only its share of each batch.
# - `TrainingState` saves weights, optimizer, place in the data and history. When one worker dies,
#   all end; when all are started again, they go on from there.
# - Only the chief, the first worker, prints and writes.

# %%
from pathlib import Path

Path("train.py").write_text(
    """
import sys
import keras_cnn_classics as kcc
from keras_cnn_classics import data, training
from keras_cnn_classics.training import distribution

with distribution.strategy("auto").scope():
    images = data.load("digits", image_size=28, preprocess="unit", batch_size=64)
    model = kcc.LeNet(weights=None)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    distribution.prepare(model)
    batches = distribution.shares(model, images.endless)
    state = training.TrainingState("state", images)
    chief = distribution.is_chief()
    model.fit(batches, steps_per_epoch=images.steps, epochs=int(sys.argv[1]), shuffle=False,
              callbacks=[state], verbose=2 if chief else 0)
    if chief:
        print("epochs so far:", len(state.model.history.history["loss"]))
""",
    encoding="utf-8",
)

# %% [markdown]
# `keras-cnn-classics launch` starts the workers of one machine, sets `TF_CONFIG` for them, labels
# their lines, and starts all again when one dies. The GPUs belong to this notebook while it runs,
# so the workers get none, and small work. A second start for one epoch more goes on from the state:
# the first epoch is not repeated.

# %%
import subprocess
import sys


def launch(epochs):
    """Trains until so many epochs are done, and gives what the workers print."""
    command = f"launch --workers {WORKERS} -- train.py {epochs}".split()
    program = [sys.executable, "-m", "keras_cnn_classics"]  # keras-cnn-classics, of this Python
    done = subprocess.run(
        [*program, *command],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    print("\n".join(line for line in done.stdout.splitlines() if "poch" in line or "loss" in line))


for epochs in STARTS:
    print(f"started, until {epochs} epochs are done")
    launch(epochs)

# %% [markdown]
# ## Clusters
#
# On Slurm, `distribution.strategy("multi-worker")` reads who the workers are from Slurm itself; a
# job that runs `srun python train.py` is all. On Kubernetes, `TF_CONFIG` is made of a pod's index.
# The page "Several devices" of the documentation has both files, and says what of all this was
# tried on real hardware and what was not: more than one GPU and more than one machine were not.
#
# ## Next
#
# - `keras-cnn-classics launch --workers 2 -- train ResNet20 --data cifar10` needs no script.
# - Larger batches learn with larger rates: `training.WarmUp` and the page "Training".
