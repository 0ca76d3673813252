"""The tests that want two devices: all that use the fixture of this name."""

import os
import pathlib
import subprocess
import sys

import keras
import pytest


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras distributes nothing there")
def test_two_devices(request):
    """In a process whose processor is split; `pytest --two-devices` runs them directly."""
    command = [sys.executable, "-m", "pytest", "--two-devices", "-q", "-p", "no:cacheprovider"]
    # Of a parallel run, none of whose processes this one is.
    inner = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    here = pathlib.Path(__file__).parent
    if chosen := request.config.option.markexpr:
        command += ["-m", chosen]
    done = subprocess.run(
        [*command, here, here.parent / "transfer"],
        capture_output=True,
        text=True,
        check=False,
        env=inner,
    )
    assert done.returncode == 0, done.stdout
