"""A SuperWeight ensemble against the same members with weights of their own: time and memory.

    python tests/bench_superweight.py                       4 x WRN-28-2, batch 128, budget 25 %
    python tests/bench_superweight.py --steps 2 --repeats 5 --allocator greedy

A step is what a training does: the members' forward and backward passes in turn on the same batch,
the gradient of what they share, and one SGD step with momentum. For time, the two run in turn as
whole processes (A B A B ...), each with one thread, and ratios are taken pair by pair. Memory is
the largest sum of what torch has allocated at a time for members, activations, gradients and
momentum, over two steps: it is the same in every run, which the resident memory of a process
is not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial

import torch
from blockstep.models import make_network
from blockstep.models.ensembles import DeepEnsemble
from blockstep.models.superweight import parameter_groups, superweights
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile

WARM_UP = 1


def step_of(options: argparse.Namespace) -> Callable[[], None]:
    """Make one side's members and optimizer, and return what a training step does."""
    torch.manual_seed(0)
    images = torch.randn(options.batch, 3, 32, 32)
    labels = torch.randint(0, 10, (options.batch,))
    networks = [make_network(options.member, classes=10) for _ in range(options.members)]
    passes: Callable[[], object]
    if options.side == "shared":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ensemble = superweights(
                networks, options.budget, clusters=options.clusters, allocator=options.allocator
            )
        groups = parameter_groups(ensemble, 5e-4)
        passes = partial(ensemble.backward, images, labels, cross_entropy)
    else:
        apart = DeepEnsemble([network.module for network in networks])
        groups = [{"params": [*apart.parameters()], "weight_decay": 5e-4}]
        passes = partial(apart.backward, images, labels, cross_entropy)
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True)

    def step() -> None:
        optimizer.zero_grad()
        passes()
        optimizer.step()

    return step


def seconds(options: argparse.Namespace) -> float:
    """Return the median CPU time of a step."""
    step, found = step_of(options), []
    for number in range(WARM_UP + options.steps):
        started = time.process_time()
        step()
        if number >= WARM_UP:
            found.append(time.process_time() - started)
    return statistics.median(found)


def peak(options: argparse.Namespace) -> int:
    """Return the most bytes that are allocated at a time from the beginning to step two."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step = step_of(options)
        step()
        step()
    assert profiler.profiler is not None
    kineto = profiler.profiler.kineto_results
    assert kineto is not None
    held = most = 0
    for event in sorted(kineto.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()  # pyright: ignore[reportAttributeAccessIssue]
            most = max(most, held)
    return most


def run(options: argparse.Namespace, side: str, what: str) -> float:
    """Measure one side in a process of its own."""
    words = [f"--{k}={v}" for k, v in vars(options).items() if k not in ("side", "what")]
    command = [sys.executable, __file__, f"--side={side}", f"--what={what}", *words]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def main() -> None:
    """Compare the two sides pair by pair."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--member", default="wrn28-2")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--budget", default="25%")
    parser.add_argument("--clusters", type=int, default=4)
    parser.add_argument("--allocator", default="best")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", choices=["shared", "own"], help=argparse.SUPPRESS)
    parser.add_argument("--what", choices=["seconds", "peak"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        torch.set_num_threads(1)
        print(json.dumps((seconds if options.what == "seconds" else peak)(options)))
        return
    own, shared = (run(options, side, "peak") for side in ("own", "shared"))
    print(f"own {own / 2**20:.1f} MiB, shared {shared / 2**20:.1f} MiB", flush=True)
    ratios = []
    for number in range(options.repeats):
        slow, fast = (run(options, side, "seconds") for side in ("shared", "own"))
        ratios.append(slow / fast)
        print(
            f"pair {number + 1}: own {fast:.2f} s, shared {slow:.2f} s, x {ratios[-1]:.3f}",
            flush=True,
        )
    print(
        f"{options.members} x {options.member}, batch {options.batch}, budget {options.budget}: "
        f"time x {statistics.median(ratios):.3f} (median of {options.repeats}), peak memory x "
        f"{shared / own:.3f}; CPU time of one thread, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
