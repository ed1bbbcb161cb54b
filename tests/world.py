"""One world of gloo processes for all tests that need some: starting one takes seconds.

    test  --- ("package.module", "function", arguments) --->  rank 0, 1, 2
          <-- value | traceback | nothing within the limit ---

A failure ends the whole world, because its ranks may wait for each other; the next job starts a
new one.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import pickle
import queue
import signal
import socket
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from blockstep.launch.nursery import Worker

from tests.fork import begin_fork

__all__ = ["World", "WorldError"]

TESTS = str(Path(__file__).resolve().parent)

LIMIT_SECONDS = 60.0
GRACE_SECONDS = 3.0
"""How long the other ranks may still work when one has failed."""

MAX_LOG = 4000


class WorldError(AssertionError):
    """A job failed, hung or died; the text has the tracebacks of its ranks."""


@dataclass
class _Rank:
    number: int
    process: Worker
    pipe: Connection
    log: Path


class World:
    """Processes that have joined one default process group and wait for jobs.

    Args:
        size: Number of processes.
        folder: For the rendezvous file and the logs.
        limit: Seconds a job may take, the start of the processes included.
    """

    def __init__(self, size: int, folder: Path, *, limit: float = LIMIT_SECONDS) -> None:
        self.size = size
        self._folder = folder
        self._limit = limit
        self._generation = 0
        self._ranks: list[_Rank] = []

    def run(
        self,
        job: Callable[..., Any],
        *args: Any,
        dying: Sequence[int] = (),
        limit: float | None = None,
    ) -> list[Any]:
        """Run ``job(rank, *args)`` in every rank.

        Args:
            job: A function of a module in tests/; it is sent by name.
            args: Picklable.
            dying: Ranks that are expected to end; their value is None.
            limit: Seconds allowed, if not the world's.

        Returns:
            The value of each rank.

        Raises:
            WorldError: A rank raised, hung or ended.
        """
        seconds = self._limit if limit is None else limit
        if not self._ranks:
            self._start()
            seconds += self._limit
        for rank in self._ranks:
            rank.pipe.send_bytes(pickle.dumps((job.__module__, job.__name__, args)))
        answers = self._collect(job.__name__, seconds, dying)
        if dying:
            self.close()
        return [answers[number] for number in range(self.size)]

    def close(self) -> None:
        """End the processes."""
        for rank in self._ranks:
            rank.pipe.close()
            rank.process.send_signal(signal.SIGKILL)
            rank.process.wait(GRACE_SECONDS)
        self._ranks = []

    def _start(self) -> None:
        self._generation += 1
        meeting = self._folder / f"meeting-{self._generation}"
        address = str(self._folder / f"door-{self._generation}")
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(address)
            door.listen()
            door.settimeout(self._limit)
            for number in range(self.size):
                log = self._folder / f"rank{number}-{self._generation}.log"
                process = begin_fork(
                    _main, number, self.size, str(meeting), address, folder=self._folder, log=log
                )
                # One at a time: who calls is the rank that was begun last.
                pipe = Connection(door.accept()[0].detach())
                self._ranks.append(_Rank(number, process, pipe, log))

    def _collect(self, name: str, seconds: float, dying: Sequence[int]) -> dict[int, Any]:
        """Wait for every rank; one failure shortens the time of the others."""
        deadline = time.monotonic() + seconds
        answers: dict[int, Any] = {}
        problems: list[str] = []
        pending = {rank.pipe: rank for rank in self._ranks}
        while pending and (left := deadline - time.monotonic()) > 0:
            for pipe in wait(list(pending), timeout=left):
                assert isinstance(pipe, Connection)
                rank = pending.pop(pipe)
                try:
                    good, value = pickle.loads(pipe.recv_bytes())
                except (EOFError, ConnectionResetError):
                    good, value = rank.number in dying, None
                    if not good:
                        value = (
                            f"it ended with status {rank.process.wait(GRACE_SECONDS)}{_tail(rank)}"
                        )
                if good:
                    answers[rank.number] = value
                    continue
                problems.append(f"rank {rank.number}: {value}")
                deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
        problems += self._hung(list(pending.values()), seconds)
        if problems:
            self.close()
            raise WorldError(f"{name} failed\n" + "\n".join(problems))
        return answers

    def _hung(self, ranks: Sequence[_Rank], seconds: float) -> list[str]:
        for rank in ranks:
            rank.process.send_signal(signal.SIGUSR1)
        if ranks:
            time.sleep(0.5)
        return [
            f"rank {rank.number}: no answer within {seconds:.0f} s; it was here:{_tail(rank)}"
            for rank in ranks
        ]


def _tail(rank: _Rank) -> str:
    return f"\n{rank.log.read_text(errors='replace')[-MAX_LOG:]}"


def _main(rank: int, size: int, meeting: str, address: str) -> None:
    """Take jobs and answer them, in the main thread, until the tests are gone."""
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    tests = types.ModuleType("tests")
    tests.__path__ = [TESTS]
    sys.modules["tests"] = tests
    jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    door = socket.socket(socket.AF_UNIX)
    door.connect(address)
    pipe = Connection(door.detach())
    threading.Thread(target=_listen, args=(pipe, jobs), daemon=True).start()

    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=LIMIT_SECONDS),
    )
    while True:
        module, name, args = pickle.loads(jobs.get())
        try:
            answer = True, getattr(importlib.import_module(module), name)(rank, *args)
        except BaseException:
            answer = False, traceback.format_exc()
        pipe.send_bytes(pickle.dumps(answer))


def _listen(pipe: Connection, jobs: queue.SimpleQueue[bytes]) -> None:
    """Pass jobs on; when the tests are gone, so is this process, whatever it is doing."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            jobs.put(pipe.recv_bytes())
    os._exit(0)
