"""Learned augmentation on rotated Fashion-MNIST: a table of methods (Table 1 and 2 in small).

    python tests/bench_augmentation.py
    python tests/bench_augmentation.py --examples 1000 5000 --steps 4000 --seeds 0 1 2
    python tests/bench_augmentation.py --methods none partitioned --data mnist --upright

Every image is turned once, by any angle, the test images too. Subsets of the training part are
stratified, the same for all seeds; a seed decides the initial weights, the chunks and the batches.
`none` trains without augmentation; `augerino` in its safe form, its rotation begun at raw 1;
`validation` and `finetune` learn ranges from a chunk that the weights do not see (until the last
tenth of the steps); `independent` has C networks; `random` is one trial of a random search for
each seed; `partitioned` has chunks [0.8, 0.1, 0.1]. Methods take turns within a seed. Pixels are in
[0, 1], so that what comes from outside an image is black as its ground. One thread.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blockstep.launch.compose import compose
from blockstep.launch.job import Objects
from blockstep.launch.run import run

METHODS: Mapping[str, Sequence[str]] = {
    "none": ("partition.method=plain", "psi=none"),
    "augerino": (
        "partition.method=augerino", "psi=augerino", "psi.initial=-5", "psi.rotation=1",
        "psi.training_samples=1", "psi.lr=0.05",
    ),
    "validation": ("partition.method=validation", "psi=affine"),
    "finetune": ("partition.method=validation", "psi=affine", "partition.finetune={tenth}"),
    "independent": ("partition.method=independent", "psi=affine"),
    "random": ("partition.method=random", "psi=affine"),
    "partitioned": ("psi=affine",),
}  # fmt: skip

USUAL = ("none", "augerino", "validation", "partitioned")


def words(options: argparse.Namespace, method: str, examples: int, seed: int) -> list[str]:
    """Return the command line of one training."""
    own = [word.format(tenth=max(1, options.steps // 10)) for word in METHODS[method]]
    if method != "none":
        own.append(f"psi.samples={options.samples}")
    if method not in ("none", "augerino", "random"):
        own += [f"psi.lr={options.psi_lr}", f"psi.initial={options.initial}"]
    return [
        f"model={options.model}", f"data={options.data}", f"model.width={options.width}",
        f"data.train_examples={examples}", f"data.rotate={str(not options.upright).lower()}",
        "data.normalize=false", f"train.steps={options.steps}", f"seed={seed}",
        f"train.batch_size={options.batch}", "train.optimizer=adam", "train.lr=0.001",
        "train.schedule=constant", "train.weight_decay=0", "train.threads=1", "evaluate.every=0",
        "checkpoint.every=0", "wandb.mode=disabled", "log.view=none", f"device={options.device}",
        f"evaluate.batch_size={options.batch}", *own,
    ]  # fmt: skip


def train(options: argparse.Namespace, folder: Path, line: Sequence[str]) -> dict[str, Any]:
    """Train once and return the summary."""
    number = len(list(folder.iterdir()))
    every = [*line, f"runs={folder}", f"name=run{number}"]
    outcome = run("partition", compose("partition", every), Objects())
    if outcome.summary is None:
        raise SystemExit(f"{' '.join(line)} failed: {outcome.failure}")
    return outcome.summary


def rotation(summary: Mapping[str, Any]) -> float | None:
    """Return how far images are turned to either side, in radians."""
    found = (summary["found"] or {}).get("rotation")
    if isinstance(found, list):
        return (found[1] - found[0]) / 2
    if found is not None and summary["psi"] == "augerino":
        return found / 2
    return found


def told(values: Sequence[float | None], form: str) -> str:
    """Return mean and standard error."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = format(statistics.mean(known), form)
    if len(known) == 1:
        return mean
    error = statistics.stdev(known) / math.sqrt(len(known))
    return f"{mean} +- {format(error, form)}"


def main() -> None:
    """Train and print a row for each subset and method."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", default=list(USUAL), choices=list(METHODS))
    parser.add_argument("--examples", type=int, nargs="+", default=[1000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--samples", type=int, default=4, help="S, in training and in the test")
    parser.add_argument("--psi-lr", type=float, default=0.003)
    parser.add_argument("--initial", type=float, default=0.05)
    parser.add_argument("--model", default="mnist_cnn")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--data", default="fashion_mnist")
    parser.add_argument("--upright", action="store_true", help="images as they are")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for examples in options.examples:
            rows: dict[str, list[dict[str, Any]]] = {method: [] for method in options.methods}
            for seed in options.seeds:
                for method, own in rows.items():
                    line = words(options, method, examples, seed)
                    own.append(train(options, Path(folder), line))
            print(f"{examples} examples, {options.steps} steps, seeds {options.seeds}")
            for method, own in rows.items():
                accuracy = told([100 * one["test_accuracy"] for one in own], ".1f")
                turned = told([rotation(one) for one in own], ".2f")
                seconds = told([one["seconds"] for one in own], ".0f")
                print(
                    f"{method:>12}: test accuracy {accuracy} %, rotation {turned}, {seconds} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
