"""K=1 inside the runtime against a hand-written PyTorch loop: speed and weights.

    python tests/bench_loop.py                        ResNet-50 0.25x, Fashion-MNIST, batch 128
    python tests/bench_loop.py --repeats 5 --steps 60

The two run in turn as whole processes (A B A B ...), each with one thread. Images per second are
counted over the steps after the first 10; the ratio is taken pair by pair. The weights after the
last step are compared bit for bit. Both keep the memory they free (pipeline/memory.py);
--default-allocator leaves the loop with glibc's default.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

COMMON = (
    "decoupling=uniform",
    "train.threads=1",
    "wandb.mode=disabled",
    "measure.backprop=0",
    "measure.alone=0",
    "checkpoint.best=false",
    "checkpoint.every=0",
    "evaluate.every=0",
    "evaluate.final=false",
    "log.view=none",
    "data.train_examples=20000",
)
WARM_UP = 10


def words(options: argparse.Namespace) -> list[str]:
    """Return the configuration that both sides follow."""
    return [
        *COMMON,
        f"model={options.model}",
        f"model.width={options.width}",
        f"data={options.data}",
        f"train.steps={options.steps}",
        f"train.batch_size={options.batch}",
        f"train.channels_last={str(options.channels_last).lower()}",
    ]


def loop(options: argparse.Namespace, path: Path) -> float:
    """Train with a plain loop; save the weights; return images per second."""
    from blockstep.launch.assembly import build_data, build_network, task_of
    from blockstep.launch.compose import compose
    from blockstep.launch.job import Objects
    from blockstep.pipeline.memory import keep_freed_memory

    torch.set_num_threads(1)
    if not options.default_allocator:
        keep_freed_memory()
    config = compose("train", [*words(options), "method=backprop"])
    data = build_data(config, Objects(), torch.device("cpu"))
    network = build_network(config, Objects(), task_of(data)).module
    if options.channels_last:
        network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    train = config.train
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=train.lr,
        momentum=train.momentum,
        weight_decay=train.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, train.steps, eta_min=train.lr_min
    )
    criterion = nn.CrossEntropyLoss()
    batches = data.train(batch_size=train.batch_size)
    network.train()
    began = 0.0
    for step in range(1, train.steps + 1):
        x, y = next(batches)
        if options.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(network(x), y)
        loss.backward()
        optimizer.step()
        schedule.step()
        if not torch.isfinite(loss).item():
            raise RuntimeError(f"the loss of step {step} is not finite")
        if step == WARM_UP:
            began = time.perf_counter()
    seconds = time.perf_counter() - began
    torch.save(network.state_dict(), path)
    return (train.steps - WARM_UP) * train.batch_size / seconds


def runtime(options: argparse.Namespace, folder: Path, name: str) -> float:
    """Train with ``blockstep train method=backprop``; return images per second."""
    command = [sys.executable, "-m", "blockstep", "train", *words(options), "method=backprop"]
    subprocess.run([*command, f"runs={folder}", f"name={name}"], check=True)
    return json.loads((folder / name / "summary.json").read_text())["images_per_second"]


def equal(folder: Path, name: str, steps: int, weights: Path) -> bool:
    """Whether the run's weights are those of the loop."""
    shard = folder / name / "checkpoints" / f"step-{steps}" / "stage-1.pt"
    state: dict[str, Any] = torch.load(shard, weights_only=True)
    own = [*state["body"].values(), *state["head"].values()]
    other = list(torch.load(weights, weights_only=True).values())
    return len(own) == len(other) and all(map(torch.equal, own, other))


def main() -> None:
    """Measure and print one line per repeat, then the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--data", default="fashion_mnist")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--default-allocator", action="store_true")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(loop(options, options.child))
        return
    ratios = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for repeat in range(1, options.repeats + 1):
            weights = folder / "loop.pt"
            child = [sys.executable, *sys.argv, "--child", str(weights)]
            done = subprocess.run(child, check=True, capture_output=True, text=True)
            by_loop = float(done.stdout)
            by_runtime = runtime(options, folder, f"run-{repeat}")
            same = equal(folder, f"run-{repeat}", options.steps, weights)
            ratios.append(by_runtime / by_loop)
            print(
                f"repeat {repeat}: loop {by_loop:.2f} img/s, runtime {by_runtime:.2f} img/s, "
                f"ratio {ratios[-1]:.4f}, weights {'equal' if same else 'DIFFERENT'}",
                flush=True,
            )
    print(
        f"median ratio {statistics.median(ratios):.4f} "
        f"(min {min(ratios):.4f}, max {max(ratios):.4f}), torch {torch.__version__}, one thread"
    )


if __name__ == "__main__":
    main()
