"""One rank of a run, from joining the others to its last report: what all commands have in common.

join -> take part (the command's own) -> leave; whatever goes wrong is reported and raised
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Generic, TypeVar

import torch
import torch.distributed as dist

from ..pipeline.checkpoint import Shard
from ..pipeline.feed import StopRequest
from ..pipeline.link import LinkClosedError
from ..pipeline.mailbox import StoreMailbox
from ..pipeline.memory import keep_freed_memory
from ..pipeline.watchdog import Pulse, ordered
from ..pipeline.worker import Activity, RemoteError
from .job import Job, Objects
from .membership import Membership

__all__ = ["Rank"]

POLL_SECONDS = 0.02
ECHO_SECONDS = 3.0

J = TypeVar("J", bound=Job)


class Rank(ABC, Generic[J]):
    """What one process does in a run.

    Args:
        job: The run.
        objects: What a Python caller brought along.
        member: Which rank this is.
        stop: Ends the run early, with a checkpoint, when set.
    """

    def __init__(self, job: J, objects: Objects, member: Membership, *, stop: StopRequest) -> None:
        self._job = job
        self._objects = objects
        self._member = member
        self._stop = stop
        self._store = member.store()
        self._mail = StoreMailbox(member.store(), member.rank)
        self._activities: Sequence[Activity] = self._begin()

    def run(self) -> None:
        """Take part in the run until it ends; report what goes wrong and raise it."""
        pulse = Pulse(
            self._member.store(),
            self._member.rank,
            self._activities,
            stop=self._stop,
            post=self._mail,
        )
        try:
            self._take_part(self._join())
        except BaseException as error:
            self._report(error)
            raise
        pulse.end()

    def _begin(self) -> Sequence[Activity]:
        """Return what the watchdog sees of this rank; the one that changed last counts."""
        return [Activity(since=time.perf_counter())]

    @abstractmethod
    def _take_part(self, device: torch.device) -> None:
        """Do this rank's work until the order to finish."""

    def _warn(self, text: str) -> None:
        """Tell ranks that wait for this one that it failed."""

    def _join(self) -> torch.device:
        job = self._job
        torch.set_num_threads(job.config.train.threads or 1)
        device = job.device(self._member.rank, self._member.local_rank)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        else:
            keep_freed_memory()
        dist.init_process_group(
            "gloo",
            store=self._member.store(),
            rank=self._member.rank,
            world_size=self._member.world,
            timeout=timedelta(seconds=job.waits.start_timeout),
        )
        return device

    def _ready(self, device: torch.device, **facts: Any) -> None:
        """Say so, and wait until all ranks have: what is measured next needs them idle."""
        self._mail.post(
            {
                "event": "ready",
                "rank": self._member.rank,
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "device": str(device),
                "threads": torch.get_num_threads(),
                **facts,
            }
        )
        self._await_order("go")

    def _await_order(self, name: str) -> None:
        while not ordered(self._store, name):
            time.sleep(POLL_SECONDS)

    def _post_shards(self, step: int, part: int, shards: Sequence[Shard]) -> None:
        written = [asdict(shard) for shard in shards]
        self._mail.post({"event": "shards", "step": step, "part": part, "shards": written})

    def _report(self, error: BaseException) -> None:
        """Tell the monitor, then who waits; what those report next is only an echo."""
        report: dict[str, Any] = {
            "event": "failed",
            "rank": self._member.rank,
            "step": max(activity.step for activity in self._activities),
            "error": type(error).__name__,
            "text": str(error),
            "traceback": "".join(traceback.format_exception(error)),
            "echo": isinstance(error, LinkClosedError | RemoteError),
        }
        try:
            self._mail.post(report)
            self._warn(f"{type(error).__name__}: {error}")
        except Exception:
            # The store or the link may be what failed; the first error is raised anyway.
            traceback.print_exc()
        if report["echo"]:
            # torchrun calls the error that it hears first the root cause; this one is not.
            time.sleep(ECHO_SECONDS)
