"""Which devices and machines a run uses, and which of its processes writes."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras

NAMES = ("auto", "none", "mirrored", "multi-worker")
_SLURM_PORT = 8888  # of the first worker on a machine, the next one has the next


class _OneDevice:
    """No distribution, in the form of a strategy."""

    num_replicas_in_sync = 1

    def scope(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


def strategy(name: str = "auto", devices: str | None = None) -> Any:
    """Chooses the devices of a run.

    Whatever it gives is used in one way: `with strategy(...).scope():` around everything, from
    building the model to the end of `fit`. On JAX a model that leaves the scope is not distributed
    any more.

    Args:
        name: `"none"`: one device. `"mirrored"`: all GPUs of this machine, or `devices`.
            `"multi-worker"`: the machines that the environment variable `TF_CONFIG` names, or the
            tasks of a Slurm step if there is none. `"auto"`: `"multi-worker"` if `TF_CONFIG` names
            more than one worker, else `"mirrored"` if there are `devices` or several GPUs, else
            `"none"`.
        devices: `"gpu:2"` for two GPUs, `"cpu:2"` for the processor split into two devices, which
            shows that a program is right, but is not faster. Default: all GPUs.

    Returns:
        On TensorFlow a `tf.distribute.MirroredStrategy` or `MultiWorkerMirroredStrategy`, on JAX a
        `keras.distribution.DataParallel`, and an object with `scope()` for one device.

    Raises:
        ValueError: If the arguments contradict each other, or the backend cannot do it.
        RuntimeError: If the backend has used its devices already, so that they cannot be changed.
    """
    if name not in NAMES:
        known = ", ".join(map(repr, NAMES))
        raise ValueError(f"`name` must be one of {known}. Received: {name!r}")
    kind, count = _parse(devices)
    backend = keras.backend.backend()
    if workers() > 1 and name in ("none", "mirrored"):
        raise ValueError(
            f"TF_CONFIG names {workers()} workers: use 'multi-worker', or unset TF_CONFIG. "
            f"Received: {name!r}"
        )
    if name == "auto":
        name = _choose(kind, backend)
    if name == "none":
        if devices:
            raise ValueError(f"'none' takes one device, without `devices`. Received: {devices=}")
        return _OneDevice()
    if backend not in _DEVICES:
        raise ValueError(
            f"Keras trains on one device only with {backend}: use the strategy 'none', or the "
            f"backend tensorflow or jax (KERAS_BACKEND). Received: {name!r}"
        )
    if name == "multi-worker":
        if devices:
            raise ValueError(
                "'multi-worker' takes all GPUs of each worker (CUDA_VISIBLE_DEVICES names them), "
                f"without `devices`. Received: {devices=}"
            )
        return _multi_worker(backend)
    names = _DEVICES[backend](kind, count)
    if not names or len(names) < (count or 1):
        raise ValueError(
            f"There are {len(names)} GPUs for the strategy 'mirrored': devices='cpu:2' tries it "
            f"on the processor. Received: {devices=}"
        )
    if backend == "jax":
        return keras.distribution.DataParallel(devices=names)
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(names)


def replicas() -> int:
    """The number of replicas in the scope of a strategy; 1 outside of it."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return int(tf.distribute.get_strategy().num_replicas_in_sync)
    current = keras.distribution.distribution()
    return 1 if current is None else int(current.device_mesh.devices.size)


def workers() -> int:
    """The number of processes that train together, by `TF_CONFIG`."""
    return _place()[1]


def is_chief() -> bool:
    """Whether this process is the one that writes files: the first worker, or the only one."""
    return _place()[0] == 0


def any_worker(model: Any, flag: bool) -> bool:
    """Whether a flag is set on any worker; all of them must ask at the same time.

    What ends training must end it on all workers in one step, or the others wait for ever.
    """
    if workers() == 1:
        return flag
    return bool(_adding(model.distribute_strategy)(float(flag)) > 0)


@functools.lru_cache(maxsize=1)  # a process has one cluster, and mostly one strategy
def _adding(strategy: Any) -> Any:
    """A function that adds a number of each worker up, traced once."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((), "float32")])
    def add(number: Any) -> Any:
        return strategy.reduce("SUM", strategy.run(lambda: number), axis=None)

    return add


@contextlib.contextmanager
def saving(model: Any, path: Path) -> Iterator[Path]:
    """Gives the path where this process shall save the model; all workers must, at the same time.

    Saving makes variables (of the objects that Keras compares with), which in the scope of a
    strategy is work for all. What the others save is thrown away. When they leave, the chief's file
    is in its place.
    """
    if is_chief():
        yield path
    else:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch) / path.name
    any_worker(model, False)


def on_chief(callbacks: Iterable[Any] | None) -> list[Any]:
    """Keeps callbacks from writing files on all workers but the chief.

    Keras's `CSVLogger`, `TensorBoard` and `RemoteMonitor`, and any callback with a true attribute
    `chief_only`, are taken away there. `ModelCheckpoint` saves there, too, since all workers must,
    but to a scratch folder.

    Args:
        callbacks: Callbacks for `fit`, or `None`.

    Returns:
        The callbacks that this process shall run.

    Raises:
        ValueError: For `keras.callbacks.BackupAndRestore` among several workers: all of them must
            read what it writes, and they cannot.
    """
    kept = keras.tree.flatten(callbacks) if callbacks else []
    if workers() > 1:
        if any(isinstance(one, keras.callbacks.BackupAndRestore) for one in kept):
            raise ValueError(
                "BackupAndRestore makes all workers write one file: use "
                "keras_cnn_classics.training.TrainingState instead."
            )
        writers = tuple(
            getattr(keras.callbacks, name) for name in ("CSVLogger", "TensorBoard", "RemoteMonitor")
        )
        if not is_chief():
            kept = [
                one
                for one in kept
                if not isinstance(one, writers) and not getattr(one, "chief_only", False)
            ]
            for one in kept:
                if isinstance(one, keras.callbacks.ModelCheckpoint):
                    scratch = tempfile.mkdtemp()
                    weakref.finalize(one, shutil.rmtree, scratch, ignore_errors=True)
                    ending = ".weights.h5" if one.save_weights_only else Path(one.filepath).suffix
                    one.filepath = os.path.join(scratch, f"model{ending}")
    return kept


def _parse(devices: str | None) -> tuple[str | None, int | None]:
    if devices is None:
        return None, None
    match = re.fullmatch(r"(cpu|gpu):([1-9]\d*)", str(devices))
    if not match:
        raise ValueError(f"`devices` must be like 'cpu:2' or 'gpu:4'. Received: {devices!r}")
    return match[1], int(match[2])


def _choose(kind: str | None, backend: str) -> str:
    if workers() > 1:
        return "multi-worker"
    if kind:
        return "mirrored"
    if backend not in _DEVICES:
        return "none"
    return "mirrored" if len(_DEVICES[backend](None, None)) > 1 else "none"


def _tensorflow_devices(kind: str | None, count: int | None) -> list[str]:
    """The names of so many devices; those of the processor are made."""
    import tensorflow as tf

    if kind == "cpu":
        cpu, wanted = tf.config.list_physical_devices("CPU")[0], int(count or 1)
        if len(tf.config.get_logical_device_configuration(cpu) or ()) < wanted:
            parts = [tf.config.LogicalDeviceConfiguration() for _ in range(wanted)]
            try:
                tf.config.set_logical_device_configuration(cpu, parts)
            except RuntimeError as error:
                raise _too_late("TensorFlow", f"cpu:{wanted}") from error
        return [f"CPU:{i}" for i in range(wanted)]
    found = tf.config.list_physical_devices("GPU")
    return [f"GPU:{i}" for i in range(len(found))][:count]


def _jax_devices(kind: str | None, count: int | None) -> list[str]:
    if kind == "cpu":
        import jax

        with contextlib.suppress(RuntimeError):  # it is in use, perhaps with enough devices
            jax.config.update("jax_num_cpu_devices", count)
        found = keras.distribution.list_devices("cpu")
        if len(found) < (count or 1):
            raise _too_late("JAX", f"cpu:{count}")
        return found[:count]
    accelerators = [one for one in keras.distribution.list_devices() if not one.startswith("cpu")]
    return accelerators[:count]


_DEVICES = {"tensorflow": _tensorflow_devices, "jax": _jax_devices}


def _too_late(backend: str, what: str) -> RuntimeError:
    return RuntimeError(
        f"{backend} has used its devices already: call strategy(...) at the start of the program, "
        f"before anything is built or computed. Received: {what}"
    )


def _multi_worker(backend: str) -> Any:
    if backend == "jax":
        raise ValueError(
            "'multi-worker' needs the backend tensorflow (KERAS_BACKEND=tensorflow). "
            f"Received: {backend}"
        )
    import tensorflow as tf

    if "TF_CONFIG" not in os.environ and "SLURM_STEP_NUM_TASKS" in os.environ:
        # Into the environment, where TensorFlow and `is_chief` look.
        os.environ["TF_CONFIG"] = json.dumps(_slurm())
    if workers() < 2:
        raise ValueError(
            "'multi-worker' needs two or more workers in the environment variable TF_CONFIG, as "
            "`keras-cnn-classics launch` sets it. "
            f"Received: TF_CONFIG={os.environ.get('TF_CONFIG')!r}"
        )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        if "program startup" not in str(error):
            raise
        raise _too_late("TensorFlow", "multi-worker") from error


def _slurm() -> dict[str, Any]:
    """What `TF_CONFIG` would be for the tasks of this Slurm step."""
    import tensorflow as tf

    # The GPUs are Slurm's to deal out; but the resolver wants one for each task.
    resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
        port_base=_SLURM_PORT,
        gpus_per_node=int(os.environ["SLURM_STEP_NUM_TASKS"]),
        gpus_per_task=1,
        auto_set_gpu=False,
    )
    cluster = resolver.cluster_spec().as_dict()
    kind, index = resolver.get_task_info()
    return {"cluster": cluster, "task": {"type": kind, "index": index}}


def _place() -> tuple[int, int]:
    """The rank of this process and the number of processes, by `TF_CONFIG`."""
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        config = json.loads(text)
        cluster, task = config.get("cluster", {}), config.get("task", {})
        chiefs, others = len(cluster.get("chief", ())), len(cluster.get("worker", ()))
        kind, index = task.get("type", "worker"), int(task.get("index", 0))
        strange = set(cluster) - {"chief", "worker"}
    except (ValueError, TypeError, AttributeError):
        strange, kind = {"?"}, "?"
    if strange or kind not in ("chief", "worker"):
        raise ValueError(
            'TF_CONFIG must be like {"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
            f'"task": {{"type": "worker", "index": 0}}}}. Received: {text}'
        )
    return (0 if kind == "chief" else chiefs + index), max(1, chiefs + others)
