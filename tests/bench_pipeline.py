"""Two blocks on two cores against backpropagation on one: speed-up and efficiency.

    python tests/bench_pipeline.py                    ResNet-50 0.25x, Fashion-MNIST, batch 128
    python tests/bench_pipeline.py --cuts 10 --heads aux4

Backpropagation (method=backprop, one process, one thread) and the pipeline run in turn
(A B A B ...). Without --cuts the split is balanced once, from measured times, and kept. Images
per second are counted by the runs themselves, over the steps after the first 10. Efficiency is
the throughput times the seconds per step of the slowest stage alone (timed at the end of each
pipeline run with all others idle), divided by the batch. As a control, two backpropagations that
have nothing to do with each other run at once: what they lose against one is lost to the machine
(shared memory and caches), and no pipeline on it can be more efficient.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
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


def run(folder: Path, *names: str, words: Sequence[str]) -> list[dict[str, Any]]:
    """Run ``blockstep train`` once per name, all at the same time; return the summaries."""
    command = [sys.executable, "-m", "blockstep", "train", *COMMON, *words, f"runs={folder}"]
    processes = [subprocess.Popen([*command, f"name={name}"]) for name in names]
    statuses = [process.wait() for process in processes]
    if any(statuses):
        raise RuntimeError(f"{' '.join(command)} failed")
    return [json.loads((folder / name / "summary.json").read_text()) for name in names]


def describe(values: list[float]) -> str:
    """Return median, minimum and maximum."""
    return f"{statistics.median(values):.3f} (min {min(values):.3f}, max {max(values):.3f})"


def main() -> None:
    """Measure and print one line per repeat, then the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    plain = [*common, "method=backprop", "measure.alone=0"]
    speedups, efficiencies, controls = [], [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for repeat in range(1, options.repeats + 1):
            (one,) = run(folder, f"one-{repeat}", words=plain)
            words = [*common, *split, f"heads={options.heads}"]
            (many,) = run(folder, f"many-{repeat}", words=words)
            pair = run(folder, f"left-{repeat}", f"right-{repeat}", words=plain)
            split = [f"cuts={many['cuts']}".replace(" ", "")]
            speed, alone = many["images_per_second"], many["slowest_alone"]
            speedups.append(speed / one["images_per_second"])
            efficiencies.append(speed * alone / options.batch)
            together = statistics.mean(other["images_per_second"] for other in pair)
            controls.append(together / one["images_per_second"])
            busy = ", ".join(f"{stage['busy'] * 1e3:.0f}" for stage in many["stages"])
            print(
                f"repeat {repeat}: backprop {one['images_per_second']:.2f} img/s, pipeline "
                f"{speed:.2f} img/s (cuts {many['cuts']}, busy {busy} ms, slowest alone "
                f"{alone * 1e3:.0f} ms), speed-up {speedups[-1]:.3f}, "
                f"efficiency {efficiencies[-1]:.3f}, control {controls[-1]:.3f}",
                flush=True,
            )
    print(f"speed-up over backpropagation on one core: {describe(speedups)}")
    print(f"efficiency: {describe(efficiencies)}")
    print(f"control, each of two unrelated runs against one: {describe(controls)}")
    print(f"torch {torch.__version__}, one thread per rank")


if __name__ == "__main__":
    main()
