"""Time to build a network, against `keras.applications`, in one process.

    python benchmarks/build.py --repeats 9
    python benchmarks/build.py ResNet50 VGG16 --tolerance 1.1

Builds every network that both have, by turns, and prints the medians in milliseconds and their
ratio: first with `weights=None`, then from a `.weights.h5` file, where Keras builds and then calls
`load_weights`. Ends with status 1 if a ratio is above the tolerance.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

import keras_cnn_classics as kcc


def by_turns(builds: tuple[Callable[[], Any], ...], repeats: int) -> list[float]:
    """The median time of each function in milliseconds, after one call that does not count."""
    times: list[list[float]] = [[] for _ in builds]
    for turn in range(repeats + 1):
        order = list(enumerate(builds))
        for i, build in order if turn % 2 else order[::-1]:
            keras.backend.clear_session()
            gc.collect()
            start = time.perf_counter()
            build()
            if turn:
                times[i].append(time.perf_counter() - start)
    return [1000 * statistics.median(row) for row in times]


def both(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The two builders of a name, ours first."""
    return kcc.get_builder(name), getattr(keras.applications, name)


def empty(name: str, repeats: int) -> list[float]:
    """Times without weights."""
    ours, theirs = both(name)
    return by_turns((lambda: ours(weights=None), lambda: theirs(weights=None)), repeats)


def from_file(name: str, repeats: int) -> list[float]:
    """Times with the weights of a file, each in its own."""
    ours, theirs = both(name)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{kind}.weights.h5" for kind in ("ours", "theirs")]
        for build, file in zip((ours, theirs), files, strict=True):
            build(weights=None).save_weights(file)
        return by_turns(
            (
                lambda: ours(weights=files[0]),
                lambda: theirs(weights=None).load_weights(files[1]),
            ),
            repeats,
        )


def main() -> int:
    """Measures and prints both tables."""
    shared = [name for name in kcc.list_models() if hasattr(keras.applications, name)]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help="networks; all if none is named")
    parser.add_argument("--repeats", type=int, default=9, help="builds of each")
    parser.add_argument("--tolerance", type=float, default=1.0, help="greatest ratio that passes")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(shared)):
        parser.error(f"{', '.join(unknown)}: not in both; there are {', '.join(shared)}")
    slow = []
    for title, measure in (("weights=None", empty), ("from a .weights.h5 file", from_file)):
        print(f"{title:24}    ours  theirs   ratio")
        for name in options.names or shared:
            ours, theirs = measure(name, options.repeats)
            print(f"{name:24}{ours:8.0f}{theirs:8.0f}{ours / theirs:8.2f}", flush=True)
            if ours / theirs > options.tolerance:
                slow.append(f"{name} {title}")
    if slow:
        print(f"Above {options.tolerance}: {', '.join(slow)}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
