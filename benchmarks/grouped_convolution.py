"""Grouped convolution in TensorFlow against PyTorch, in one run.

    python benchmarks/grouped_convolution.py --repeats 5 --batch 8

Prints PyTorch's milliseconds, and how many times as long TensorFlow takes with `GroupedConv2D`
(ours), with `keras.layers.Conv2D(groups=...)` (keras), and with one convolution for each group
(split): each the least of several calls, for the layers of AlexNet and of ResNeXt-50 and for the
two networks. "training" is a step with its gradients, for the networks with the optimizer too.
TensorFlow compiles with XLA, as Keras's `compile` and `predict` do unless told otherwise; with
`--no-xla` it does not. PyTorch runs as it is, without `torch.compile`. The numbers that the layers
give are compared first. Keras's step of ResNeXt-50 takes minutes: it is left out without `--all`.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import torch
from keras import ops

import keras_cnn_classics as kcc
from keras_cnn_classics.layers import GroupedConv2D

#         name of the layer: side, channels, filters, kernel, groups, step
SHAPES = {
    "AlexNet conv2": (27, 96, 256, 5, 2, 1),
    "AlexNet conv4": (13, 384, 384, 3, 2, 1),
    "AlexNet conv5": (13, 384, 256, 3, 2, 1),
    "ResNeXt-50 conv2": (56, 128, 128, 3, 32, 1),
    "ResNeXt-50 conv3, first": (58, 256, 256, 3, 32, 2),
    "ResNeXt-50 conv3": (28, 256, 256, 3, 32, 1),
    "ResNeXt-50 conv4": (14, 512, 512, 3, 32, 1),
    "ResNeXt-50 conv5": (7, 1024, 1024, 3, 32, 1),
}
RNG = np.random.default_rng(0)


class SplitConv2D(keras.layers.Conv2D):
    """One convolution for each group, however narrow."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        pairs = zip(
            ops.split(inputs, self.groups, -1), ops.split(kernel, self.groups, -1), strict=True
        )
        return ops.concatenate([super(SplitConv2D, self).convolution_op(*p) for p in pairs], -1)


KINDS = {"ours": GroupedConv2D, "keras": keras.layers.Conv2D, "split": SplitConv2D}


def least(call: Callable[[], Any], repeats: int) -> float:
    """The least time of several calls, in milliseconds, after one that compiles.

    Short calls are repeated for half a second, as other work on the machine disturbs them most;
    long ones are not repeated for more than ten.
    """
    call()
    times: list[float] = []
    while (len(times) < repeats and sum(times) < 10) or sum(times) < 0.5:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def one_layer(options: argparse.Namespace, name: str) -> tuple[list[float], dict[str, list[float]]]:
    """Times of one layer, forward and training: PyTorch's, and TensorFlow's by kind."""
    side, channels, filters, kernel, groups, step = SHAPES[name]
    x = RNG.normal(size=(options.batch, side, side, channels)).astype("float32")
    theirs = torch.nn.Conv2d(
        channels, filters, kernel, step, 0 if step > 1 else kernel // 2, groups=groups
    )
    image = torch.tensor(np.moveaxis(x, -1, 1).copy(), requires_grad=True)
    with torch.no_grad():
        expected = np.moveaxis(theirs(image).numpy(), 1, -1)
    above = RNG.normal(size=expected.shape).astype("float32")
    torch_above = torch.tensor(np.moveaxis(above, -1, 1).copy())

    def torch_forward() -> None:
        with torch.no_grad():
            theirs(image)

    def torch_training() -> None:
        theirs.zero_grad()
        image.grad = None
        theirs(image).backward(torch_above)

    torch_times = [least(call, options.repeats) for call in (torch_forward, torch_training)]
    weights = [theirs.weight.detach().numpy().transpose(2, 3, 1, 0), theirs.bias.detach().numpy()]
    padding = "valid" if step > 1 else "same"
    data, output_gradient = tf.constant(x), tf.constant(above)
    times = {}
    for title, kind in KINDS.items():
        layer = kind(filters, kernel, step, padding, groups=groups)
        layer.build(x.shape)
        layer.set_weights(weights)

        @tf.function(jit_compile=options.xla)
        def forward(layer: Any = layer) -> Any:
            return layer(data)

        @tf.function(jit_compile=options.xla)
        def training(layer: Any = layer) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(data)
                y = layer(data)
            sources = [data, *(w.value for w in layer.trainable_weights)]
            return tape.gradient(y, sources, output_gradient)

        worst = np.abs(forward().numpy() - expected).max() / np.abs(expected).max()
        assert worst < 1e-4, f"{name}: {title} is wrong by {worst}"
        times[title] = [
            least(lambda: forward().numpy(), options.repeats),
            least(lambda: [g.numpy() for g in training()], options.repeats),
        ]
    return torch_times, times


def torch_alexnet() -> Any:
    """AlexNet of 2012 in PyTorch, in two towers."""
    nn = torch.nn
    return nn.Sequential(
        *(nn.Conv2d(3, 96, 11, 4), nn.ReLU(), nn.LocalResponseNorm(5, 5e-4, k=2.0)),
        *(nn.MaxPool2d(3, 2), nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU()),
        *(nn.LocalResponseNorm(5, 5e-4, k=2.0), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU()),
        *(nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout()),
        *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 1000)),
    )


class TorchBlock(torch.nn.Module):
    """A block of ResNeXt in PyTorch."""

    def __init__(self, channels: int, filters: int, out: int, step: int) -> None:
        super().__init__()
        nn = torch.nn
        self.body = nn.Sequential(
            *(nn.Conv2d(channels, filters, 1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()),
            nn.Conv2d(filters, filters, 3, step, 1, groups=32, bias=False),
            *(nn.BatchNorm2d(filters), nn.ReLU()),
            *(nn.Conv2d(filters, out, 1, bias=False), nn.BatchNorm2d(out)),
        )
        self.skip = nn.Sequential()
        if channels != out:
            projection = nn.Conv2d(channels, out, 1, step, bias=False)
            self.skip = nn.Sequential(projection, nn.BatchNorm2d(out))

    def forward(self, x: Any) -> Any:
        """The block's output."""
        return torch.relu(self.body(x) + self.skip(x))


def torch_resnext() -> Any:
    """ResNeXt-50, 32x4d, in PyTorch."""
    nn = torch.nn
    stem = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
    layers: list[Any] = [stem, nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, depth in enumerate((3, 4, 6, 3)):
        for i in range(depth):
            out = 256 * 2**stage
            layers.append(TorchBlock(channels, out // 2, out, 2 if stage and not i else 1))
            channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000))


NETWORKS: dict[str, Callable[[], Any]] = {
    "AlexNet": torch_alexnet,
    "ResNeXt50_32x4d": torch_resnext,
}


def one_network(
    options: argparse.Namespace, name: str
) -> tuple[list[float], dict[str, list[float]]]:
    """Times of one network, as `one_layer`."""
    ours = kcc.build(name, weights=None, classifier_activation=None)
    theirs = NETWORKS[name]()
    parameters = sum(math.prod(p.shape) for p in theirs.parameters())
    assert parameters == kcc.get_builder(name).spec.params
    x = RNG.normal(size=(options.batch, *ours.input_shape[1:])).astype("float32")
    y = RNG.integers(1000, size=options.batch)
    image, label = torch.tensor(np.moveaxis(x, -1, 1).copy()), torch.tensor(y)
    optimizer = torch.optim.SGD(theirs.parameters(), 1e-3)

    def torch_forward() -> None:
        theirs.eval()
        with torch.no_grad():
            theirs(image)

    def torch_training() -> None:
        theirs.train()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(theirs(image), label).backward()
        optimizer.step()

    torch_times = [least(call, options.repeats) for call in (torch_forward, torch_training)]
    times = {}
    for title, kind in KINDS.items():

        def convert(layer: Any, kind: Any = kind) -> Any:
            into = kind if isinstance(layer, GroupedConv2D) else type(layer)
            return into.from_config(layer.get_config())

        model = keras.models.clone_model(ours, clone_function=convert)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(1e-3), loss, jit_compile=options.xla)
        times[title] = [least(lambda: model.predict_on_batch(x), options.repeats)]  # noqa: B023
        slow = title == "keras" and name.startswith("ResNeXt") and not options.all
        step = math.nan if slow else least(lambda: model.train_on_batch(x, y), options.repeats)  # noqa: B023
        times[title].append(step)
    return torch_times, times


def main() -> None:
    """Measures everything and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="least number of calls")
    parser.add_argument("--batch", type=int, default=8, help="images of a batch")
    parser.add_argument("--no-xla", dest="xla", action="store_false", help="TensorFlow without XLA")
    parser.add_argument("--only", choices=("layers", "networks"), help="half of the table")
    parser.add_argument("--all", action="store_true", help="with what takes minutes")
    parser.add_argument("--threads", type=int, help="threads of both; 1 for a busy machine")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
        tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    if keras.backend.backend() != "tensorflow":
        raise SystemExit("This measures TensorFlow: set KERAS_BACKEND=tensorflow.")
    device = "a GPU" if tf.config.list_physical_devices("GPU") else "no GPU"
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} of them used, "
        f"{device}; batch {options.batch}, "
        f"{'with' if options.xla else 'without'} XLA. Milliseconds, and ratios to PyTorch's."
    )
    width = max(map(len, SHAPES))
    print(f"{'':{width}}            torch" + "".join(f"{title:>8}" for title in KINDS))
    rows = [] if options.only == "networks" else [(name, one_layer) for name in SHAPES]
    rows += [] if options.only == "layers" else [(name, one_network) for name in NETWORKS]
    for name, measure in rows:
        theirs, times = measure(options, name)
        for i, what in enumerate(("forward", "training")):
            ratios = [times[title][i] / theirs[i] for title in KINDS]
            cells = "".join("       -" if math.isnan(r) else f"{r:8.2f}" for r in ratios)
            print(f"{name:{width}}{what:>9}{theirs[i]:8.1f}{cells}", flush=True)


if __name__ == "__main__":
    main()
