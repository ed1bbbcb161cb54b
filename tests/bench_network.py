"""What a slow network between two nodes costs each method.

    python tests/bench_network.py                                 (as root: it makes namespaces)
    python tests/bench_network.py --rates 1gbit 100mbit --methods ddp decoupled model=vgg19

        node a: network namespace            node b: network namespace
        torchrun --node-rank 0     <------>  torchrun --node-rank 1
                 one core           a pair of virtual interfaces,      one core
                                    each limited to RATE in what it sends

Each node has one core and one rank, so nothing changes but the rate; "none" is a pair without a
limit. Runs are interleaved: every repeat goes through all methods and rates. Ratios are taken
within a repeat, medians over repeats are told.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blockstep.launch.bench.lineup import words_of

NODES = ("a", "b")
PORT = 29511
COMMON = (
    "data=fashion_mnist", "model=resnet50", "model.width=0.25", "train.batch_size=128",
    "train.threads=1", "train.steps=40", "evaluate.every=0", "checkpoint.every=0",
    "checkpoint.best=false", "evaluate.final=false", "measure.backprop=0", "measure.alone=0",
    "wandb.mode=disabled", "log.view=none",
)  # fmt: skip


@contextmanager
def two_nodes(rate: str) -> Iterator[None]:
    """Two namespaces with an interface each, limited in what it sends."""
    name, link = "blockstep-{}".format, "bs-{}".format
    try:
        for node in NODES:
            ip("netns", "add", name(node))
        ends = ["netns", name("a"), "type", "veth", "peer", "name", link("b"), "netns", name("b")]
        ip("link", "add", link("a"), *ends)
        for number, node in enumerate(NODES, 1):
            ip("-n", name(node), "addr", "add", f"10.77.0.{number}/24", "dev", link(node))
            for interface in ("lo", link(node)):
                ip("-n", name(node), "link", "set", interface, "up")
            if rate != "none":
                limit = ["rate", rate, "burst", "256kb", "latency", "200ms"]
                tc = ["tc", "qdisc", "add", "dev", link(node), "root", "tbf", *limit]
                ip("netns", "exec", name(node), *tc)
        yield
    finally:
        for node in NODES:
            subprocess.run(["ip", "netns", "del", name(node)], check=False)


def ip(*words: str) -> None:
    """Run ``ip WORDS``."""
    subprocess.run(["ip", *words], check=True)


def train(folder: Path, name: str, words: Sequence[str], *, rate: str) -> dict[str, Any]:
    """Train on two nodes; return the summary."""
    with two_nodes(rate):
        agents = [_agent(number, folder, name, words) for number in range(len(NODES))]
        outputs = [agent.communicate()[0] for agent in agents]
    if any(agent.returncode for agent in agents):
        raise SystemExit(f"{name}: {''.join(outputs)}")
    return json.loads((folder / name / "summary.json").read_text())


def _agent(number: int, folder: Path, name: str, words: Sequence[str]) -> subprocess.Popen[str]:
    node = NODES[number]
    torchrun = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
        "--node-rank", str(number), "--rdzv-backend", "static",
        "--master-addr", "10.77.0.1", "--master-port", str(PORT),
    ]  # fmt: skip
    command = [*torchrun, "-m", "blockstep", "train", *words, f"runs={folder}", f"name={name}"]
    return subprocess.Popen(
        ["ip", "netns", "exec", f"blockstep-{node}", "taskset", "-c", str(number), *command],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": f"bs-{node}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def main() -> None:
    """Run the comparison and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rates", nargs="+", default=["none", "1gbit", "100mbit"])
    parser.add_argument("--methods", nargs="+", default=["ddp", "decoupled decoupling=balanced"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("words", nargs="*", help="key=value of all trainings")
    given = parser.parse_intermixed_args()
    speeds: dict[tuple[str, str], list[float]] = {}
    bytes_per_step: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        for repeat in range(given.repeats):
            for rate in given.rates:
                for method in given.methods:
                    words = words_of(method, 2, [*COMMON, f"seed={repeat}", *given.words])
                    name = f"{repeat}-{rate}-{method.split()[0]}-{len(bytes_per_step)}"
                    summary = train(Path(place), name, words, rate=rate)
                    speeds.setdefault((method, rate), []).append(summary["images_per_second"])
                    bytes_per_step[method] = summary["bytes_per_step"]
                    told = f"{summary['images_per_second']:.1f} images/s"
                    print(f"repeat {repeat + 1}, {rate}: {method}: {told}", flush=True)
    print(table(given.methods, given.rates, speeds, bytes_per_step))


def table(
    methods: Sequence[str],
    rates: Sequence[str],
    speeds: dict[tuple[str, str], list[float]],
    bytes_per_step: dict[str, Any],
) -> str:
    """Return medians, and ratios to the first method, as Markdown."""
    lines = [
        f"| method | MB sent per step | {' | '.join(rates)} |",
        f"|---|---|{'---|' * len(rates)}",
    ]
    for method in methods:
        cells = []
        for rate in rates:
            own, first = speeds[method, rate], speeds[methods[0], rate]
            ratio = statistics.median(a / b for a, b in zip(own, first, strict=True))
            cells.append(f"{statistics.median(own):.1f} ({ratio:.2f}x)")
        lines.append(f"| {method} | {bytes_per_step[method] / 1e6:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
