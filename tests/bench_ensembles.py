"""Ensembles in equal parameter budgets, on clean and on corrupted test images.

    python tests/bench_ensembles.py                                   digits, 3 seeds, all methods
    python tests/bench_ensembles.py --data fashion_mnist --steps 1500 --seeds 0,1,2
    python tests/bench_ensembles.py --methods single,superweight_ho --seeds 0 --steps 30

The budget is what the kernels of one --member weigh. A single network has them all; a deep ensemble
has members narrow enough to have no more together; BatchEnsemble and MIMO have one network's
kernels, and their vectors, inputs and outputs on top; ShapeShifter networks (ssn) and SuperWeights
share them: ho are --count equal members with coefficients of their own, he are --mixed members
whose sharing is learned. deep_full, --count members of full size, is the reference above the budget
(only when asked for).

Every method sees the same batches for the same number of steps, with the same optimizer (SGD with
Nesterov momentum, a fifth of the rate after 30, 60 and 80 %), so members of an ensemble cost more
time. The corrupted test set is `corruptions=own` of `blockstep evaluate`: 11 kinds that need no
external data, made here on the test images at all five severities, and not CIFAR-C. Runs that were
done are not done again: --runs keeps them. A number behind +- is the standard error over seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from blockstep.launch.assembly import build_data, task_of
from blockstep.launch.cli import main as blockstep
from blockstep.launch.compose import compose
from blockstep.launch.job import Objects, Task
from blockstep.models import make_network
from blockstep.models.superweight import uses_of
from torch import device

METHODS = ("single", "deep", "batch_ensemble", "mimo", "ssn", "superweight_ho", "superweight_he")
COLUMNS = (("top1", "top-1 %", 100.0), ("nll", "NLL", 1.0), ("ece", "ECE %", 100.0))
FINEST = 256
"""Widths of a deep ensemble's members are so many parts of the whole."""


def kernels(task: Task, name: str, width: float = 1.0) -> int:
    """Return the weights of a network's convolutions."""
    network = make_network(
        name, classes=task.classes, in_channels=task.shape[0], size=task.shape[-1], width=width
    )
    return sum(use.numel for use in uses_of([network.module]))


def narrow(task: Task, name: str, count: int, budget: int) -> float:
    """Return the largest width at which so many networks have no more than a budget."""
    for part in range(FINEST, 0, -1):
        try:
            if count * kernels(task, name, part / FINEST) <= budget:
                return part / FINEST
        except ValueError:
            break
    raise SystemExit(f"{count} x {name} do not fit into {budget:,} weights at any width")


def words_of(method: str, options: argparse.Namespace, task: Task) -> list[str]:
    """Return what tells a method apart."""
    member, count = options.member, options.count
    budget = kernels(task, member)
    equal = f"members=[{','.join([member] * count)}]"
    if method == "single":
        return ["method=single", f"members=[{member}]", f"budget={budget}"]
    if method == "deep":
        spec = f"{{name: {member}, width: {narrow(task, member, count, budget)}}}"
        return ["method=deep", f"members=[{','.join([spec] * count)}]", f"budget={budget}"]
    if method == "deep_full":
        return ["method=deep", equal]
    if method == "batch_ensemble":
        return ["method=batch_ensemble", equal, f"budget={budget}"]
    if method == "mimo":
        return ["method=mimo", f"members=[{','.join([member] * min(3, count))}]"]
    if method == "ssn":
        return ["method=ssn", equal, f"budget={budget}"]
    common = ["method=superweight", f"budget={budget}"]
    if method == "superweight_ho":
        return [*common, equal, "superweight.sharing=own"]
    return [*common, f"members=[{options.mixed}]", "superweight.sharing=learned"]


def trained(method: str, seed: int, options: argparse.Namespace, task: Task) -> Path:
    """Train and evaluate a method with a seed, unless that was done; return its folder."""
    folder = Path(options.runs) / f"{options.data}-{method}-{seed}"
    if (folder / "evaluation-test.json").exists():
        return folder
    status = blockstep(
        [
            "superweight", *words_of(method, options, task), f"data={options.data}",
            f"seed={seed}", f"train.steps={options.steps}", f"train.batch_size={options.batch}",
            f"train.lr={options.lr}", f"name={folder.name}", f"runs={options.runs}",
            f"ranks={options.ranks if method not in ('batch_ensemble', 'mimo', 'single') else 1}",
            f"train.threads={options.threads}", "evaluate.every=0", "checkpoint.every=0",
            "wandb.mode=disabled", "log.view=none", *options.words,
        ]
    )  # fmt: skip
    if status:
        raise SystemExit(f"{method} with seed {seed} ended with status {status}")
    status = blockstep(
        [
            "evaluate", f"run={folder}", "corruptions=own", f"severities={options.severities}",
            "timing=0", "interpolation=0",
        ]
    )  # fmt: skip
    if status:
        raise SystemExit(f"the evaluation of {folder} ended with status {status}")
    return folder


def estimate(values: Sequence[float | None], factor: float) -> str:
    """Return the mean with its standard error; a dash where it was not measured."""
    known = [factor * value for value in values if value is not None]
    if not known:
        return "-"
    digits = 2 if factor > 1 else 3
    mean = f"{statistics.fmean(known):.{digits}f}"
    if len(known) < 2:
        return mean
    return f"{mean} +- {statistics.stdev(known) / math.sqrt(len(known)):.{digits}f}"


def row(method: str, found: Sequence[dict[str, Any]]) -> list[str]:
    """Return a method's figures over its seeds."""
    parameters = found[0]["parameters"]
    clean = [estimate([one["ensemble"][key] for one in found], f) for key, _, f in COLUMNS]
    hurt = [
        estimate([one["corruptions"]["mean"][key] for one in found], f) for key, _, f in COLUMNS
    ]
    spread = estimate([one["diversity"]["by_member"] for one in found], 1.0)
    members = estimate(
        [statistics.fmean(m["top1"] for m in one["members"]) for one in found], 100.0
    )
    counts = [f"{parameters['templates']:,}", f"{sum(parameters.values()):,}"]
    return [method, *counts, members, *clean, spread, *hurt]


def main() -> None:
    """Train everything, in turn over the methods for each seed, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="digits", choices=["digits", "fashion_mnist", "mnist"])
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--member", default="wrn10-2")
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--mixed", default="wrn16-2,wrn10-2,wrn16-1,wrn10-1")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--severities", default="1,2,3,4,5")
    parser.add_argument("--runs", default="runs/ensembles")
    parser.add_argument("words", nargs="*", help="further keys, such as data.train_examples=10000")
    options = parser.parse_args()
    config = replace(compose("superweight", [f"data={options.data}"]))
    task = task_of(build_data(config, Objects(), device("cpu")))
    methods, seeds = options.methods.split(","), [int(one) for one in options.seeds.split(",")]
    results: dict[str, list[dict[str, Any]]] = {method: [] for method in methods}
    for seed in seeds:
        for method in methods:
            folder = trained(method, seed, options, task)
            results[method].append(json.loads((folder / "evaluation-test.json").read_text()))
            print(f"done: {method}, seed {seed}", file=sys.stderr, flush=True)
    heads = [head for _, head, _ in COLUMNS]
    titles = ["method", "kernels", "all", "members", *heads, "diversity"]
    titles += [f"c-{head}" for head in heads]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for method, found in results.items():
        print(f"| {' | '.join(row(method, found))} |")
    kinds = ", ".join(next(iter(results.values()))[0]["corruptions"]["kinds"])
    print(
        f"\n{options.data}, {options.steps} steps of {options.batch}, seeds {options.seeds}; "
        f"member {options.member}, budget {kernels(task, options.member):,}; c-: {kinds} "
        f"(severities {options.severities})"
    )


if __name__ == "__main__":
    main()
