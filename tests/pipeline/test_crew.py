"""All stages in one process: in turns and in threads."""

from __future__ import annotations

import math
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.pipeline.checkpoint import Checkpoints
from blockstep.pipeline.crew import run_in_threads, run_in_turns
from blockstep.pipeline.feed import Agenda
from blockstep.pipeline.link import LinkClosedError
from blockstep.pipeline.stage import NonFiniteLossError
from torch import Tensor
from torch.nn import functional as F

from tests.pipeline.parts import Blocked, Crew, Images, differences, make_crew, until

AGENDA = Agenda(
    start=0,
    steps=12,
    batch_size=8,
    evaluate_every=5,
    evaluate_batch_size=7,
    splits=("validation",),
    final_splits=("validation", "test"),
    checkpoint_every=4,
)


def results(crew: Crew) -> list[Any]:
    """Return all that a run leaves: weights, evaluations, and the digests of its shards."""
    digests = [
        {step: shard.sha256 for step, shard in records.shards.items()} for records in crew.records
    ]
    return [crew.states(), [records.evaluations for records in crew.records], digests]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], list[Any]]:
    """The results of runs in turns, each made once."""
    made: dict[int, list[Any]] = {}

    def results_of(blocks: int) -> list[Any]:
        if blocks not in made:
            folder = tmp_path_factory.mktemp(f"turns{blocks}")
            crew = make_crew(blocks, AGENDA, folder=folder)
            assert run_in_turns(crew.workers) == 12
            made[blocks] = results(crew)
        return made[blocks]

    return results_of


@pytest.mark.parametrize("depth", [1, 2, 8])
@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
def test_threads_change_nothing(
    blocks: int, depth: int, reference: Callable[[int], list[Any]], tmp_path: Path
) -> None:
    """Threads with queues of any depth give the weights, results and shards of turns."""
    crew = make_crew(blocks, AGENDA, depth=depth, folder=tmp_path)
    assert run_in_threads(crew.workers, crew.links) == 12
    assert differences(reference(blocks), results(crew)) == []
    evaluations = crew.records[-1].evaluations
    assert [(result["step"], result["split"]) for result in evaluations] == [
        (5, "validation"),
        (10, "validation"),
        (12, "validation"),
        (12, "test"),
    ]
    assert list(crew.records[0].shards) == [4, 8, 12]


def test_the_order_of_threads_is_free_but_the_steps_are_not(
    reference: Callable[[int], list[Any]], tmp_path: Path
) -> None:
    """A stage that is held up at random gives the same weights."""
    crew = make_crew(3, AGENDA, depth=4, folder=tmp_path)
    pause = threading.Event()
    for number, worker in enumerate(crew.workers):
        step = worker.stage.step

        def slowly(message: Any, step: Any = step, number: int = number) -> Any:
            pause.wait(((message.step * 7 + number * 5) % 4) / 500)
            return step(message)

        worker.stage.step = slowly
    run_in_threads(crew.workers, crew.links)
    assert differences(reference(3), results(crew)) == []


def test_a_run_learns() -> None:
    """Sixty steps lower the last block's loss: what is compared above is no standstill."""
    crew = make_crew(2, Agenda(start=0, steps=60, batch_size=16), depth=2)
    run_in_threads(crew.workers, crew.links)
    reports = [report["loss"] for report in crew.records[1].mailbox.take()]
    assert reports[-1] < 0.9 * reports[0]


def test_a_run_in_turns_may_use_dropout_and_be_resumed(tmp_path: Path) -> None:
    """Stopped at step 5, written to disk and continued, a run ends as the uninterrupted one."""
    whole = make_crew(3, AGENDA, dropout=0.3)
    run_in_turns(whole.workers)

    first = make_crew(3, AGENDA, dropout=0.3, folder=tmp_path)
    watched = first.workers[0].stage.step

    def stop_at_5(message: Any) -> Any:
        if message.step == 5:
            first.stop.set()
        return watched(message)

    first.workers[0].stage.step = stop_at_5
    assert run_in_turns(first.workers) == 5
    checkpoints = Checkpoints(tmp_path)
    shards = [records.shards[5] for records in first.records]
    checkpoint = checkpoints.commit(5, {}, shards)
    states = [checkpoint.load(shard.name) for shard in shards]

    second = make_crew(3, Agenda(**{**vars(AGENDA), "start": 5}), dropout=0.3, state=states)
    assert run_in_turns(second.workers) == 12
    assert differences(whole.states(), second.states()) == []
    for left, right in zip(whole.records, second.records, strict=True):
        expected = [result for result in left.evaluations if result["step"] > 5]
        assert right.evaluations == expected


def failing(stage: int, step: int, error: Exception | None) -> Callable[[int], Any]:
    """Make losses of which one stage's raises, or is not a number, at one step."""

    def criterion(index: int) -> Callable[[Tensor, Tensor], Tensor]:
        calls = []

        def loss_of_the_test(logits: Tensor, labels: Tensor) -> Tensor:
            calls.append(1)
            if index == stage and len(calls) == step:
                if error is not None:
                    raise error
                return F.cross_entropy(logits, labels) * math.nan
            return F.cross_entropy(logits, labels)

        return loss_of_the_test

    return criterion


LONG = Agenda(start=0, steps=500, batch_size=4)


@pytest.mark.parametrize("depth", [1, 8])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_first_error_wins(stage: int, depth: int) -> None:
    """An error in any stage is raised as itself, with its traceback, and ends all threads."""
    before = threading.active_count()
    crew = make_crew(3, LONG, depth=depth, criterion=failing(stage, 7, ValueError("the cause")))
    with pytest.raises(ValueError, match="the cause") as caught:
        Blocked(run_in_threads, crew.workers, crew.links).result()
    assert "loss_of_the_test" in "".join(traceback.format_tb(caught.value.__traceback__))
    assert threading.active_count() <= before + 1
    assert crew.workers[stage - 1].activity.step == 7
    for link in crew.links:
        assert link.depth() == (0, 0)


def test_an_error_of_the_data_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the data set raises ends the run, and the stages' closed links do not hide it."""
    crew = make_crew(3, LONG, depth=2)

    def fail(*_: Any) -> Any:
        raise OSError("image 7 is damaged")

    monkeypatch.setattr(crew.workers[0]._inlet, "get", fail)
    with pytest.raises(OSError, match="image 7 is damaged"):
        Blocked(run_in_threads, crew.workers, crew.links).result()


@pytest.mark.parametrize("run", [run_in_turns, run_in_threads])
def test_a_loss_that_is_not_a_number_names_its_stage(run: Any) -> None:
    """NaN in stage 2 is stage 2's error, at its step, in both runtimes."""
    crew = make_crew(3, LONG, criterion=failing(2, 7, None))
    arguments = (crew.workers,) if run is run_in_turns else (crew.workers, crew.links)
    with pytest.raises(NonFiniteLossError, match="stage 2: the loss of step 7 is nan"):
        Blocked(run, *arguments).result()


def test_bad_data_are_the_first_stages_error() -> None:
    """NaN in the images is found by stage 1, before later stages learn from it."""
    crew = make_crew(3, LONG, source=Images(broken_at=9))
    with pytest.raises(NonFiniteLossError, match="stage 1: the loss of step 9 is nan"):
        run_in_threads(crew.workers, crew.links)


def test_a_closed_link_without_a_cause_is_itself_the_error() -> None:
    """If nothing else went wrong, the closed link is reported instead of nothing."""
    crew = make_crew(2, LONG)
    crew.links[0].close()
    with pytest.raises(LinkClosedError, match="link 1->2"):
        Blocked(run_in_threads, crew.workers, crew.links).result()


def test_a_cause_wins_over_an_echo_that_came_first() -> None:
    """A closed link that is noticed before its cause is raised does not hide the cause."""
    crew = make_crew(2, LONG)

    def slowly(message: Any) -> Any:
        crew.links[0].close()
        until(lambda: "stage 1" not in [thread.name for thread in threading.enumerate()])
        raise ValueError("the cause")

    crew.workers[1].stage.step = slowly
    with pytest.raises(ValueError, match="the cause"):
        Blocked(run_in_threads, crew.workers, crew.links).result()


@pytest.mark.parametrize("run", [run_in_turns, run_in_threads])
def test_a_run_of_no_steps_ends(run: Any) -> None:
    """A run that is resumed at its end trains nothing and returns its last step."""
    crew = make_crew(3, Agenda(start=12, steps=12, batch_size=8))
    before = [{name: t.clone() for name, t in s["body"].items()} for s in crew.states()]
    arguments = (crew.workers,) if run is run_in_turns else (crew.workers, crew.links)
    assert Blocked(run, *arguments).result() == 12
    assert differences(before, [dict(state["body"]) for state in crew.states()]) == []
    assert torch.is_grad_enabled()
