"""Federated methods side by side on rotated Fashion-MNIST: accuracy, bytes, learned rotation.

    python tests/bench_federate.py                             100 clients, 3 methods, 3 seeds
    python tests/bench_federate.py --methods partitioned --seeds 0 --rounds 40
    python tests/bench_federate.py --runs runs/fed data.train_examples=5000 federate.samples=10

Further words are keys of `blockstep federate`, for all runs. Every image is turned once, by an
angle of U[-pi, pi], and clients differ in the angles (Dirichlet, alpha 0.1, ten bins). The runs lie
in the folder --runs; one that has ended is not done again, one that was interrupted goes on. The
table has means over seeds with standard errors; the first accuracy is that of the test images after
the last round, the second the mean of the last ten evaluations on validation images, as in Table 4
of Mlodozeniec et al. (ICLR 2023).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blockstep.launch.cli import main as blockstep
from blockstep.launch.report.groups import Estimate

METHODS = ("fedavg", "augerino", "partitioned")

WORDS = (
    "model=mnist_cnn", "model.width=0.5", "model.dropout=0.1",
    "data=fashion_mnist", "data.train_examples=1250", "data.validation=0.02",
    "federate.skew=rotation", "federate.samples=4", "federate.learn_dropout=false",
    "wandb.mode=disabled", "log.view=none",
)  # fmt: skip
"""A small subset and few samples, so that nine runs fit into hours on two cores."""


def train(options: argparse.Namespace, method: str, seed: int) -> dict[str, Any]:
    """Do a run, or what is left of it; return its summary."""
    name = f"{method}-{seed}"
    path = Path(options.runs) / name / "summary.json"
    if not path.exists() or json.loads(path.read_text())["steps"] < options.rounds:
        words = [
            *WORDS, f"federate.method={method}", f"seed={seed}", f"train.steps={options.rounds}",
            f"runs={options.runs}", f"name={name}", *options.words,
        ]  # fmt: skip
        begun = (path.parent / "config.yaml").exists()
        again = [f"runs={options.runs}", f"name={name}", f"train.steps={options.rounds}"]
        status = blockstep(["federate", *([*again, "resume=auto"] if begun else words)])
        if status:
            raise SystemExit(status)
    return json.loads(path.read_text())


def rotation(summary: dict[str, Any]) -> float | None:
    """Return the largest learned angle, in radians; None where none was learned."""
    found = summary["psi"].get("change", {}).get("rotation")
    if found is None:
        return None
    # Augerino learns a width, which goes half to either side.
    return found[0] / 2 if summary["method"] == "augerino" else found[-1]


def row(method: str, summaries: Sequence[dict[str, Any]]) -> str:
    """Return a line of the table."""
    mib = 2.0**20
    columns = (
        ([100 * one["test_accuracy"] for one in summaries], 2),
        ([100 * one["averaged_accuracy"] for one in summaries], 2),
        ([100 * one["upload_share"] for one in summaries], 2),
        ([one["bytes_up"] / mib for one in summaries], 0),
        ([one["bytes_down"] / mib for one in summaries], 0),
        ([rotation(one) for one in summaries], 2),
        ([one["seconds_per_round"] for one in summaries], 2),
    )
    cells = [_cell(values, digits) for values, digits in columns]
    return f"| {method} | {len(summaries)} | {' | '.join(cells)} |"


def _cell(values: Sequence[float | None], digits: int) -> str:
    found = Estimate.of(values)
    if found is None:
        return "-"
    error = f" ± {found.error:.{digits}f}" if found.error else ""
    return f"{found.mean:.{digits}f}{error}"


def main() -> None:
    """Train everything and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--runs", default="runs/bench-federate")
    parser.add_argument("words", nargs="*", help="keys of `blockstep federate`")
    options = parser.parse_intermixed_args()
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in options.seeds:
        for method in options.methods:
            summary = train(options, method, seed)
            found.setdefault(method, []).append(summary)
            print(
                f"{method}, seed {seed}: test {summary['test_accuracy']:.2%}, last evaluations "
                f"{summary['averaged_accuracy']:.2%}, {summary['seconds']:.0f} s",
                flush=True,
            )
    print(
        "\n| method | n | test (%) | last evaluations (%) | upload (% of FedAvg) | up (MiB) "
        "| down (MiB) | rotation (rad) | s/round |\n|---|---|---|---|---|---|---|---|---|"
    )
    for method, summaries in found.items():
        print(row(method, summaries))


if __name__ == "__main__":
    main()
