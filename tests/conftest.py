"""Settings that must be made before TensorFlow is imported.

oneDNN's kernels differ between processors, and in TensorFlow 2.21 one crashes: the gradient of a
1x1 convolution with a step of 2 and very few channels. Without oneDNN there are no grouped or
channels-first convolutions on a CPU, so it stays on and tiny models keep 16 channels.
"""

import functools
import gc
import os
import sys
import typing

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("MPLBACKEND", "agg")
# A test that forgets `weights=None` fails at once, instead of downloading.
os.environ["KCC_OFFLINE"] = "1"


# Keras asks TensorFlow again and again whether something is a tensor, which looks at a protocol.
# Python 3.11 finds its members anew each time; later ones remember them.
if sys.version_info < (3, 12):
    typing._get_protocol_attrs = functools.cache(typing._get_protocol_attrs)


def leave_graphs_as_they_are():
    """TensorFlow shall not optimize graphs, most of which run once: that would take longer."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden")
    parser.addoption(
        "--two-devices", action="store_true", help="run only what wants the processor split in two"
    )


def pytest_collection_modifyitems(config, items):
    """Tests of two devices have a process of their own, which `test_two_devices.py` starts.

    A processor can be split only before it is used, and it is split then for all tests.
    """
    import keras

    leave_graphs_as_they_are()
    backend = keras.backend.backend()
    for marker, quick in (("slow_elsewhere", "tensorflow"), ("slow_compiled", "torch")):
        for one in items:
            if backend != quick and one.get_closest_marker(marker):
                one.add_marker(pytest.mark.slow)
    # First what keeps one process busy for minutes, lest the others wait for it in the end.
    long = ("test_demo", "test_two_devices", "test_several_gpus")
    items.sort(key=lambda one: one.originalname not in long)
    split = config.getoption("--two-devices")
    others = [one for one in items if ("two_devices" in one.fixturenames) != split]
    config.hook.pytest_deselected(items=others)
    items[:] = [one for one in items if ("two_devices" in one.fixturenames) == split]


def pytest_collection_finish():
    """What imports have made stays, and need not be looked through at each collection."""
    gc.freeze()


@pytest.fixture(scope="session")
def two_devices():
    """The processor as two devices; tests that use it run with `--two-devices`."""
    from keras_cnn_classics.training import distribution

    return distribution.strategy("mirrored", devices="cpu:2")


@pytest.fixture(autouse=True)
def seed():
    """The same random numbers for a test whatever ran before it."""
    import keras

    keras.utils.set_random_seed(1998)


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a command in this process; gives exit code, output and error output."""

    from keras_cnn_classics import cli

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["keras-cnn-classics", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
