"""Time and memory to build a network from a file of weights, against `keras.applications`.

    python benchmarks/load.py --repeats 7

Both builders are given the same file by `weights=`: in Keras's old layout, as its published files
have it, and in the present one. The time is the median of calls by turns in one process, after one
that does not count. The memory is what a call adds to the peak of a process of its own (on Linux
only). Ends with status 1 if a ratio of times is above the tolerance, or one of memory above 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import build
import h5py
import keras

import keras_cnn_classics as kcc

NAMES = ("VGG16", "ResNet50")
OURS, THEIRS = "keras_cnn_classics", "keras.applications"
PROCESS = Path("/proc/self/status")


def write(name: str, folder: Path) -> list[Path]:
    """Writes a network's random weights in both layouts; gives the paths."""
    model = kcc.get_builder(name)(weights=None)
    old, new = folder / f"{name}.h5", folder / f"{name}.weights.h5"
    model.save_weights(new)
    with h5py.File(old, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [key.encode() for key in names]
            for key, value in zip(names, layer.get_weights(), strict=True):
                group[key] = value
    return [old, new]


def peak() -> float:
    """The most memory that this process has had, in MB."""
    lines = PROCESS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3


def print_memory(package: str, name: str, file: str) -> None:
    """Prints what one call adds to the peak."""
    ours, theirs = build.both(name)
    builder = ours if package == OURS else theirs
    keras.applications.MobileNet(weights=None, alpha=0.25)  # what a process loads only once
    before = peak()
    builder(weights=file)
    print(peak() - before)


def memory(package: str, name: str, file: Path) -> float:
    """What one call adds to the peak of a process of its own, in MB."""
    command = [sys.executable, __file__, "--alone", package, name, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def main() -> int:
    """Measures and prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="calls of each")
    parser.add_argument("--tolerance", type=float, default=0.7, help="greatest ratio that passes")
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print_memory(*options.alone)
        return 0
    bad = []
    print(f"{'milliseconds':24}    ours  theirs   ratio   MB: ours  theirs   ratio")
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            for file in write(name, Path(folder)):
                calls = (partial(one, weights=str(file)) for one in build.both(name))
                a, b = build.by_turns(tuple(calls), options.repeats)
                print(f"{file.name:24}{a:8.0f}{b:8.0f}{a / b:8.2f}", end="", flush=True)
                m, n = (
                    (memory(who, name, file) for who in (OURS, THEIRS))
                    if PROCESS.exists()
                    else (0, 1)
                )
                print(f"{m:11.0f}{n:8.0f}{m / n:8.2f}", flush=True)
                if a / b > options.tolerance or m > n:
                    bad.append(file.name)
    if bad:
        print(f"Time above {options.tolerance} or memory above 1: {', '.join(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
