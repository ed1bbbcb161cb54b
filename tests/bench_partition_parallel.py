"""Partition-parallel training: two ranks against one process, by the staleness that is allowed.

    python tests/bench_partition_parallel.py
    python tests/bench_partition_parallel.py --staleness 0 1 2 4 8 --rounds 5 --steps 120
    python tests/bench_partition_parallel.py --device cuda

Chunks [0.8, 0.2], FixUp ResNet-8, affine augmentation with S copies, one thread per process. Each
round trains once by one process and once for each staleness, in turn, so that a change of the
machine's load meets all of them; a round's ratios are taken against its own one-process run. The
work of two ranks divides as 0.8 : 1.2 (rank 2 judges in every step), so 1.67 is the limit. Steps
after the first ten count, evaluations do not. With staleness 0 the L_ML is the same number. Beside
the speed-up by the clock stands that by processor time: the seconds of one process against those of
the busier rank, which other programs on the machine do not use up; two ranks that never wait have
it by the clock too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blockstep.launch.compose import compose
from blockstep.launch.job import Objects
from blockstep.launch.run import run


def train(options: argparse.Namespace, folder: Path, name: str, *words: str) -> dict[str, Any]:
    """Train once and return the summary."""
    every = [
        f"model={options.model}", f"data={options.data}", "partition.chunks=[0.8,0.2]",
        f"data.train_examples={options.examples}", f"psi.samples={options.samples}",
        f"train.steps={options.steps}", f"train.batch_size={options.batch}", "train.threads=1",
        "train.lr=0.01", "evaluate.every=0", "evaluate.final=false", "checkpoint.every=0",
        f"device={options.device}", "wandb.mode=disabled", "log.view=none", f"log.every={10**6}",
        f"runs={folder}", f"name={name}", *words,
    ]  # fmt: skip
    outcome = run("partition", compose("partition", every), Objects())
    if outcome.summary is None:
        raise SystemExit(f"{name} failed: {outcome.failure}")
    return outcome.summary


def rounds(options: argparse.Namespace, folder: Path) -> dict[int, list[dict[str, Any]]]:
    """Train in turn; return the summaries, those of one process under -1."""
    found: dict[int, list[dict[str, Any]]] = {-1: []}
    for number in range(options.rounds):
        found[-1].append(train(options, folder, f"one-{number}", "ranks=1"))
        for staleness in options.staleness:
            words = ("ranks=2", f"partition.staleness={staleness}")
            summary = train(options, folder, f"two-{staleness}-{number}", *words)
            found.setdefault(staleness, []).append(summary)
    return found


def table(found: dict[int, list[dict[str, Any]]], staleness: Sequence[int]) -> str:
    """Return a row for each staleness."""
    one = [summary["images_per_second"] for summary in found[-1]]
    lines = [
        f"one process: {statistics.median(one):.1f} images/s ({min(one):.1f} to {max(one):.1f}), "
        f"L_ML {found[-1][0]['objective']:.4f}",
        f"{'staleness':>9} {'images/s':>9} {'speed-up':>9} {'range':>14} {'by cpu':>7} "
        f"{'age of psi':>11} {'of weights':>10} {'L_ML':>12}",
    ]
    for allowed in staleness:
        own = found[allowed]
        speeds = [summary["images_per_second"] for summary in own]
        ratios = [speed / reference for speed, reference in zip(speeds, one, strict=True)]
        by_cpu = [
            alone["stages"][0]["cpu"] / max(stage["cpu"] for stage in two["stages"])
            for alone, two in zip(found[-1], own, strict=True)
        ]
        lines.append(
            f"{allowed:>9} {statistics.median(speeds):>9.1f} {statistics.median(ratios):>9.2f} "
            f"{f'{min(ratios):.2f} to {max(ratios):.2f}':>14} "
            f"{statistics.median(by_cpu):>7.2f} {own[-1]['psi_age']['mean']:>11.2f} "
            f"{own[-1]['weights_age']['mean']:>10.2f} {own[0]['objective']:>12.4f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--staleness", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--model", default="fixup_resnet8")
    parser.add_argument("--data", default="fashion_mnist")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(table(rounds(options, Path(folder)), options.staleness))


if __name__ == "__main__":
    main()
