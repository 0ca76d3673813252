"""`launch`: the workers of one machine, started together and kept together.

TensorFlow's workers cannot replace one that died: the others fail, or wait for ever. So the job
ends and starts as a whole, and goes on from what it has saved.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Annotated, Any

import typer

RESTARTS = "KCC_RESTARTS"  # in a worker's environment: how often its job has been started again
JOB = "KCC_JOB"  # there, too: a name that no other job has
_USAGE, _INTERRUPTED = 2, 130
_AT_ONCE = 60.0  # seconds in which a job that cannot work has failed
_GRACE = 30.0  # seconds for workers to end in after they were asked to
_LONGEST_PAUSE = 60.0


def launch(
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="-- COMMAND...",
            help="A command of this program, such as `train`, or a Python script (.py), with its "
            "arguments.",
        ),
    ],
    workers: Annotated[int, typer.Option(min=1, help="Processes that train together.")] = 2,
    restarts: Annotated[
        int, typer.Option(min=0, help="How often the job is started again if a worker dies.")
    ] = 3,
) -> None:
    """Train with several processes of this machine, and start them again when one dies.

    Each worker finds the others by TF_CONFIG, and takes its share of CUDA_VISIBLE_DEVICES if that
    is set. Its lines come out labelled. A job that was started again has KCC_RESTARTS in its
    environment. It is given up after so many restarts, when it is used wrongly, or when it fails
    within a minute twice in the same way. Ctrl-C goes to all workers.
    """
    shares = _gpus(workers)
    if "--debug" in sys.argv and not _is_script(command):
        command = [*command, "--debug"]
    with _told() as told:
        code = supervise(command, shares, restarts, told)
    raise typer.Exit(code)


class Told:
    """What the user has told the launcher by signals."""

    def __init__(self) -> None:
        self.signals: list[int] = []

    def __call__(self, number: int, _: Any) -> None:
        self.signals.append(number)


@contextlib.contextmanager
def _told() -> Iterator[Told]:
    """Collects Ctrl-C and SIGTERM, instead of dying of them before the workers have ended."""
    told = Told()
    before = {n: signal.signal(n, told) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def supervise(command: list[str], shares: list[dict[str, str]], restarts: int, told: Told) -> int:
    """Runs the job until it succeeds or is given up.

    Args:
        command: The arguments after `--`.
        shares: For each worker, what its environment has beside that of this process.
        restarts: How often the job may be started again.
        told: What signals have come.

    Returns:
        The exit code of the launcher: 0, or that of the worker that failed.
    """
    job = uuid.uuid4().hex
    shares = [{**share, JOB: job} for share in shares]
    before, attempt = None, 0
    while True:
        start = time.monotonic()
        failure = _run(command, shares, attempt, told)
        if told.signals:
            return _INTERRUPTED
        if failure is None:
            return 0
        rank, code = failure
        exit_code = code if code > 0 else 128 - code
        quick = code if time.monotonic() - start < _AT_ONCE else None
        _say(f"worker {rank} {_ending(code)}; all workers are stopped.")
        if code == _USAGE or attempt == restarts:
            return exit_code
        if quick and quick == before:
            _say("That is the same failure as before: given up.")
            return exit_code
        before, attempt = quick, attempt + 1
        pause = min(_LONGEST_PAUSE, 2.0 ** (attempt - 1))
        _say(f"restart {attempt} of {restarts} in {pause:.0f} s.")
        if _wait(lambda: bool(told.signals), pause):
            return _INTERRUPTED


def _run(
    command: list[str], shares: list[dict[str, str]], attempt: int, told: Told
) -> tuple[int, int] | None:
    """Runs the job once: the rank and the code of the first worker that failed, or `None`."""
    module = [] if _is_script(command) else ["-m", "keras_cnn_classics"]
    hosts = [f"127.0.0.1:{port}" for port in _free_ports(len(shares))]
    running: list[subprocess.Popen[str]] = []
    readers = []
    try:
        for rank, share in enumerate(shares):
            config = {
                "cluster": {"worker": hosts},
                "task": {"type": "worker", "index": rank},
            }
            process = subprocess.Popen(
                [sys.executable, *module, *command],
                env={
                    **os.environ,
                    "PYTHONUNBUFFERED": "1",
                    "TF_CONFIG": json.dumps(config),
                    RESTARTS: str(attempt),
                    **share,
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C comes from here, once
            )
            running.append(process)
            reader = threading.Thread(target=_label, args=(process, rank), daemon=True)
            reader.start()
            readers.append(reader)
        failed, passed_on = None, 0
        while failed is None and any(p.poll() is None for p in running):
            time.sleep(0.1)
            failed = next(((i, p.returncode) for i, p in enumerate(running) if p.poll()), None)
            if len(told.signals) > passed_on:
                passed_on = len(told.signals)
                if passed_on > 1 or told.signals[0] != signal.SIGINT:
                    break
                for process in running:
                    _signal(process, signal.SIGINT)
                _wait(lambda: len(told.signals) > 1 or _ended(running), _GRACE)
                break
        # A worker may fail between the last look and the end of the loop.
        return failed or next(((i, p.returncode) for i, p in enumerate(running) if p.poll()), None)
    finally:
        _stop(running)
        for reader in readers:
            reader.join(timeout=5)


def _is_script(command: list[str]) -> bool:
    return command[0].endswith(".py")


def _label(process: subprocess.Popen[str], rank: int) -> None:
    assert process.stdout
    for line in process.stdout:
        sys.stdout.write(f"[worker {rank}] {line.rstrip()}\n")  # in one piece
        sys.stdout.flush()


def _stop(running: list[subprocess.Popen[str]]) -> None:
    for process in running:
        _signal(process, signal.SIGTERM)
    _wait(lambda: _ended(running), 5.0)
    for process in running:
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[str], number: int) -> None:
    """Sends a signal to a worker and what it has started."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _ended(running: list[subprocess.Popen[str]]) -> bool:
    return all(process.poll() is not None for process in running)


def _wait(condition: Any, seconds: float) -> bool:
    """Waits until a condition holds, or for so long; says whether it holds."""
    end = time.monotonic() + seconds
    while not (done := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return bool(done)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
        return ports


def _gpus(workers: int) -> list[dict[str, str]]:
    """Deals the GPUs that are named in the environment out to the workers."""
    name = "CUDA_VISIBLE_DEVICES"
    gpus = [gpu for gpu in os.environ.get(name, "").split(",") if gpu not in ("", "-1")]
    if not gpus:
        return [{} for _ in range(workers)]
    if len(gpus) % workers:
        raise typer.BadParameter(
            f"{name} names {len(gpus)} GPUs, which cannot be dealt out evenly. "
            f"Received: {workers} workers",
            param_hint="--workers",
        )
    each = len(gpus) // workers
    return [{name: ",".join(gpus[i * each : (i + 1) * each])} for i in range(workers)]


def _ending(code: int) -> str:
    if code > 0:
        return f"failed with exit code {code}"
    return f"was ended by {signal.Signals(-code).name}"


def _say(message: str) -> None:
    print(f"[launch] {message}", file=sys.stderr, flush=True)
