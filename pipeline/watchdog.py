"""Who is alive, who waits for whom, and since when: seen from beside the pipeline.

    each rank                        store                       monitor
    Pulse thread  --- pulse/RANK --> {state, step, seconds} --> Watch.examine() -> Hang | None
    (once a second)                                                  |
                  <-- order/NAME --- stop, stacks, finish <----------+

Links never time out by themselves: a gloo pair that timed out once is closed for good, and a long
wait may be legitimate. The watch knows the whole picture: who computes for too long, who no
longer answers, and who merely waits for them. Limits are generous until a rank's first step is
done (compilation, first reads of data) and tight afterwards.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from .feed import StopRequest
from .worker import Activity

__all__ = ["Hang", "Pulse", "Watch", "order", "ordered", "stacks"]

PULSE_SECONDS = 1.0
ORPHANED = 14
"""Exit status of a rank whose monitor is gone."""

WORDS = {
    "starting": "is starting",
    "wait_in": "waits for input",
    "busy": "computes",
    "wait_replicas": "waits for the other replicas of its stage",
    "wait_out": "waits for room in its link",
    "done": "is done",
}


def order(store: dist.Store, name: str, value: str = "1") -> None:
    """Tell all ranks something, once."""
    store.set(f"order/{name}", value)


def ordered(store: dist.Store, name: str) -> str | None:
    """Return what was ordered under ``name``; None if nothing was."""
    key = f"order/{name}"
    return store.get(key).decode() if store.check([key]) else None


def stacks() -> str:
    """Return the stack of every thread of this process."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        lines = "".join(traceback.format_stack(frame))
        parts.append(f"thread {names.get(ident, ident)}:\n{lines}")
    return "\n".join(parts)


class Pulse:
    """A rank's sign of life, and its ear for orders.

    If the store does not answer any more, whoever watched the run is gone: the process ends, so
    that nothing is ever left behind.

    Args:
        store: A client of its own.
        rank: This rank.
        activities: What its stages do; the one that changed last stands for the rank.
        stop: Set when a stop is ordered.
        post: Takes the report with the stacks when they are ordered.
    """

    def __init__(
        self,
        store: dist.Store,
        rank: int,
        activities: Sequence[Activity],
        *,
        stop: StopRequest,
        post: Any,
    ) -> None:
        self._store = store
        self._rank = rank
        self._activities = activities
        self._stop = stop
        self._post = post
        self._ended = threading.Event()
        self._beats = 0
        self._told = False
        store.set_timeout(timedelta(seconds=20))
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Say goodbye with a last beat: silence is no longer a sign of death."""
        self._ended.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        try:
            self._beat()
            while not self._ended.wait(PULSE_SECONDS):
                self._beat()
            self._beat()
        except Exception:
            if not self._ended.is_set():
                print(
                    f"rank {self._rank}: the store does not answer, so whoever watched the run is "
                    "gone; this process ends",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(ORPHANED)

    def _beat(self) -> None:
        self._beats += 1
        now = time.perf_counter()
        activity = max(self._activities, key=lambda activity: activity.since)
        pulse = {
            "beat": self._beats,
            "state": activity.state,
            "step": activity.step,
            "seconds": now - activity.since,
            "turns": activity.turns,
            "ended": self._ended.is_set(),
        }
        self._store.set(f"pulse/{self._rank}", json.dumps(pulse))
        if ordered(self._store, "stop"):
            self._stop.set()
        elif self._stop.is_set():
            order(self._store, "stop")
        if not self._told and ordered(self._store, "stacks"):
            self._told = True
            self._post.post({"event": "stacks", "rank": self._rank, "text": stacks()})


@dataclass(frozen=True)
class Hang:
    """A run that does not go on.

    Attributes:
        rank: The rank that holds it up.
        step: The step it is at.
        text: What it does, for how long, and what the others do.
    """

    rank: int
    step: int
    text: str


@dataclass
class _Sight:
    """What the watch last saw of a rank."""

    beat: int = 0
    at: float = field(default_factory=time.perf_counter)
    pulse: dict[str, Any] = field(default_factory=dict)


class Watch:
    """Finds the rank that holds up the run.

    Args:
        store: A client of its own.
        labels: What to call each rank, e.g. ``"stage 2 (rank 1, host a)"``.
        start_timeout: Seconds allowed until a rank's first step is done.
        timeout: Seconds allowed for a step afterwards, and between two signs of life at any time.
    """

    def __init__(
        self,
        store: dist.Store,
        labels: Sequence[str],
        *,
        start_timeout: float,
        timeout: float,
    ) -> None:
        self._store = store
        self._labels = labels
        self._start_timeout = start_timeout
        self._timeout = timeout
        self._sights = [_Sight() for _ in labels]

    def look(self) -> None:
        """Read every rank's pulse."""
        now = time.perf_counter()
        for rank, sight in enumerate(self._sights):
            key = f"pulse/{rank}"
            if self._store.check([key]):
                pulse = json.loads(self._store.get(key))
                if pulse["beat"] != sight.beat:
                    sight.beat, sight.at, sight.pulse = pulse["beat"], now, pulse

    def step_of(self, rank: int) -> int:
        """Return the step that ``rank`` was last seen at."""
        return self._sights[rank].pulse.get("step", 0)

    def examine(self) -> Hang | None:
        """Return the rank that holds up the run, if one does."""
        now = time.perf_counter()
        started = all(sight.pulse.get("turns", 0) > 1 for sight in self._sights)
        limit = self._timeout if started else self._start_timeout
        if any(sight.pulse.get("state") == "done" for sight in self._sights):
            limit = max(limit, self._start_timeout)
        for rank, sight in enumerate(self._sights):
            silent = now - sight.at
            # A rank that starts may compute for long, but its pulse has a thread of its own.
            allowed = self._timeout if sight.beat else limit
            if silent > allowed and not sight.pulse.get("ended"):
                return self._hang(rank, f"has given no sign of life for {silent:.0f} s", allowed)
        for state in ("busy", "starting"):
            for rank, sight in enumerate(self._sights):
                seconds = sight.pulse.get("seconds", 0.0)
                if sight.pulse.get("state") == state and seconds > limit:
                    return self._hang(rank, f"{WORDS[state]} since {seconds:.0f} s", limit)
        return self._deadlock(limit)

    def describe(self) -> list[str]:
        """Return one line per rank: what it does and since when."""
        lines = []
        for label, sight in zip(self._labels, self._sights, strict=True):
            if not sight.pulse:
                lines.append(f"{label} has not started")
                continue
            pulse = sight.pulse
            lines.append(
                f"{label} {WORDS[pulse['state']]} since {pulse['seconds']:.0f} s, "
                f"at step {pulse['step']}"
            )
        return lines

    def _deadlock(self, limit: float) -> Hang | None:
        """All ranks that are not done wait: blame the one that has waited longest."""
        waiting: dict[int, float] = {}
        for rank, sight in enumerate(self._sights):
            state, seconds = sight.pulse.get("state"), sight.pulse.get("seconds", 0.0)
            if state == "done":
                continue
            if not str(state).startswith("wait_") or seconds <= limit:
                return None
            waiting[rank] = seconds
        if not waiting:
            return None
        rank = max(waiting, key=lambda rank: waiting[rank])
        return self._hang(rank, f"and all others wait since {limit:.0f} s", limit)

    def _hang(self, rank: int, what: str, limit: float) -> Hang:
        others = [line for index, line in enumerate(self.describe()) if index != rank]
        step = self._sights[rank].pulse.get("step", 0)
        key = "timeout" if limit == self._timeout else "start_timeout"
        text = f"{self._labels[rank]} {what}, at step {step} (the limit is "
        text += f"pipeline.{key}={limit:g})"
        return Hang(rank, step, "\n  ".join([text, *others]))
