"""One of the processes whose links are measured: ``python -m blockstep.launch.doctor.rank``.

    all     join over gloo, sum a tensor           -> gloo works
    all     with GPUs: sum a tensor over NCCL      -> NCCL works
    pairs   one after the other, others idle       -> latency and bandwidth of each

What it finds out is written line by line, so that what was found before a hang or a crash counts.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ...pipeline.channel import Receiver, Sender
from ...pipeline.edge import Edge, connect
from ...pipeline.transfer import make_transfer
from ..devices import device_kind, device_of
from .pair import follow, lead

__all__ = ["Reports", "main", "take_part"]

JOIN = timedelta(seconds=60)
MESSAGES, BYTES = 4, 256 << 20
"""Bounds of a link, those of a training."""


class Reports:
    """The lines of one rank.

    Args:
        path: Their file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, event: str, **values: Any) -> None:
        """Write one line."""
        with self._path.open("a") as file:
            file.write(json.dumps({"event": event, **values}) + "\n")


def take_part(rank: int, ranks: int, reports: Reports, *, wanted: str) -> None:
    """Try the back ends, then the links to each other rank.

    The default process group must be there: gloo, of all ranks.

    Args:
        rank: This one.
        ranks: How many there are.
        reports: Takes what was found.
        wanted: ``device``: auto, cpu or cuda.
    """
    kind = device_kind("auto" if wanted == "cuda" else wanted, ())
    device = device_of(rank, rank, kind=kind, devices=())
    backend, how = "gloo", "gloo"
    reports.add("trying", what="gloo")
    _sum_ones(ranks, torch.device("cpu"), None)
    reports.add("gloo", ranks=ranks)
    if kind == "cuda":
        torch.cuda.set_device(device)
        how = "gloo through host memory"
        if dist.is_nccl_available():
            _try_nccl(rank, ranks, device, reports)
            if torch.cuda.device_count() >= ranks:
                backend, how = "nccl", "NCCL"
    reports.add("trying", what="links")
    _measure(rank, ranks, device, reports, backend=backend, how=how)


def _try_nccl(rank: int, ranks: int, device: torch.device, reports: Reports) -> None:
    """Sum over NCCL, of which a GPU can be part once."""
    reports.add("trying", what="nccl")
    members = min(ranks, torch.cuda.device_count())
    group = dist.new_group(list(range(members)), backend="nccl")
    if rank < members:
        _sum_ones(members, device, group)
        reports.add("nccl", ranks=members)


def _sum_ones(expected: int, device: torch.device, group: Any) -> None:
    total = torch.ones(1, device=device)
    dist.all_reduce(total, group=group)
    if total.item() != expected:
        raise RuntimeError(f"{expected} ranks summed their ones to {total.item():g}")


def _measure(
    rank: int, ranks: int, device: torch.device, reports: Reports, *, backend: str, how: str
) -> None:
    """Measure every pair in turn."""
    pairs = list(itertools.combinations(range(ranks), 2))
    edges = [
        Edge(source, target, f"link {source}->{target}")
        for first, second in pairs
        for source, target in ((first, second), (second, first))
    ]
    outlets: dict[int, Sender] = {}
    inlets: dict[int, Receiver] = {}
    for edge, connection in connect(edges, payload_backend=backend).items():
        transfer = make_transfer(connection, device)
        if edge.source == rank:
            outlets[edge.target] = Sender(connection, transfer)
        else:
            inlets[edge.source] = Receiver(
                connection, transfer, max_messages=MESSAGES, max_bytes=BYTES
            )
    for first, second in pairs:
        dist.barrier()
        if rank == first:
            speed = lead(outlets[second], inlets[second], device=device)
            values = {"latency": speed.latency, "bandwidth": speed.bandwidth, "how": how}
            reports.add("pair", ranks=[first, second], **values)
        elif rank == second:
            follow(inlets[first], outlets[first])
    dist.barrier()
    for sender in outlets.values():
        sender.close()


def main() -> None:
    """Take part in the check that the arguments describe; exit with 0, or with 1 after an error."""
    rank, ranks, folder, wanted = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    status = 0
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        torch.set_num_threads(1)
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder.absolute()}/meeting",
            rank=rank,
            world_size=ranks,
            timeout=JOIN,
        )
        take_part(rank, ranks, Reports(folder / f"rank{rank}.jsonl"), wanted=wanted)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that still wait inside a link must not keep the process.
    os._exit(status)


def _leave_with_parent() -> None:
    """End this process when whoever started it is gone, whatever it waits for."""
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
