"""What partitioning costs: a parameter step and a hyperparameter step against a plain step.

    python tests/bench_partition.py                          FixUp ResNet-8, batch 250, S=1, 32x32
    python tests/bench_partition.py --rounds 20 --chunks 8
    python tests/bench_partition.py --device cuda

The three steps alternate, so that a change of the machine's load meets all of them. A round's
ratios are taken against its own plain step; the table has the median and the range. The plain step
trains the same network with the same augmentation, whose ranges are fixed. On the CPU it counts
the process's own time, which other processes do not use up (they still take caches and memory
bandwidth), one thread; on a GPU the time of the clock. The partition of a step follows the chunks'
shares, as in training.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from blockstep.models import make_network
from blockstep.models.hyperparameters import AffineGenerators, Averaged
from blockstep.models.partitioned import partition
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.search.partitioned import Chunks, HyperLearner, PartitionLearner, Settings

CONFIG = OptimizationConfig(lr=0.01, momentum=0.9, weight_decay=1e-4, schedule="constant")


class Steps:
    """The three kinds of steps, on the same batch."""

    def __init__(self, options: argparse.Namespace) -> None:
        torch.manual_seed(0)
        device, C = options.device, options.chunks
        made = make_network(options.model, classes=10)
        shares = [0.8, 0.1, 0.1] if C == 3 else [1 / C] * C
        self._plain = Averaged(AffineGenerators(), made.module, samples=options.samples).to(device)
        model = partition(self._plain, shares, seed=0, defaults=options.defaults)
        self._plain.change.requires_grad_(False)
        weights = [one for one in self._plain.parameters() if one.requires_grad]
        self._optimizer = torch.optim.SGD(weights, lr=0.01, momentum=0.9, weight_decay=1e-4)
        self._learners = [
            PartitionLearner(model, k, config=CONFIG, weight_decay=1e-4, criterion=F.cross_entropy)
            for k in range(1, C + 1)
        ]
        self._hyper = HyperLearner(model, config=Settings().hyper, criterion=F.cross_entropy)
        self._chunks = Chunks(1000, shares, seed=0)
        self._x = torch.randn(options.batch, 3, 32, 32, device=device)
        self._y = torch.randint(0, 10, (options.batch,), device=device)
        self._step = 0

    def plain(self) -> None:
        """Train the network as it is."""
        self._optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(self._plain(self._x), self._y).backward()
        self._optimizer.step()

    def parameter(self) -> None:
        """Train the partition of the next step."""
        self._step += 1
        k = self._chunks.draw(self._step, 1).number
        self._learners[k - 1].learn(self._x, self._y, self._step)

    def hyper(self) -> None:
        """Train the hyperparameters."""
        chunk = self._chunks.draw_judge(self._step, 1).number
        _, gradients = self._hyper.gradient(chunk, self._x, self._y)
        self._hyper.apply(gradients, self._step)


def seconds(step: Callable[[], None], device: str, repeats: int) -> float:
    """Return the seconds of one step."""
    if device == "cuda":
        torch.cuda.synchronize()
    clock = time.perf_counter if device == "cuda" else time.process_time
    began = clock()
    for _ in range(repeats):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return (clock() - began) / repeats


def main() -> None:
    """Measure and print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="fixup_resnet8")
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--chunks", type=int, default=3)
    parser.add_argument("--defaults", default="initial")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=1, help="steps of a kind in a row")
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps = Steps(options)
    kinds = {"parameter": steps.parameter, "hyperparameter": steps.hyper}
    for warm in (steps.plain, *kinds.values()):
        seconds(warm, options.device, 3)
    ratios: dict[str, list[float]] = {name: [] for name in kinds}
    plain = []
    for _ in range(options.rounds):
        plain.append(seconds(steps.plain, options.device, options.repeats))
        for name, step in kinds.items():
            ratios[name].append(seconds(step, options.device, options.repeats) / plain[-1])
    print(f"plain step {statistics.median(plain) * 1e3:.1f} ms, {options.rounds} rounds")
    for name, own in ratios.items():
        print(
            f"{name} step: {statistics.median(own):.3f} times a plain one "
            f"({min(own):.3f} to {max(own):.3f})"
        )


if __name__ == "__main__":
    main()
