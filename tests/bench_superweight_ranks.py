"""Two ranks against one process: two equal members of a SuperWeight ensemble, in turn.

    python tests/bench_superweight_ranks.py                       2 x wrn16-2, batch 64, 3 pairs
    python tests/bench_superweight_ranks.py --member wrn28-2 --batch 128 --repeats 5

Each side is a `blockstep superweight` on random images of CIFAR's shape, with one thread per
process; the sides run in turn (A B A B ...) and the speed-up is taken pair by pair from the images
per second of their summaries, without the first ten steps. After the last step the weights of both
are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from blockstep.launch.cli import main as blockstep

IMAGES = """
import torch


def make():
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (512, 3, 32, 32), dtype=torch.uint8, generator=generator)
    y = torch.arange(512) % 10
    return {"train": (x, y), "test": (x[:100], y[:100])}
"""


def run(options: argparse.Namespace, ranks: int, number: int) -> tuple[float, dict[str, Any]]:
    """Train with so many ranks; return its images per second and its last state."""
    name = f"ranks-{ranks}-{number}"
    status = blockstep(
        [
            "superweight", f"members=[{options.member},{options.member}]", "budget=50%",
            "superweight.sharing=own", "data._target_=images.make", f"train.steps={options.steps}",
            f"train.batch_size={options.batch}", "train.threads=1", f"ranks={ranks}",
            f"name={name}", "evaluate.every=0", "evaluate.final=false", "checkpoint.every=0",
            "wandb.mode=disabled", "log.view=none", "log.every=1000", "data.workers=0",
        ]
    )  # fmt: skip
    if status:
        raise SystemExit(f"{name} ended with status {status}")
    folder = Path("runs") / name
    summary = json.loads((folder / "summary.json").read_text())
    shards = (folder / "checkpoints" / f"step-{options.steps}").glob("*.pt")
    state = {path.name: torch.load(path, weights_only=True)["tensors"] for path in shards}
    return summary["images_per_second"], state


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the largest difference of two weights; the parts must be the same."""
    assert one.keys() == other.keys()
    pairs = [
        (one[part][name], other[part][name])
        for part in one
        for name in one[part]
        if one[part][name].is_floating_point()
    ]
    return max(float((a - b).abs().max()) for a, b in pairs)


def main() -> None:
    """Compare pair by pair."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--member", default="wrn16-2")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    ratios, apart = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.path.insert(0, folder)
        Path("images.py").write_text(IMAGES)
        for number in range(options.repeats):
            (slow, one), (fast, two) = (run(options, ranks, number) for ranks in (1, 2))
            ratios.append(fast / slow)
            apart = max(apart, difference(one, two))
            print(
                f"pair {number + 1}: one process {slow:.1f} images/s, two ranks {fast:.1f}, x "
                f"{ratios[-1]:.3f}",
                flush=True,
            )
        os.chdir("/")
    print(
        f"2 x {options.member}, batch {options.batch}: x {statistics.median(ratios):.3f} (median "
        f"of {options.repeats}); largest difference of a weight after {options.steps} steps "
        f"{apart:g}; torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
