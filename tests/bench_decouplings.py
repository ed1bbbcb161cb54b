"""What a search is worth: test errors of its decoupling, of uniform cuts and of random ones.

    blockstep search preset=fashion name=fashion
    python tests/bench_decouplings.py runs/fashion/decoupling.json
    python tests/bench_decouplings.py runs/fashion/decoupling.json --blocks 2 train.steps=500

Each decoupling is trained once per seed, on the network, data and width of the search, and its
last block's test error is told as mean and standard error. Rows:

    searched   the cuts and heads that the search found
    uniform    uniform cuts with the same heads
    random N   cuts and heads drawn at random; N = 1, 2, ...

Several trainings run at once, each in one process with one thread (runtime=sequential: the same
weights as in processes of their own). A training that was finished before is not repeated, so an
interrupted experiment goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from blockstep.launch.configfile import config_from_yaml
from blockstep.search import Decoupling, random_cuts, random_heads, uniform


def decouplings(path: Path, *, blocks: int, count: int) -> dict[str, Decoupling]:
    """Return what is compared, by name.

    Args:
        path: What a search found.
        blocks: K.
        count: How many random ones.
    """
    found = Decoupling.load(path).for_blocks(blocks)
    cuts = uniform(found.layers, blocks)
    made = {
        "searched": found,
        "uniform": Decoupling(found.network, found.layers, cuts, found.heads),
    }
    for number in range(1, count + 1):
        drawn = random_cuts(found, seed=number)
        made[f"random {number}"] = random_heads(drawn, found.pool, seed=number)
    return made


def words_of_search(folder: Path) -> list[str]:
    """Return the network and the data that a search was made for, as words for a training."""
    config = config_from_yaml((folder / "config.yaml").read_text(), "search")
    model = [f"model.{key}={value}" for key, value in config.model.items() if key != "name"]
    size = [] if config.data.size is None else [f"data.size={config.data.size}"]
    name = str(config.model["name"])
    return [f"model={name}", *model, f"data={config.data.name}", *size]


def train(folder: Path, name: str, seed: int, words: Sequence[str]) -> float:
    """Train one decoupling, unless that was done before; return the test error in percent."""
    run = f"{name.replace(' ', '-')}-seed-{seed}"
    summary = folder / run / "summary.json"
    if not summary.exists():
        file = folder / f"{name.replace(' ', '-')}.json"
        command = [
            sys.executable, "-m", "blockstep", "train", f"decoupling={file}", f"seed={seed}",
            f"runs={folder}", f"name={run}", "resume=auto", "runtime=sequential",
            "train.threads=1", "measure.backprop=0", "measure.alone=0", "wandb.mode=disabled",
            "log.view=none", "checkpoint.keep=1", *words,
        ]  # fmt: skip
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{run}: {done.stdout}{done.stderr}")
    accuracy = json.loads(summary.read_text())["test_accuracy"]
    error = 100 * (1 - accuracy)
    print(f"{run}: test error {error:.2f} %", flush=True)
    return error


def spread(errors: Sequence[float]) -> str:
    """Return mean and standard error."""
    mean = statistics.mean(errors)
    if len(errors) == 1:
        return f"{mean:.2f}"
    return f"{mean:.2f} +- {statistics.stdev(errors) / len(errors) ** 0.5:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("decoupling", type=Path)
    parser.add_argument("words", nargs="*", help="further keys of the trainings, key=value")
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--random", type=int, default=10, help="how many random decouplings")
    parser.add_argument("--workers", type=int, default=2, help="trainings at once")
    parser.add_argument("--out", type=Path, default=Path("runs/decouplings"))
    options = parser.parse_args()
    made = decouplings(options.decoupling, blocks=options.blocks, count=options.random)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, one in made.items():
        one.save(options.out / f"{name.replace(' ', '-')}.json")
    words = [*words_of_search(options.decoupling.parent), f"blocks={options.blocks}"]
    words += options.words
    with ThreadPoolExecutor(options.workers) as pool:
        jobs = {
            (name, seed): pool.submit(train, options.out, name, seed, words)
            for seed in range(options.seeds)
            for name in made
        }
    errors = {name: [jobs[name, seed].result() for seed in range(options.seeds)] for name in made}
    random = {name: values for name, values in errors.items() if name.startswith("random")}
    print(f"\n{' '.join(words)}, {options.seeds} seeds")
    print("| decoupling | cuts | heads | test error, % |\n|---|---|---|---|")
    for name, values in errors.items():
        cuts = ", ".join(map(str, made[name].cuts))
        heads = ", ".join(map(str, made[name].heads))
        print(f"| {name} | {cuts} | {heads} | {spread(values)} |")
    if random:
        means = [statistics.mean(values) for values in random.values()]
        print(f"| mean of {len(means)} random ones | | | {spread(means)} |")
        ahead = sum(mean < statistics.mean(errors["searched"]) for mean in means)
        print(f"\n{ahead} of {len(means)} random decouplings have a smaller error than searched")
    (options.out / "errors.json").write_text(json.dumps(errors, indent=1))


if __name__ == "__main__":
    main()
