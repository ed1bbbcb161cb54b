"""Random walks: small runs with random faults at random steps, and what was lost.

    python -m tests.bench_faults                    200 runs
    python -m tests.bench_faults --runs 1 --first 17      number 17 again

Run number n draws its fault, layer, step, number of blocks, queue depth and interval of
checkpoints from the seed n. Half of the runs restart by themselves (restarts=1), the others are
resumed by hand. Each must end bit for bit where the undisturbed run with as many blocks ends, and
leave no process behind. What does not is printed with its number and kept.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.launch import runs
from tests.launch.runs import QUIET, Finished, blockstep, same, states
from tests.launch.traps import FATAL, HARMLESS, LAYERS, Fault, write_trapped

STEPS = 30
COMMON = (
    *QUIET,
    f"train.steps={STEPS}",
    "checkpoint.best=false",
    "evaluate.every=0",
    "evaluate.final=false",
    "pipeline.verify=true",
    "pipeline.timeout=5",
    "log.view=none",
)
GONE_SECONDS = 10.0


@dataclass(frozen=True)
class Walk:
    """One run.

    Attributes:
        number: Its number, which is its seed.
        blocks: Processes.
        depth: Messages that a link holds.
        every: Steps between checkpoints.
        fault: What goes wrong.
        alone: Whether it restarts by itself.
    """

    number: int
    blocks: int
    depth: int
    every: int
    fault: Fault
    alone: bool

    @classmethod
    def draw(cls, number: int) -> Walk:
        """Draw run ``number``."""
        rng = random.Random(number)
        blocks = rng.choice([1, 2, 4, 8])
        kinds = [kind for kind in (*FATAL, *HARMLESS, "start") if kind != "none"]
        fault = Fault(rng.choice(kinds), rng.randint(1, LAYERS), rng.randint(1, STEPS))
        return cls(
            number,
            blocks,
            rng.choice([1, 2, 4]),
            rng.choice([1, 5, 10, 50]),
            fault,
            rng.random() < 0.5,
        )

    def words(self, flag: Path) -> list[str]:
        """Return its keys."""
        return [
            *COMMON,
            *self.fault.words(flag),
            f"blocks={self.blocks}",
            f"pipeline.queue_messages={self.depth}",
            f"checkpoint.every={self.every}",
            f"restarts={int(self.alone)}",
        ]

    def fatal(self) -> bool:
        """Whether the fault ends the run: the last stage sends nothing that could be damaged."""
        if self.fault.kind == "damage":
            return self.fault.stage(self.blocks) < self.blocks
        return self.fault.kind in (*FATAL, "start")


def walk(project: Path, one: Walk, reference: Path) -> str:
    """Run it; return what is wrong, or nothing."""
    name = f"walk-{one.number}"
    folder = project / "runs" / name
    done = blockstep("train", *one.words(project / f"{name}.flag"), f"name={name}", cwd=project)
    wrong = _first_attempt(one, done)
    if wrong:
        return f"{wrong}\n{done.output}"
    if done.code:
        done = blockstep("train", f"name={name}", "resume=auto", cwd=project)
        if done.code:
            return f"it could not be resumed:\n{done.output}"
    deadline = time.monotonic() + GONE_SECONDS
    while any(map(runs.alive, runs.pids(folder))):
        if time.monotonic() > deadline:
            return "a process was left behind"
        time.sleep(0.1)
    if not same(states(folder, STEPS), states(reference, STEPS)):
        return "it ended at other weights"
    return ""


def _first_attempt(one: Walk, done: Finished) -> str:
    if not one.fatal():
        return "a harmless fault ended it" if done.code else ""
    if not one.alone:
        return "" if done.code == 1 else f"its status is {done.code} instead of 1"
    if done.code:
        return "it did not restart by itself"
    return "" if "restart 1 of 1" in done.output else "the fault did not happen"


def main() -> None:
    """Run the walks and print what was survived and lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--first", type=int, default=1)
    given = parser.parse_args()
    project = write_trapped(Path(tempfile.mkdtemp(prefix="walks-")))
    references: dict[int, Path] = {}
    survived: Counter[str] = Counter()
    lost: list[int] = []
    for number in range(given.first, given.first + given.runs):
        one = Walk.draw(number)
        if one.blocks not in references:
            name = f"undisturbed-{one.blocks}"
            words = [*COMMON, *Fault("none").words(project / "never"), f"blocks={one.blocks}"]
            done = blockstep("train", *words, f"name={name}", cwd=project)
            if done.code:
                raise SystemExit(done.output)
            references[one.blocks] = project / "runs" / name
        wrong = walk(project, one, references[one.blocks])
        if wrong:
            lost.append(number)
            print(f"LOST {one}: {wrong}", flush=True)
            continue
        survived[one.fault.kind] += 1
        shutil.rmtree(project / "runs" / f"walk-{number}")
        print(f"survived {one}", flush=True)
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(survived.items()))
    print(f"{given.runs} runs, survived {sum(survived.values())} ({kinds}), lost {lost or 'none'}")
    if not lost:
        shutil.rmtree(project)


if __name__ == "__main__":
    main()
