"""Images per second of the ImageNet training pipeline, against KerasCV's and PyTorch's.

    python benchmarks/input_pipeline.py flowers5 --keras-cv other-venv/bin/python

The photographs of a folder of class folders are resized to 500 x 375 JPEG in a scratch folder.
Each pipeline reads them shuffled, and gives batches of 64: a random-resized crop to 224 x 224
(8-100 % of the area, aspect 3/4-4/3), a random flip, normalized float32. Each has a process of its
own, on the same cores, and they run an epoch by turns; the first does not count.

KerasCV decodes whole images and crops them one by one (its layers on batches were slower), then
flips batches. PyTorch is a DataLoader with 2 workers, which do with Pillow what torchvision's
transforms do. Ours shrinks with plain bilinear interpolation above one half; Pillow's antialiases
always, KerasCV's never. Ends with status 1 if a ratio is below what is demanded.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

DEMANDED = {"keras_cv": 2.0, "torch": 1.2}  # times the images per second of each
SIZE, BATCH, AREA, ASPECT = 224, 64, (0.08, 1.0), (3 / 4, 4 / 3)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WORKERS = 2


def prepare(source: Path, folder: Path, count: int) -> int:
    """Writes photographs of 500 x 375 pixels; gives their number."""
    from PIL import Image

    classes = [sorted(path.iterdir()) for path in sorted(source.iterdir()) if path.is_dir()]
    by_turns = itertools.chain.from_iterable(itertools.zip_longest(*classes))
    chosen = [path for path in by_turns if path is not None][:count]
    for i, path in enumerate(chosen):
        (folder / path.parent.name).mkdir(exist_ok=True)
        with Image.open(path) as image:
            photograph = image.convert("RGB").resize((500, 375), Image.Resampling.BICUBIC)
        photograph.save(folder / path.parent.name / f"{i}.jpg", quality=90)
    return len(chosen)


def ours(folder: Path) -> Iterable[Any]:
    """This package's pipeline."""
    from keras_cnn_classics.data import load
    from keras_cnn_classics.data.augmentation import RandomFlip, RandomResizedCrop

    return load(
        folder,
        image_size=SIZE,
        batch_size=BATCH,
        validation=0,
        test=0,
        preprocess="torch",
        augment=[RandomResizedCrop(SIZE, AREA, ASPECT), RandomFlip()],
    ).train


def keras_cv(folder: Path) -> Iterable[Any]:
    """KerasCV's layers in `tf.data`."""
    import keras_cv
    import tensorflow as tf

    crop = keras_cv.layers.RandomCropAndResize((SIZE, SIZE), AREA, ASPECT)
    flip = keras_cv.layers.RandomFlip()
    mean, std = 255 * tf.constant(MEAN), 255 * tf.constant(STD)
    parallel = {"num_parallel_calls": tf.data.AUTOTUNE}

    def one(path: Any, label: Any) -> Any:
        return crop(tf.io.decode_jpeg(tf.io.read_file(path), 3)), label

    def finish(images: Any, labels: Any) -> Any:
        return (flip(images) - mean) / std, labels

    paths = sorted(folder.glob("*/*"))
    names = sorted({path.parent.name for path in paths})
    labels = [names.index(path.parent.name) for path in paths]
    examples = tf.data.Dataset.from_tensor_slices(([str(path) for path in paths], labels))
    batches = examples.shuffle(len(paths)).map(one, **parallel).batch(BATCH)
    return batches.map(finish, **parallel).prefetch(tf.data.AUTOTUNE)


def torch(folder: Path) -> Iterable[Any]:
    """PyTorch's DataLoader over Pillow."""
    import numpy as np
    import torch
    from PIL import Image

    paths = sorted(folder.glob("*/*"))
    names = sorted({path.parent.name for path in paths})
    mean, std = (torch.tensor(row)[:, None, None] for row in (MEAN, STD))

    class Photographs(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, i: int) -> Any:
            with paths[i].open("rb") as file:
                image = Image.open(file).convert("RGB")
            left, top, width, height = window(*image.size)
            image = image.crop((left, top, left + width, top + height))
            image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            if torch.rand(1) < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
            return (pixels.float().div(255) - mean) / std, names.index(paths[i].parent.name)

    def window(width: int, height: int) -> tuple[int, int, int, int]:
        for _ in range(10):
            area = width * height * torch.empty(1).uniform_(*AREA).item()
            aspect = math.exp(torch.empty(1).uniform_(*map(math.log, ASPECT)).item())
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                left, top = (
                    int(torch.randint(0, n, (1,))) for n in (width - w + 1, height - h + 1)
                )
                return left, top, w, h
        return 0, 0, width, height

    return torch.utils.data.DataLoader(
        Photographs(), BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True
    )


PIPELINES: dict[str, Callable[[Path], Iterable[Any]]] = {
    "ours": ours,
    "keras_cv": keras_cv,
    "torch": torch,
}


def serve(name: str, folder: Path) -> None:
    """Runs an epoch and prints its seconds, for each line that comes in."""
    batches = PIPELINES[name](folder)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in batches:
            pass
        print(time.perf_counter() - start, flush=True)


def main() -> int:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="photographs, one folder for each class")
    parser.add_argument("--keras-cv", default=sys.executable, help="a Python that has KerasCV")
    parser.add_argument("--images", type=int, default=1024, help="photographs in an epoch")
    parser.add_argument("--repeats", type=int, default=7, help="epochs of each that count")
    parser.add_argument("--cores", type=int, default=2, help="processor cores for all (on Linux)")
    parser.add_argument("--alone", choices=PIPELINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        serve(options.alone, options.folder)
        return 0
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    with tempfile.TemporaryDirectory() as scratch:
        count = prepare(options.folder, Path(scratch), options.images)
        processes = {}
        for name in PIPELINES:
            python = options.keras_cv if name == "keras_cv" else sys.executable
            command = [python, __file__, scratch, "--alone", name]
            processes[name] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        try:
            seconds = by_turns(processes, options.repeats)
        finally:
            for process in processes.values():
                process.communicate()
    bad = []
    print(f"{'':10}images/s   ours is faster (median of {options.repeats})")
    for name, row in seconds.items():
        ratios = [a / b for a, b in zip(row, seconds["ours"], strict=True)]
        ratio = statistics.median(ratios)
        print(f"{name:10}{count / statistics.median(row):8.0f}{ratio:10.2f}", end="")
        print(f"   ({min(ratios):.2f} to {max(ratios):.2f})" if name != "ours" else "")
        if ratio < DEMANDED.get(name, 0):
            bad.append(f"{name} {DEMANDED[name]}")
    if bad:
        print(f"Below what is demanded: {', '.join(bad)}")
    return 1 if bad else 0


def by_turns(processes: dict[str, Any], repeats: int) -> dict[str, list[float]]:
    """The seconds of each epoch, after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in processes}
    for turn in range(repeats + 1):
        for name, process in processes.items():
            process.stdin.write("\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"The pipeline {name!r} failed; its message is above.")
            if turn:
                seconds[name].append(float(line))
    return seconds


if __name__ == "__main__":
    sys.exit(main())
