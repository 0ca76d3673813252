"""What a run was made with."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib import metadata
from typing import Any

import keras

PACKAGES = ("keras-cnn-classics", "keras", "tensorflow", "jax", "torch", "numpy")
# Settings that may change what comes out. Terraform's begin with TF_, too, and may be secret.
_VARIABLES = re.compile(
    r"KERAS_BACKEND|(XLA|JAX|CUDA|CUBLAS|OMP|PYTORCH)_\w+"
    r"|TF_(CONFIG|XLA_FLAGS|\w*DETERMINISTIC\w*|ENABLE_\w+|NUM_\w+|GPU_\w+|FORCE_GPU\w+)"
)


def provenance() -> dict[str, Any]:
    """Versions, machine and settings, as they stand in a run's summary."""
    versions = installed()
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: versions[name] for name in PACKAGES if name in versions},
        },
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


def installed() -> dict[str, str]:
    """The version of every installed package, by its name as pip writes it."""
    found = {one.metadata["Name"]: one.version for one in _distributions()}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def requirements() -> str:
    """The packages as a file for `pip install -r`; what no index has is a comment."""
    local = {one.metadata["Name"] for one in _distributions() if one.read_text("direct_url.json")}
    lines = [f"# Python {platform.python_version()} on {sys.platform}"]
    for name, version in installed().items():
        public, _, build = version.partition("+")  # such as torch 2.13.0+cpu
        if name in local:
            lines.append(f"# {name} {version}, which was installed from a folder or an address")
        else:
            lines.append(f"{name}=={public}" + (f"  # {version} here" if build else ""))
    return "\n".join(lines) + "\n"


def _distributions() -> list[metadata.Distribution]:
    """The installed packages, without what interrupted installations have left."""
    return [one for one in metadata.distributions() if one.metadata and one.metadata["Name"]]


def devices() -> list[str]:
    """What the backend can compute on, by its own names."""
    if keras.backend.backend() == "torch":
        import torch

        count = torch.cuda.device_count()
        return ["cpu", *(f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(count))]
    return list(keras.distribution.list_devices())
