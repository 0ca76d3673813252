"""What a run was made with."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import keras

from keras_cnn_classics._files import written

VERSIONS = "versions.txt"
PACKAGES = ("keras-cnn-classics", "keras", "tensorflow", "jax", "torch", "numpy")
# Settings that may change what comes out. Terraform's begin with TF_, too, and may be secret.
_VARIABLES = re.compile(
    r"KERAS_BACKEND|(XLA|JAX|CUDA|CUBLAS|OMP|PYTORCH)_\w+"
    r"|TF_(CONFIG|XLA_FLAGS|\w*DETERMINISTIC\w*|ENABLE_\w+|NUM_\w+|GPU_\w+|FORCE_GPU\w+)"
)


def provenance() -> dict[str, Any]:
    """Versions, machine and settings, as they stand in a run's summary."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "versions": versions,
        "environment": {
            "backend": keras.backend.backend(),
            "platform": platform.platform(),
            "processors": os.cpu_count(),
            "devices": devices(),
            "floatx": keras.config.floatx(),
            "image_data_format": keras.config.image_data_format(),
            "variables": {
                name: value
                for name, value in sorted(os.environ.items())
                if _VARIABLES.fullmatch(name)
            },
        },
    }


def write_versions(folder: Path) -> None:
    """Writes what is installed to a file of a folder, for `pip install -r`.

    What no index has is a comment there.
    """
    lines: dict[str, str] = {}
    for one in metadata.distributions():
        name = one.metadata and one.metadata["Name"]
        if not name:  # left by an installation that was interrupted
            continue
        public, _, build = one.version.partition("+")  # such as torch 2.13.0+cpu
        if one.read_text("direct_url.json"):  # a folder's own metadata beside it do not say so
            what = f"# {name} {one.version}, which was installed from a folder or an address"
            lines[name.lower()] = what
        else:
            what = f"{name}=={public}" + (f"  # {one.version} here" if build else "")
            lines.setdefault(name.lower(), what)
    header = f"# Python {platform.python_version()} on {sys.platform}"
    with written(folder / VERSIONS) as scratch:
        scratch.write_text("\n".join([header, *(lines[name] for name in sorted(lines)), ""]))


def devices() -> list[str]:
    """What the backend can compute on, by its own names."""
    if keras.backend.backend() == "torch":
        import torch

        count = torch.cuda.device_count()
        return ["cpu", *(f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(count))]
    return list(keras.distribution.list_devices())
