"""Two blocks on two cores against backpropagation on one: speed-up and efficiency.

    python tests/bench_pipeline.py                    ResNet-50 0.25x, Fashion-MNIST, batch 128
    python tests/bench_pipeline.py --cuts 10 --heads aux4

Backpropagation (method=backprop, one process, one thread) and the pipeline run in turn
(A B A B ...). Without --cuts the split is balanced once, from measured times, and kept. Images
per second are counted by the runs themselves, over the steps after the first 10. Efficiency is
the throughput times the seconds per step of the slowest stage alone (timed at the end of each
pipeline run with all others idle), divided by the batch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

COMMON = (
    "train.threads=1",
    "wandb.mode=disabled",
    "measure.backprop=0",
    "checkpoint.best=false",
    "checkpoint.every=0",
    "evaluate.every=0",
    "evaluate.final=false",
    "log.view=none",
    "data.train_examples=20000",
)


def run(folder: Path, name: str, *words: str) -> dict[str, Any]:
    """Run ``blockstep train`` and return its summary."""
    command = [sys.executable, "-m", "blockstep", "train", *COMMON, *words]
    subprocess.run([*command, f"runs={folder}", f"name={name}"], check=True)
    return json.loads((folder / name / "summary.json").read_text())


def describe(values: list[float]) -> str:
    """Return median, minimum and maximum."""
    return f"{statistics.median(values):.3f} (min {min(values):.3f}, max {max(values):.3f})"


def main() -> None:
    """Measure and print one line per repeat, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--data", default="fashion_mnist")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cuts", type=int, nargs="*", help="default: balanced")
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--heads", default="aux1")
    parser.add_argument("--channels-last", action="store_true")
    options = parser.parse_args()
    common = [
        f"model={options.model}",
        f"model.width={options.width}",
        f"data={options.data}",
        f"train.steps={options.steps}",
        f"train.batch_size={options.batch}",
        f"train.channels_last={str(options.channels_last).lower()}",
    ]
    split = [f"blocks={options.blocks}", "decoupling=balanced"]
    if options.cuts:
        split = [f"cuts={options.cuts}".replace(" ", "")]
    speedups, efficiencies = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for repeat in range(1, options.repeats + 1):
            one = run(folder, f"one-{repeat}", *common, "method=backprop", "measure.alone=0")
            many = run(folder, f"many-{repeat}", *common, *split, f"heads={options.heads}")
            split = [f"cuts={many['cuts']}".replace(" ", "")]
            speed, alone = many["images_per_second"], many["slowest_alone"]
            speedups.append(speed / one["images_per_second"])
            efficiencies.append(speed * alone / options.batch)
            busy = ", ".join(f"{stage['busy'] * 1e3:.0f}" for stage in many["stages"])
            print(
                f"repeat {repeat}: backprop {one['images_per_second']:.2f} img/s, pipeline "
                f"{speed:.2f} img/s (cuts {many['cuts']}, busy {busy} ms, slowest alone "
                f"{alone * 1e3:.0f} ms), speed-up {speedups[-1]:.3f}, "
                f"efficiency {efficiencies[-1]:.3f}",
                flush=True,
            )
    print(f"speed-up over backpropagation on one core: {describe(speedups)}")
    print(f"efficiency: {describe(efficiencies)}; torch {torch.__version__}, one thread per rank")


if __name__ == "__main__":
    main()
