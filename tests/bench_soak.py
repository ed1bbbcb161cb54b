"""A long run of a small network: does anything grow with the steps?

    python tests/bench_soak.py                      50,000 steps of four processes
    python tests/bench_soak.py --steps 5000 --blocks 2 runtime=sequential

Every few seconds the memory (resident, without what files share), open files and threads of every
rank are read. Told are the medians over the second and over the last tenth of the readings: the
first tenth has the start, the caches and the first checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

COMMON = (
    "data=digits", "model=resnet18", "model.width=0.0625", "train.batch_size=16",
    "train.threads=1", "decoupling=uniform", "measure.backprop=0", "measure.alone=0",
    "wandb.mode=disabled", "log.view=none", "log.every=100", "checkpoint.every=1000",
    "evaluate.every=1000",
)  # fmt: skip
PAGE = os.sysconf("SC_PAGE_SIZE")

Reading = tuple[float, int, int]
"""MiB, open files, threads."""


def read(pid: int) -> Reading:
    """Read what a process holds."""
    process = Path(f"/proc/{pid}")
    _, resident, shared, *_ = map(int, (process / "statm").read_text().split())
    files = len(os.listdir(process / "fd"))
    threads = len(os.listdir(process / "task"))
    return (resident - shared) * PAGE / 2**20, files, threads


def watch(words: Sequence[str], folder: Path, seconds: float) -> dict[int, list[Reading]]:
    """Train, and read all ranks every so often."""
    command = [sys.executable, "-m", "blockstep", "train", *COMMON, *words]
    process = subprocess.Popen([*command, f"runs={folder}", "name=soak"])
    readings: dict[int, list[Reading]] = {}
    while process.poll() is None:
        time.sleep(seconds)
        try:
            ranks = json.loads((folder / "soak" / "ranks.json").read_text())
            for rank in ranks:
                readings.setdefault(rank["rank"], []).append(read(rank["pid"]))
        except (FileNotFoundError, ProcessLookupError):
            continue
    if process.returncode:
        raise SystemExit("the run failed")
    return readings


def main() -> None:
    """Run it and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2.0, help="between readings")
    parser.add_argument("words", nargs="*", help="key=value of the training")
    given = parser.parse_intermixed_args()
    words = [f"train.steps={given.steps}", f"blocks={given.blocks}", *given.words]
    with tempfile.TemporaryDirectory() as place:
        readings = watch(words, Path(place), given.seconds)
    print("| rank | readings | MiB | open files | threads |\n|---|---|---|---|---|")
    for rank, own in sorted(readings.items()):
        tenth = max(1, len(own) // 10)
        early, late = own[tenth : 2 * tenth], own[-tenth:]
        cells = [
            f"{statistics.median(r[k] for r in early):.0f} -> "
            f"{statistics.median(r[k] for r in late):.0f}"
            for k in range(3)
        ]
        print(f"| {rank} | {len(own)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
