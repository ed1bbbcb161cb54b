"""Starting worker processes and following them: the leader's side of the template.

See :mod:`blockstep.launch.template` for who does what.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from .template import LIMIT_BYTES

__all__ = ["Nursery", "NurseryError", "Worker", "nursery"]

START_SECONDS = 300.0
"""How long the template may take to import and to fork; a cold network file system is slow."""

POLL_SECONDS = 0.02
CLOSE_SECONDS = 5.0

AT_IMPORT = ("MKL_", "KMP_", "GOMP_", "TORCH", "PYTORCH_", "PYTHON", "LD_", "MALLOC_", "GLIBC_",
             "CUDA_", "TRITON_")  # fmt: skip
"""Variables that libraries read when they are imported, so that a template has them for good."""


class NurseryError(RuntimeError):
    """The template ended, or did not answer."""


class Worker:
    """A worker process.

    Attributes:
        pid: Its number.
        stdin: Where it reads its payload from.
    """

    def __init__(self, nursery: Nursery, pid: int, stdin: BinaryIO) -> None:
        self.pid = pid
        self.stdin = stdin
        self._nursery = nursery

    def poll(self) -> int | None:
        """Return how it ended, a signal as a negative number; None while it runs."""
        return self._nursery.status_of(self.pid)

    def wait(self, seconds: float) -> int | None:
        """Wait for its end, so long at most, and return :meth:`poll`."""
        deadline = time.perf_counter() + seconds
        while self.poll() is None and time.perf_counter() < deadline:
            time.sleep(POLL_SECONDS)
        return self.poll()

    def send_signal(self, number: int) -> None:
        """Send it a signal; nothing happens if it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Nursery:
    """A template, and the workers that came from it.

    Args:
        environment: What the template's libraries find when they are imported.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self._status: dict[int, int] = {}
        self._gone = False
        self._template = subprocess.Popen(
            [sys.executable, "-m", "blockstep.launch.template", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            env=dict(environment),
            pass_fds=[theirs.fileno()],
            # Its leader's Ctrl-C is not for it; its own end is the socket's.
            start_new_session=True,
        )
        theirs.close()

    @property
    def alive(self) -> bool:
        """Whether the template can still fork."""
        return self._template.poll() is None

    def start(self, environment: Mapping[str, str], log: Path) -> Worker:
        """Fork a worker.

        Args:
            environment: Its variables.
            log: What it prints is appended there.

        Raises:
            NurseryError: The template has ended.
        """
        order = {"environment": dict(environment), "folder": os.getcwd()}
        theirs, ours = os.pipe()
        stdin = os.fdopen(ours, "wb")
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            with self._lock:
                socket.send_fds(self._socket, [json.dumps(order).encode()], [theirs, file])
                return Worker(self, self._await_pid(), stdin)
        except OSError as error:
            raise NurseryError(f"worker processes cannot be started: {error}") from error
        finally:
            os.close(theirs)
            os.close(file)

    def status_of(self, pid: int) -> int | None:
        """Return how a worker ended, or None."""
        with self._lock:
            self._socket.settimeout(0)
            while not self._gone:
                try:
                    self._take()
                except BlockingIOError:
                    break
                except (NurseryError, OSError):
                    self._gone = True
            # The kernel kills the workers of a template that ends.
            return self._status.get(pid, -signal.SIGKILL if self._gone else None)

    def close(self) -> None:
        """End the template, and with it what still runs of its workers."""
        self._socket.close()
        try:
            self._template.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._template.kill()
            self._template.wait()

    def _await_pid(self) -> int:
        self._socket.settimeout(START_SECONDS)
        while True:
            pid = self._take()
            if pid is not None:
                return pid

    def _take(self) -> int | None:
        """Read one answer: the number of a new worker, or None for the end of one."""
        text = self._socket.recv(LIMIT_BYTES)
        if not text:
            raise NurseryError("the process that starts workers has ended")
        answer = json.loads(text)
        if "status" not in answer:
            return int(answer["pid"])
        self._status[int(answer["pid"])] = int(answer["status"])
        return None


_nurseries: dict[frozenset[tuple[str, str]], Nursery] = {}
_lock = threading.Lock()


@atexit.register
def _close_all() -> None:
    for known in _nurseries.values():
        known.close()


def nursery(environment: Mapping[str, str]) -> Nursery:
    """Return the nursery of this process, begun when it is first wanted.

    Args:
        environment: Of the workers to come. Another one is begun where variables differ that
            libraries read when they are imported.
    """
    fixed = frozenset(pair for pair in environment.items() if pair[0].startswith(AT_IMPORT))
    with _lock:
        known = _nurseries.get(fixed)
        if known is None or not known.alive:
            # One thread: a fork copies no others. Each worker sets its own number.
            alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            known = _nurseries[fixed] = Nursery({**environment, **alone})
        return known
