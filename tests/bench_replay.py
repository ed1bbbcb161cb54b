"""What replay is worth behind a slow stage: DGL's experiment, on the running pipeline.

    python tests/bench_replay.py                                    digits, 2 blocks, 3 seeds
    python tests/bench_replay.py --data fashion_mnist --steps 1000 --factors 1 1.5 2
    python tests/bench_replay.py --blocks 3 --slow 2 model=mlp train.lr=0.05

One stage is slowed: each of its steps is made longer (pipeline.delay) by S - 1 times a step of
the slowest stage, as it was measured in the first run, for each slowdown S. With and without a
ring (replay.batches), all train for the same number of fresh batches. Without one, the stages
behind the slow one wait; with one they learn again meanwhile. DGL's own experiment (Belilovsky et
al., ICML 2020) simulates this by drawing the slow layer less often, and its stages also hand on
what they replay; here each batch is handed on once.

Per row: test error, mean and standard error over the seeds; of all that the stages behind the
slow one learned from, the share that was replayed, and how many steps old that was on average;
images per second of fresh batches. The runs of a seed follow each other in the order of the
table, each in processes of its own with one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

COMMON = (
    "method=dgl",
    "train.threads=1",
    "wandb.mode=disabled",
    "measure.backprop=0",
    "measure.alone=0",
    "checkpoint.best=false",
    "checkpoint.every=0",
    "evaluate.every=0",
    "log.view=none",
)


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        slowdown: S.
        ring: Whether there is one.
    """

    slowdown: float
    ring: bool


def run(folder: Path, name: str, words: Sequence[str]) -> dict[str, Any]:
    """Run ``blockstep train`` to its end and return its summary."""
    command = [sys.executable, "-m", "blockstep", "train", *COMMON, *words]
    command += [f"runs={folder}", f"name={name}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return json.loads((folder / name / "summary.json").read_text())


def delay(blocks: int, slow: int, seconds: float) -> str:
    """Return the word that slows one stage."""
    delays = [f"{seconds:.6f}" if stage == slow else "0" for stage in range(1, blocks + 1)]
    return f"pipeline.delay=[{','.join(delays)}]"


def share(summary: dict[str, Any], slow: int) -> float:
    """Return the replayed part of all that the stages behind the slow one learned from."""
    again = [stage["replayed"] for stage in summary["stages"] if stage["stage"] > slow]
    return sum(again) / (sum(again) + len(again) * summary["steps"])


def staleness(summary: dict[str, Any], slow: int) -> float | None:
    """Return the mean age of what the stages behind the slow one replayed; None for nothing."""
    behind = [stage for stage in summary["stages"] if stage["stage"] > slow and stage["replayed"]]
    count = sum(stage["replayed"] for stage in behind)
    ages = sum(stage["replayed"] * stage["replay_staleness"] for stage in behind)
    return ages / count if count else None


def spread(values: Sequence[float]) -> str:
    """Return mean and, of several, standard error."""
    mean = f"{statistics.mean(values):.2f}"
    if len(values) == 1:
        return mean
    return f"{mean} +- {statistics.stdev(values) / len(values) ** 0.5:.2f}"


def line(row: Row, summaries: Sequence[dict[str, Any]], slow: int) -> str:
    """Return a line of the table."""
    errors = [100 * (1 - summary["test_accuracy"]) for summary in summaries]
    ages = [age for summary in summaries if (age := staleness(summary, slow)) is not None]
    speeds = [one["images_per_second"] for one in summaries if one["images_per_second"]]
    cells = [
        f"{row.slowdown:g}",
        "yes" if row.ring else "no",
        spread(errors),
        f"{100 * statistics.mean(share(summary, slow) for summary in summaries):.1f}",
        f"{statistics.mean(ages):.2f}" if ages else "-",
        f"{statistics.median(speeds):.1f}" if speeds else "-",
    ]
    return f"| {' | '.join(cells)} |"


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="further keys of the trainings, key=value")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--slow", type=int, default=1, help="the slowed stage, from 1")
    parser.add_argument("--factors", type=float, nargs="+", default=[1.0, 1.2, 1.5, 2.0, 3.0])
    parser.add_argument("--batches", type=int, default=30, help="of the ring")
    parser.add_argument("--reuse", type=int, help="default: no limit")
    options = parser.parse_args()
    if not 1 <= options.slow < options.blocks:
        parser.error(f"--slow {options.slow}: a stage with another behind it, of {options.blocks}")
    return options


def main() -> None:
    """Train every row with every seed and print the table."""
    options = parse()
    words = [
        f"data={options.data}",
        f"model={options.model}",
        f"model.width={options.width}",
        f"blocks={options.blocks}",
        f"train.steps={options.steps}",
        f"train.batch_size={options.batch}",
        *options.words,
    ]
    reuse = "null" if options.reuse is None else options.reuse
    ring = [f"replay.batches={options.batches}", f"replay.reuse={reuse}"]
    rows = [Row(factor, kept) for factor in options.factors for kept in (False, True)]
    found: dict[Row, list[dict[str, Any]]] = {row: [] for row in rows}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        first = run(folder, "pace", [*words, "seed=0"])
        pace = max(stage["busy"] for stage in first["stages"])
        print(f"a step of the slowest stage: {pace * 1e3:.1f} ms", flush=True)
        for seed in range(options.seeds):
            for row in rows:
                slowed = delay(options.blocks, options.slow, (row.slowdown - 1) * pace)
                name = f"{row.slowdown:g}-{'ring' if row.ring else 'plain'}-{seed}"
                more = [slowed, f"seed={seed}", *(ring if row.ring else [])]
                found[row].append(run(folder, name, [*words, *more]))
                print(f"{name}: {line(row, found[row][-1:], options.slow)}", flush=True)
    print(f"\n{' '.join([*words, *ring])}, stage {options.slow} slowed, {options.seeds} seeds")
    print(f"torch {torch.__version__}, one thread per process")
    print("| slowdown | ring | test error, % | replayed, % | steps old | images/s |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(line(row, found[row], options.slow))


if __name__ == "__main__":
    main()
