"""Every fault, at a stage and a step of a run: who is named, who is left, what is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.launch import runs
from tests.launch.runs import QUIET, blockstep, same, states, wait_for
from tests.launch.traps import FATAL, HARMLESS, Fault, write_trapped

BLOCKS, STEPS = 4, 30
WORDS = (
    *QUIET,
    f"blocks={BLOCKS}",
    f"train.steps={STEPS}",
    "checkpoint.every=10",
    "checkpoint.keep=9",
    "checkpoint.best=false",
    "evaluate.every=0",
    "evaluate.final=false",
    "pipeline.verify=true",
    "pipeline.timeout=5",
    "log.every=1",
)

CAUSES = {
    "raise": "ValueError: a trap went off",
    "exit": "the process ended with status 7",
    "kill": "the process was ended by SIGKILL",
    "term": "the process was ended by SIGTERM",
    "stop": "hangs",
    "not_a_number": "NonFiniteLossError",
    "damage": "damaged on its way over link 1->2",
}
"""What is said of each, in the last line."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the network."""
    return write_trapped(tmp_path_factory.mktemp("trapped"))


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> Path:
    """A run that nothing happens to."""
    words = Fault("none").words(place / "never")
    done = blockstep("train", *WORDS, *words, "name=undisturbed", cwd=place)
    assert done.code == 0, done.output
    return place / "runs" / "undisturbed"


def all_gone(folder: Path) -> None:
    """No rank is left."""
    pids = runs.pids(folder)
    wait_for(lambda: not any(map(runs.alive, pids)), limit=10, text="the end of all ranks")


@pytest.mark.parametrize(("kind", "layer"), zip(FATAL, (2, 3, 6, 1, 4, 5, 3), strict=True))
def test_a_fatal_fault_costs_what_came_after_the_checkpoint(
    place: Path, undisturbed: Path, kind: str, layer: int
) -> None:
    """The stage is named with its cause, all ranks end, and the resumed run ends the same."""
    fault, name = Fault(kind, layer, 15), f"{kind}-{layer}"
    stage = fault.stage(BLOCKS)
    words = [*WORDS, *fault.words(place / f"{name}.flag"), f"name={name}"]
    done = blockstep("train", *words, cwd=place)
    folder = place / "runs" / name
    assert done.code == 1, done.output
    told = done.output[done.output.rindex("blockstep: failed at ") :]
    cause = CAUSES[kind].replace("1->2", f"{stage}->{stage + 1}")
    assert cause in told
    # A damaged tensor is noticed by the stage that gets it.
    named = stage + (kind == "damage")
    assert told.startswith(f"blockstep: failed at stage {named} (rank {named - 1}), step ")
    all_gone(folder)
    assert same(states(folder, 10), states(undisturbed, 10))
    done = blockstep("train", f"name={name}", "resume=auto", cwd=place)
    assert done.code == 0, done.output
    assert same(states(folder, STEPS), states(undisturbed, STEPS))


@pytest.mark.parametrize("kind", [kind for kind in HARMLESS if kind != "none"])
def test_a_harmless_fault_costs_nothing(place: Path, undisturbed: Path, kind: str) -> None:
    """A stage that is slow for a moment, and a clock that jumps back by days."""
    words = Fault(kind, 3, 15).words(place / f"{kind}.flag")
    done = blockstep("train", *WORDS, *words, f"name={kind}", cwd=place)
    assert done.code == 0, done.output
    assert (place / f"{kind}.flag").exists()
    assert same(states(place / "runs" / kind, STEPS), states(undisturbed, STEPS))


def test_more_processes_than_cores(place: Path, undisturbed: Path) -> None:
    """Eight processes with links of depth 1; one is killed, and the run restarts by itself."""
    fault = Fault("kill", 7, 25)
    words = [*WORDS, "blocks=8", "pipeline.queue_messages=1", "restarts=1"]
    for name, trap in (("eight", Fault("none")), ("seven", fault)):
        flags = trap.words(place / f"{name}.flag")
        done = blockstep("train", *words, *flags, f"name={name}", cwd=place)
        assert done.code == 0, done.output
    assert "stage 7 (rank 6)" in done.output
    assert same(states(place / "runs" / "seven", STEPS), states(place / "runs" / "eight", STEPS))


def test_a_rank_that_is_lost_before_the_links_are_made(place: Path, undisturbed: Path) -> None:
    """The others wait for it to connect; all end, and the run can be begun again."""
    words = [*WORDS, *Fault("start").words(place / "start.flag"), "name=start"]
    done = blockstep("train", *words, cwd=place)
    assert done.code == 1
    assert "the process was ended by SIGKILL" in done.last_line
    done = blockstep("train", "name=start", "resume=auto", cwd=place)
    assert done.code == 0, done.output
    assert same(states(place / "runs" / "start", STEPS), states(undisturbed, STEPS))
