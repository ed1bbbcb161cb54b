"""What two stages cost each other by sharing a machine, with no pipeline between them.

    python tests/bench_contention.py                  ResNet-50 0.25x, cut 5, Aux 1, batch 128
    python tests/bench_contention.py --cut 10 --head aux4 --rounds 40

Each stage has a process and a thread of its own and learns from the same batch again and again;
nothing is sent. In every round the first works alone, then the second, then both at once, each for
the same few steps, so that a machine whose speed drifts drifts for all three. What a stage takes
alone, divided by what it takes beside the other, bounds the efficiency that bench_pipeline.py
can find on that machine: caches, memory and clock are shared whatever the runtime does.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

import torch
from blockstep.launch.assembly import Objects, build_heads
from blockstep.launch.compose import compose
from blockstep.launch.training.blocks import build_block
from blockstep.launch.training.preparation import prepare
from blockstep.pipeline.memory import keep_freed_memory
from blockstep.pipeline.message import Kind, Message
from blockstep.pipeline.stage import Stage

CPU = torch.device("cpu")
STAGES = 2
WARM_UP_STEPS = 3
Times = list[tuple[float, float]]
"""Seconds per step of a stage alone and beside the other, one pair for each round."""


def stage_and_batch(
    stage: int, words: Sequence[str], shape: Sequence[int]
) -> tuple[Stage, Message]:
    """Make a stage as a run makes it, and a batch as the stage before it hands on."""
    made = prepare("train", compose("train", words), Objects(), create=False)
    job, network = made.job, made.network
    heads = build_heads(network, job.decoupling, job.task, job.config.seed)
    x = torch.randn(job.config.train.batch_size, *shape)
    y = torch.randint(job.task.classes, (len(x),))
    message = Message(Kind.BATCH, 1, (x, y))
    for index in range(1, stage + 1):
        block = build_block(job, index, network=network, heads=heads, device=CPU)
        if index == stage:
            return block, message
        message = block.step(message)
    raise AssertionError("a stage below 1")


def seconds_per_step(stage: Stage, message: Message, steps: int) -> float:
    """Return the median."""
    seconds = []
    for _ in range(steps):
        begin = time.perf_counter()
        stage.step(message)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def work(
    stage: int, options: argparse.Namespace, together: Barrier, results: Queue[tuple[int, Times]]
) -> None:
    """Be one of the two processes."""
    torch.set_num_threads(1)
    keep_freed_memory()
    block, message = stage_and_batch(stage, words_of(options), options.shape)
    seconds_per_step(block, message, WARM_UP_STEPS)
    times = []
    for _ in range(options.rounds):
        alone = 0.0
        for turn in range(1, STAGES + 1):
            together.wait()
            if turn == stage:
                alone = seconds_per_step(block, message, options.steps)
        together.wait()
        times.append((alone, seconds_per_step(block, message, options.steps)))
    results.put((stage, times))


def words_of(options: argparse.Namespace) -> list[str]:
    """Return the run whose stages these are."""
    return [
        f"model={options.model}",
        f"model.width={options.width}",
        f"data={options.data}",
        f"train.batch_size={options.batch}",
        f"cuts=[{options.cut}]",
        f"heads={options.head}",
        "train.threads=1",
    ]


def describe(values: Sequence[float]) -> str:
    """Return the median and the quartiles."""
    lower, middle, upper = statistics.quantiles(values, n=4)
    return f"median {middle:.3f}, half of the rounds within {lower:.3f} and {upper:.3f}"


def main() -> None:
    """Measure and print a line for each stage and one for the slowest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--data", default="fashion_mnist")
    parser.add_argument("--shape", type=int, nargs="+", default=[1, 32, 32])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--cut", type=int, default=5)
    parser.add_argument("--head", default="aux1")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=3, help="of each stage, three times a round")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    together, results = spawn.Barrier(STAGES), spawn.Queue()
    stages = range(1, STAGES + 1)
    processes = [
        spawn.Process(target=work, args=(stage, options, together, results), daemon=True)
        for stage in stages
    ]
    for process in processes:
        process.start()
    times = dict(results.get() for _ in stages)
    for stage in stages:
        alone = statistics.median(pair[0] for pair in times[stage])
        beside = statistics.median(pair[1] for pair in times[stage])
        ratios = [pair[0] / pair[1] for pair in times[stage]]
        print(
            f"stage {stage}: {alone * 1e3:.0f} ms alone, {beside * 1e3:.0f} ms beside the other; "
            f"alone / beside: {describe(ratios)}"
        )
    slowest = [
        max(alone for alone, _ in pairs) / max(beside for _, beside in pairs)
        for pairs in zip(*(times[stage] for stage in stages), strict=True)
    ]
    print(f"slowest alone / slowest beside, per round: {describe(slowest)}")
    print(f"{options.rounds} rounds; torch {torch.__version__}, one thread per process")


if __name__ == "__main__":
    main()
