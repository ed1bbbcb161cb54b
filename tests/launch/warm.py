"""Commands in processes that need not import anything: forks of one that has.

    tests                       template              lead, a fork            its template, a fork
      | -- words, folder ---------> | fork -------------> | fork -----------------> |
      |                             |                     | blockstep.main(words)   |
      | <------------- its output, in a file ------------ |                         | fork --> ranks
      | <-- how it ended ---------- |

A lead imports PyTorch and begins a template that imports it again; that takes longer than most
runs of tests.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn
from unittest import mock

from blockstep.launch import nursery as nurseries

from tests.fork import begin_fork

__all__ = ["WarmProcess", "lead"]


class WarmProcess:
    """A function in a process of its own; what of :class:`subprocess.Popen` tests use.

    Args:
        function: It ends its process, e.g. :func:`lead`.
        args: Picklable.
        cwd: Where the process is.

    Attributes:
        pid: Its number, and that of its process group.
    """

    def __init__(self, function: Callable[..., NoReturn], *args: Any, cwd: Path) -> None:
        handle, path = tempfile.mkstemp(prefix="lead-", suffix=".log", dir=cwd)
        os.close(handle)
        self._log = Path(path)
        self._worker = begin_fork(function, *args, folder=cwd, log=self._log)
        self.pid = self._worker.pid

    @property
    def returncode(self) -> int | None:
        """How it ended, a signal as a negative number."""
        return self._worker.poll()

    def poll(self) -> int | None:
        """Return :attr:`returncode`."""
        return self._worker.poll()

    def wait(self, timeout: float) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: It still runs.
        """
        code = self._worker.wait(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("blockstep", timeout)
        return code

    def communicate(self, timeout: float = 10.0) -> tuple[str, None]:
        """Wait for its end and return what it printed."""
        self.wait(timeout)
        return self._log.read_text(), None

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        self._worker.send_signal(number)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)


def lead(words: Sequence[str]) -> NoReturn:
    """Do what ``python -m blockstep WORDS`` does."""
    status = 1
    try:
        sys.argv = ["blockstep", *words]
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)  # pyright: ignore[reportAttributeAccessIssue]
        # In that module alone: ranks, which are forks of the template, start programs as ever.
        forking = SimpleNamespace(Popen=_Fork, DEVNULL=subprocess.DEVNULL)
        with mock.patch.object(nurseries, "subprocess", forking):
            nurseries.nursery(os.environ)

        from blockstep.launch.cli import main

        status = main(words)
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class _Fork:
    """A template, begun by a fork instead of by a command. No other thread runs yet."""

    def __init__(self, command: Sequence[str], *, pass_fds: Sequence[int], **others: Any) -> None:
        (kept,) = pass_fds
        self.pid, self._status = os.fork(), None
        if self.pid == 0:
            try:
                os.setsid()
                for descriptor in map(int, os.listdir("/proc/self/fd")):
                    if descriptor > 2 and descriptor != kept:
                        with suppress(OSError):
                            os.close(descriptor)
                from blockstep.launch.template import main

                main(kept)
            finally:
                os._exit(0)

    def poll(self) -> int | None:
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
