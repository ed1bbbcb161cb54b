"""How much of a search's hypergradient is rounding: single against double precision.

    blockstep search preset=small name=small
    python tests/bench_precision.py runs/small

For the newest snapshots of a finished search, with its alpha and beta: T inner steps on the same
batches, in float32 as the search computes and in float64. Told are the relative difference of the
gradient by alpha and beta, and the cosine between the two. Dropout draws differ between the
precisions, so the network should have none.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from blockstep.launch.assembly import build_data, build_network, task_of
from blockstep.launch.configfile import config_from_yaml
from blockstep.launch.folder import RunFolder
from blockstep.launch.job import Objects
from blockstep.launch.search.relaxation import build_relaxation
from blockstep.pipeline.optimization import Schedule
from blockstep.search.descent import Descent, Point
from blockstep.search.hypergradient import Batch, hypergradient
from blockstep.search.mixed_gradient import Choices
from torch import Tensor

CPU = torch.device("cpu")


class Bench:
    """A search's network, data and settings."""

    def __init__(self, folder: Path) -> None:
        self.config = config_from_yaml((folder / "config.yaml").read_text(), "search")
        self.data = build_data(self.config, Objects(), CPU)
        task = task_of(self.data)
        network = build_network(self.config, Objects(), task)
        self.relaxation = build_relaxation(self.config, network, task, device=CPU)
        self.schedule = Schedule(self.config.train)
        checkpoints = RunFolder(folder).checkpoints
        self.checkpoint = checkpoints.read(checkpoints.path(checkpoints.steps()[-1]))

    def snapshots(self, count: int) -> list[dict[str, Any]]:
        """Return the newest snapshots."""
        names = [shard.name for shard in self.checkpoint.shards]
        names = [name for name in names if name.startswith("snapshot-")]
        names.sort(key=lambda name: int(name.removeprefix("snapshot-").removesuffix(".pt")))
        return [self.checkpoint.load(name) for name in names[-count:]]

    def gradient(self, snapshot: dict[str, Any], dtype: torch.dtype) -> Tensor:
        """Return the gradient by alpha and beta, flat, in float64."""
        config, relaxation = self.config, self.relaxation
        for module in relaxation.modules():
            module.to(dtype)
        relaxation.load_buffers(snapshot["buffers"])
        point = Point(*([t.to(dtype) for t in snapshot[key]] for key in ("weights", "momentum")))
        size, count = config.train.batch_size, config.search.inner_steps
        batches = [
            Batch(x.to(dtype), y, self.schedule.lr(snapshot["step"] + number), number)
            for number, (x, y) in enumerate(islice(self.data.train(batch_size=size), count), 1)
        ]
        held_out = self.data.evaluation("validation", batch_size=config.search.validation_batch)
        x, y = next(iter(held_out))
        state = self.checkpoint.load("search.pt")["search"]
        found = hypergradient(
            relaxation,
            point,
            batches,
            (x.to(dtype), y),
            Choices(state["alpha"].to(dtype), state["beta"].to(dtype)),
            descent=Descent(config.train.momentum, config.train.weight_decay),
            batch_norm=config.search.batch_norm,
        )
        return torch.cat([found.alpha.flatten(), found.beta.flatten()]).double()


def main() -> None:
    """Compare the precisions on a few snapshots."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--snapshots", type=int, default=3)
    options = parser.parse_args()
    bench = Bench(options.run)
    for snapshot in bench.snapshots(options.snapshots):
        single, double = (bench.gradient(snapshot, t) for t in (torch.float32, torch.float64))
        difference = float((single - double).norm() / double.norm())
        cosine = float(torch.cosine_similarity(single, double, dim=0))
        print(
            f"snapshot {snapshot['number']} (step {snapshot['step']}): relative difference "
            f"{difference:.3f}, cosine {cosine:.4f}",
            flush=True,
        )
    search = bench.config.search
    print(
        f"torch {torch.__version__}, T={search.inner_steps}, batch "
        f"{bench.config.train.batch_size}, validation batch {search.validation_batch}"
    )


if __name__ == "__main__":
    main()
