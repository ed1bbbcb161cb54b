"""Two blocks on two cores against backpropagation on one: speed-up and efficiency.

    python tests/bench_pipeline.py                    ResNet-50 0.25x, Fashion-MNIST, batch 128
    python tests/bench_pipeline.py --cuts 10 --heads aux4
    python tests/bench_pipeline.py --cuts 5 --pipeline-only --repeats 12     efficiency alone

Backpropagation (method=backprop, one process, one thread) and the pipeline run in turn
(A B A B ...). Without --cuts the split is balanced once, from measured times, and kept. Images
per second are counted by the runs themselves, over the steps after the first 10. Efficiency is
the throughput times the seconds per step of the slowest stage alone (timed at the end of each
pipeline run with all others idle), divided by the batch. The share of the time that the slowest
stage is busy tells what waiting costs; the rest of what efficiency lacks is that a stage takes
longer beside the others. As a control, two backpropagations that have nothing to do with each other
run at once; bench_contention.py does the same with the very stages and is more exact.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
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


def compare(
    many: dict[str, Any],
    one: dict[str, Any] | None,
    control: list[dict[str, Any]] | None,
    batch: int,
) -> dict[str, float]:
    """Return the ratios of a repeat: the pipeline, backpropagation once and twice at once."""
    steps_per_second = many["images_per_second"] / batch
    ratios = {}
    if one is not None and control is not None:
        alone = one["images_per_second"]
        together = statistics.mean(other["images_per_second"] for other in control)
        ratios["speed-up over backpropagation on one core"] = many["images_per_second"] / alone
        ratios["each of two backpropagations at once against one"] = together / alone
    ratios["efficiency"] = steps_per_second * many["slowest_alone"]
    slowest = max(stage["busy"] for stage in many["stages"])
    ratios["busy share of the slowest stage"] = steps_per_second * slowest
    return ratios


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
    parser.add_argument("--pipeline-only", action="store_true", help="no backpropagation")
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
    found: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for repeat in range(1, options.repeats + 1):
            one = control = None
            if not options.pipeline_only:
                (one,) = run(folder, f"one-{repeat}", words=plain)
            words = [*common, *split, f"heads={options.heads}", "measure.alone=20"]
            (many,) = run(folder, f"many-{repeat}", words=words)
            if not options.pipeline_only:
                control = run(folder, f"left-{repeat}", f"right-{repeat}", words=plain)
            split = [f"cuts={many['cuts']}".replace(" ", "")]
            figures = compare(many, one, control, options.batch)
            for name, value in figures.items():
                found[name].append(value)
            busy = ", ".join(f"{stage['busy'] * 1e3:.0f}" for stage in many["stages"])
            print(
                f"repeat {repeat}: {many['images_per_second']:.2f} img/s (cuts {many['cuts']}, "
                f"busy {busy} ms, slowest alone {many['slowest_alone'] * 1e3:.0f} ms), "
                + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()),
                flush=True,
            )
    for name, values in found.items():
        print(f"{name}: {describe(values)}")
    print(f"torch {torch.__version__}, one thread per rank")


if __name__ == "__main__":
    main()
