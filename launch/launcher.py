"""Our own launcher: one worker process per rank on this machine, watched until all are gone.

    leader:  store (loopback) + Monitor + signals
       |
       +-- template -+-- rank 0 -> runs/NAME/rank0.log
                     +-- rank 1 -> ...

However the run ends, no worker is left behind: those that do not end by themselves are
terminated, then killed; and a leader that vanishes takes them along.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from .job import Job, Objects
from .membership import Membership, host_store
from .monitor import Monitor
from .nursery import Worker, nursery
from .outcome import Failure, Outcome
from .process import write_payload
from .program import find_program
from .rotation import Rotation

__all__ = ["launch"]

POLL_SECONDS = 0.1
TERMINATE_SECONDS = 3.0
KILL_SECONDS = 10.0
SIGTERM_SECONDS = 5.0
LOG_TAIL_BYTES = 2000


def launch(job: Job, objects: Objects) -> Outcome:
    """Run a job on this machine's devices and return how it ended.

    Args:
        job: The run.
        objects: What a Python caller brought along.
    """
    server, port = host_store()
    ranks = job.ranks
    members = [
        Membership(rank, ranks, rank, ranks, "127.0.0.1", port, "blockstep", False)
        for rank in range(ranks)
    ]
    monitor = find_program(job.command).monitor.of(job, members[0])
    crew = Crew(job, objects, members)
    path = str(job.folder.path)
    outcome = Outcome(
        path, "failed", failure=Failure("the launcher", 0, "it did not come to an end")
    )
    try:
        outcome = _follow(job, monitor, crew)
    finally:
        crew.end()
        monitor.close(outcome.summary)
        del server
    return outcome


def _follow(job: Job, monitor: Monitor[Any], crew: Crew) -> Outcome:
    """Poll until every worker has ended or something failed."""
    began = time.perf_counter()
    rotation = Rotation([job.folder.log(rank) for rank in range(job.ranks)])
    with signals(monitor) as received:
        crew.start()
        while crew.running() and monitor.failure is None:
            monitor.poll()
            crew.check(monitor)
            rotation.look()
            if received.hard:
                return Outcome(str(job.folder.path), received.status)
            time.sleep(POLL_SECONDS)
        monitor.poll()
    if monitor.failure is None and not monitor.done:
        crew.check(monitor)
        monitor.fail(Failure("the workers", 0, "they ended before the run did"))
    seconds = time.perf_counter() - began
    return monitor.conclude(status=received.status, seconds=seconds)


class Crew:
    """The worker processes.

    Args:
        job: The run.
        objects: What a Python caller brought along.
        members: One per worker.
    """

    def __init__(self, job: Job, objects: Objects, members: list[Membership]) -> None:
        self._job = job
        self._objects = objects
        self._members = members
        self._workers: list[Worker] = []

    def start(self) -> None:
        """Start every worker and hand it its job."""
        text = self._job.to_json()
        for member in self._members:
            environment = self._environment(member)
            log = self._job.folder.log(member.rank)
            self._workers.append(nursery(environment).start(environment, log))
        for member, worker in zip(self._members, self._workers, strict=True):
            reads = self._job.reads_data(member.rank)
            objects = self._objects if reads else Objects(self._objects.network)
            # A worker that died at once is reported by check().
            with suppress(BrokenPipeError):
                write_payload(worker.stdin, text, objects)

    def running(self) -> bool:
        """Whether a worker has not ended."""
        return any(worker.poll() is None for worker in self._workers)

    def check(self, monitor: Monitor[Any]) -> None:
        """Report a worker that ended badly without having said why."""
        for rank, worker in enumerate(self._workers):
            status = worker.poll()
            if status is None or status == 0:
                continue
            monitor.poll()
            if monitor.failure is None and (status < 0 or not monitor.heard_of_failure(rank)):
                where = self._job.label(rank)
                text = f"{_describe(status)}{self._tail(rank)}"
                monitor.fail(Failure(where, monitor.step_of(rank), text))

    def end(self) -> None:
        """End every worker that still runs."""
        for worker in self._workers:
            worker.send_signal(signal.SIGTERM)
        deadline = time.perf_counter() + TERMINATE_SECONDS
        for worker in self._workers:
            if worker.wait(max(0.0, deadline - time.perf_counter())) is None:
                worker.send_signal(signal.SIGKILL)
                worker.wait(KILL_SECONDS)

    def _environment(self, member: Membership) -> dict[str, str]:
        threads = str(self._job.config.train.threads or 1)
        quiet = {"TORCH_CPP_LOG_LEVEL": "ERROR", "PYTHONUNBUFFERED": "1"}
        own = {"OMP_NUM_THREADS": threads, "GLOO_SOCKET_IFNAME": "lo"}
        return {**quiet, **os.environ, **own, **member.environment()}

    def _tail(self, rank: int) -> str:
        path = self._job.folder.log(rank)
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
            tail = file.read().decode(errors="replace").strip()
        return f"; the end of {path}:\n{tail}" if tail else f"; its log is {path}"


def _describe(status: int) -> str:
    if status > 0:
        return f"the process ended with status {status}"
    name = signal.Signals(-status).name
    hint = " (out of memory, or killed by somebody)" if -status == signal.SIGKILL else ""
    return f"the process was ended by {name}{hint}"


class _Received:
    """The signals that arrived."""

    def __init__(self) -> None:
        self.status = "finished"
        self.hard = False
        self.deadline: float | None = None


@contextmanager
def signals(monitor: Monitor[Any]) -> Iterator[Any]:
    """Ctrl-C once ends the run with a checkpoint, twice at once; SIGTERM waits 5 s at most.

    A terminal that is closed (SIGHUP) is as SIGTERM, unless it is ignored, as nohup has it.
    """
    received = _Received()
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def interrupt(number: int, frame: Any) -> None:
        if received.status == "interrupted":
            received.hard = True
            return
        received.status = "interrupted"
        monitor.view.print("stopping with a checkpoint; press Ctrl-C again to stop at once")
        monitor.request_stop()

    def terminate(number: int, frame: Any) -> None:
        if received.status != "terminated":
            received.status = "terminated"
            monitor.request_stop()
            timer = threading.Timer(SIGTERM_SECONDS, lambda: setattr(received, "hard", True))
            timer.daemon = True
            timer.start()

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, interrupt),
        signal.SIGTERM: signal.signal(signal.SIGTERM, terminate),
    }
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, terminate)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
