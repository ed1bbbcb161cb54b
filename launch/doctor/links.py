"""The back ends and the links between local ranks: processes that try them, and what they found.

    parent   starts the ranks, looks at other things, then waits
       +-- rank 0   python -m blockstep.launch.doctor.rank  -> rank0.jsonl, rank0.log
       +-- rank 1   ...

Whatever happens to a rank, none is left behind, and the line says which one and why.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from .finding import Finding, fail, ok, warn

__all__ = ["Ranks", "judge"]

SECONDS = 60.0
SECONDS_PER_PAIR = 2.0
POLL_SECONDS = 0.05
GRACE_SECONDS = 2.0
"""How long the others may still say something when a rank has failed."""

SLOW_LATENCY = 5e-3
SLOW_BANDWIDTH = 100e6
OUTLIER = 3.0
"""A link that is so many times as slow as the median of all is told."""

MB = 10**6

ADVICE = {
    "gloo": "the ranks of a training meet over the loopback interface: is it up (ip link show lo)?",
    "nccl": "pipeline.link=gloo trains without NCCL; NCCL_DEBUG=INFO says more",
    "links": "TORCH_DISTRIBUTED_DEBUG=DETAIL says more",
}
"""What to do when a rank fails at something."""


class Ranks:
    """Processes on this machine that measure the links between them.

    Args:
        count: How many.
        wanted: ``device``: auto, cpu or cuda.
    """

    def __init__(self, count: int, *, wanted: str) -> None:
        self.count = count
        self._folder = Path(tempfile.mkdtemp(prefix="blockstep-doctor-"))
        self._limit = SECONDS + SECONDS_PER_PAIR * count * (count - 1) / 2
        self._deadline = time.monotonic() + self._limit
        self._processes = [self._start(rank, wanted) for rank in range(count)]

    def __enter__(self) -> Ranks:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every process that still runs, and remove what they wrote."""
        for process in self._processes:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def findings(self) -> list[Finding]:
        """Wait until all ranks have ended, and judge what they found."""
        problem = self._wait()
        return judge([self._reports(rank) for rank in range(self.count)], problem)

    def _start(self, rank: int, wanted: str) -> subprocess.Popen[bytes]:
        # As the launcher's workers have it: they are the ranks of a training on one machine. The
        # pipe stays open and empty: its end tells a rank that its parent is gone.
        quiet = {"TORCH_CPP_LOG_LEVEL": "ERROR"}
        own = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        words = [str(rank), str(self.count), str(self._folder), wanted]
        with self._log(rank).open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.rank", *words],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**quiet, **os.environ, **own},
            )

    def _wait(self) -> str:
        """Return what went wrong; nothing if all ended well."""
        while any(process.poll() is None for process in self._processes):
            failed = self._failed()
            if failed is not None:
                self._deadline = min(self._deadline, time.monotonic() + GRACE_SECONDS)
            if time.monotonic() > self._deadline:
                break
            time.sleep(POLL_SECONDS)
        failed = self._failed()
        if failed is not None:
            status = self._processes[failed].returncode
            return f"rank {failed} ended with status {status}: {self._last_line(failed)}"
        running = [rank for rank, process in enumerate(self._processes) if process.poll() is None]
        if running:
            listed = ", ".join(map(str, running))
            return f"rank(s) {listed} did not end within {self._limit:.0f} s"
        return ""

    def _failed(self) -> int | None:
        """Return the first rank that ended badly."""
        bad = (rank for rank, process in enumerate(self._processes) if process.poll())
        return next(bad, None)

    def _reports(self, rank: int) -> list[dict[str, Any]]:
        path = self._folder / f"rank{rank}.jsonl"
        if not path.exists():
            return []
        # A rank that was killed may have written half a line.
        lines = path.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def _last_line(self, rank: int) -> str:
        lines = self._log(rank).read_text(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return said[-1] if said else "it said nothing"

    def _log(self, rank: int) -> Path:
        return self._folder / f"rank{rank}.log"


def judge(reports: Sequence[Sequence[Mapping[str, Any]]], problem: str) -> list[Finding]:
    """Return a line for each back end and each pair.

    Args:
        reports: For each rank what it wrote.
        problem: What went wrong; empty if nothing did.
    """
    events = [event for of_rank in reports for event in of_rank]
    tried = [event["what"] for event in events if event["event"] == "trying"]
    # The last thing that somebody tried is what did not work.
    last = next((what for what in ("links", "nccl", "gloo") if what in tried), "gloo")
    findings = []
    for name, title in (("gloo", "gloo"), ("nccl", "NCCL")):
        done = [event["ranks"] for event in events if event["event"] == name]
        if problem and last == name:
            findings.append(fail(title, problem, ADVICE[name]))
        elif done:
            who = f"{done[0]} process{'es' if done[0] > 1 else ''}"
            findings.append(ok(title, f"{who} summed over it", ranks=done[0]))
    pairs = [event for event in events if event["event"] == "pair"]
    findings += _links(sorted(pairs, key=lambda event: event["ranks"]))
    if problem and last == "links":
        findings.append(fail("links", problem, ADVICE["links"]))
    return findings


def _links(pairs: Sequence[Mapping[str, Any]]) -> list[Finding]:
    if not pairs:
        return []
    latency = statistics.median(pair["latency"] for pair in pairs)
    bandwidth = statistics.median(pair["bandwidth"] for pair in pairs)
    return [_link(pair, latency, bandwidth) for pair in pairs]


def _link(pair: Mapping[str, Any], latency: float, bandwidth: float) -> Finding:
    """Judge one pair against what links should reach, and against the median pair."""
    first, second = pair["ranks"]
    subject = f"link {first}-{second}"
    speed = f"{pair['latency'] * 1e6:,.0f} us, {pair['bandwidth'] / MB:,.0f} MB/s, {pair['how']}"
    figures = {"latency_seconds": pair["latency"], "bytes_per_second": pair["bandwidth"]}
    if pair["latency"] > SLOW_LATENCY or pair["bandwidth"] < SLOW_BANDWIDTH:
        advice = "stages will wait for it: is the machine busy with something else?"
        return warn(subject, speed, advice, **figures)
    if pair["latency"] > OUTLIER * latency or pair["bandwidth"] * OUTLIER < bandwidth:
        advice = (
            f"far slower than the others (median {latency * 1e6:,.0f} us, {bandwidth / MB:,.0f} "
            "MB/s): put stages that follow each other on other devices by pipeline.devices"
        )
        return warn(subject, speed, advice, **figures)
    return ok(subject, speed, **figures)
