"""Tests of `blockstep.launch.training.placement` and `.sharing`: which rank runs what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.launch.compose import compose
from blockstep.launch.config import TrainConfig
from blockstep.launch.job import Objects
from blockstep.launch.membership import Membership
from blockstep.launch.refusal import ConfigError
from blockstep.launch.training import sharing
from blockstep.launch.training.announcement import announcement
from blockstep.launch.training.board import progress_lines
from blockstep.launch.training.forecast import forecast
from blockstep.launch.training.job import TrainJob
from blockstep.launch.training.placement import Placement, place
from blockstep.launch.training.preparation import TrainPreparation, prepare
from blockstep.launch.training.sharing import check_ranks, keep_replicas

SMALL = (
    "model=mlp", "model.hidden=8", "model.depth=4", "data=digits", "heads=linear",
    "decoupling=uniform", "train.batch_size=8", "train.steps=4", "name=x", "device=cpu",
)  # fmt: skip


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Deciding a run sets the threads of this process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def member(world: int) -> Membership:
    """Make rank 0 of torchrun's ranks on one machine."""
    return Membership(0, world, 0, world, "127.0.0.1", 1, "", True)


def layout(*words: str) -> Placement:
    """Lay out a run."""
    return place(compose("train", [*SMALL, *words]))


def decide(*words: str, ranks: int | None = None, **options: Any) -> TrainPreparation:
    """Decide a training that is not started."""
    config = compose("train", [*SMALL, *words])
    started = member(ranks) if ranks else None
    options = {"create": False, **options}
    return prepare("train", config, Objects(), overrides=words, member=started, **options)


def refused(*words: str) -> str:
    """Return why words are refused."""
    with pytest.raises(ConfigError) as caught:
        compose("train", [*SMALL, *words])
    return str(caught.value)


# --- The layout ---------------------------------------------------------------------------------


def test_ranks_are_those_of_stage_1_first() -> None:
    """Every rank has a stage and a replica of it, and every stage its ranks in a row."""
    found = layout("pipeline.replicas=[3,1,2]")
    assert found.ranks == 6
    ranks = range(6)
    assert [found.stages(rank) for rank in ranks] == [[1], [1], [1], [2], [3], [3]]
    assert [found.replica_of(rank) for rank in ranks] == [1, 2, 3, 1, 1, 2]
    assert [found.ranks_of(stage) for stage in (1, 2, 3)] == [[0, 1, 2], [3], [4, 5]]
    assert [found.rank_of(stage) for stage in (1, 2, 3)] == [0, 3, 4]
    assert found.label(1) == "stage 1 replica 2 (rank 1)"
    assert found.label(3) == "stage 2 (rank 3)"


@pytest.mark.parametrize("words", [("runtime=sequential",), ("pipeline.link=local",)])
def test_stages_that_share_a_process_have_no_replicas(words: tuple[str, ...]) -> None:
    """One rank runs all stages, and nothing is linked between ranks."""
    found = layout("blocks=3", *words)
    assert (found.ranks, found.replicas, found.together) == (1, (1, 1, 1), True)
    assert found.stages(0) == [1, 2, 3]
    assert [found.rank_of(stage) for stage in (1, 2, 3)] == [0, 0, 0]
    assert (found.replica_of(0), found.label(0), found.edges()) == (1, "stages 1-3 (rank 0)", [])


def test_a_number_is_meant_for_each_stage() -> None:
    """pipeline.replicas=2 are two for each block; none is one."""
    assert layout("blocks=3", "pipeline.replicas=2").replicas == (2, 2, 2)
    assert layout("blocks=3").replicas == (1, 1, 1)
    assert layout("method=backprop", "heads=null", "pipeline.replicas=4").ranks == 4


@pytest.mark.parametrize(
    ("replicas", "expected"),
    [
        ("[1,1,1]", ["0>1 link 1->2", "1>2 link 2->3"]),
        ("[2,2]", ["0>2 link 1->2 (replica 1 to 1)", "1>3 link 1->2 (replica 2 to 2)"]),
        ("[1,2]", ["0>1 link 1->2 (replica 1 to 1)", "0>2 link 1->2 (replica 1 to 2)"]),
        ("[2,1]", ["0>2 link 1->2 (replica 1 to 1)", "1>2 link 1->2 (replica 2 to 1)"]),
    ],
)
def test_unequal_neighbours_are_linked_every_one_with_every_one(
    replicas: str, expected: list[str]
) -> None:
    """Equal ones are linked one to one; the only link of a boundary has the name it always had."""
    edges = layout(f"pipeline.replicas={replicas}").edges()
    assert [f"{edge.source}>{edge.target} {edge.label}" for edge in edges] == expected


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("pipeline.replicas=0",), "a list of one for each block"),
        (("pipeline.replicas=true",), "a list of one for each block"),
        (("pipeline.replicas=many",), "must be auto"),
        (("pipeline.replicas=[]",), "a list of one for each block"),
        (("pipeline.replicas=[2,0]",), "a list of one for each block"),
        (("pipeline.replicas=[1,2]", "blocks=3"), "names 2 stages, but blocks=3"),
        (("pipeline.replicas=2", "runtime=sequential"), "runtime=sequential runs all stages in"),
        (("pipeline.replicas=auto", "runtime=sequential"), "choose runtime=pipeline"),
        (("pipeline.replicas=2", "pipeline.link=local"), "choose pipeline.link=auto"),
        (("pipeline.replicas=9",), "9 processes share train.batch_size=8 examples"),
        (("pipeline.replicas=4", "train.chunk=3"), "no process has more than 2 examples"),
        (("pipeline.ranks=4",), "leave it out"),
        (("pipeline.ranks=4", "pipeline.replicas=2"), "is what pipeline.replicas=auto divides"),
        (("pipeline.ranks=1", "pipeline.replicas=auto"), "at least blocks=2"),
        (("pipeline.ranks=0", "pipeline.replicas=auto"), "at least 1"),
    ],
)
def test_impossible_replicas_are_refused(words: tuple[str, ...], text: str) -> None:
    """With the key, the value and what would be valid."""
    told = refused(*words)
    assert text in told
    assert words[0] in told or words[-1] in told


def test_what_is_possible_is_accepted() -> None:
    """A list settles the number of blocks; chunks count where a stage has the whole batch."""
    assert compose("train", [*SMALL, "pipeline.replicas=[2,1,3]"]).blocks == 3
    compose("train", [*SMALL, "pipeline.replicas=[4,1]", "train.chunk=3"])
    compose("train", [*SMALL, "pipeline.replicas=[1,1]", "runtime=sequential"])
    compose("train", [*SMALL, "pipeline.replicas=auto", "pipeline.ranks=7"])


@pytest.mark.parametrize(
    ("words", "world", "text"),
    [
        (("pipeline.replicas=[2,1]",), 4, r"started 4 ranks, but pipeline.replicas=\[2,1\] .*3"),
        (("pipeline.replicas=2",), 3, "started 3 ranks, but pipeline.replicas=2 .* needs 4"),
        ((), 3, "started 3 ranks, but blocks=2"),
        (("pipeline.replicas=auto",), 1, "started 1 ranks, but blocks=2"),
        (("pipeline.replicas=auto", "pipeline.ranks=3"), 4, "ranks=3, but torchrun started 4"),
    ],
)
def test_other_ranks_of_torchrun_are_refused(words: tuple[str, ...], world: int, text: str) -> None:
    """With both numbers."""
    with pytest.raises(ConfigError, match=text):
        check_ranks(compose("train", [*SMALL, *words]), member(world))


def test_the_ranks_of_torchrun_that_fit_are_accepted() -> None:
    """As many as there are replicas; any that are enough for auto."""
    check_ranks(compose("train", [*SMALL, "pipeline.replicas=[2,1]"]), member(3))
    check_ranks(compose("train", [*SMALL, "pipeline.replicas=auto"]), member(5))
    check_ranks(compose("train", [*SMALL]), member(2))


def test_a_metric_that_cannot_be_joined_is_refused() -> None:
    """A metric of the user's own, without torchmetrics, would see one replica's examples."""
    metric = "train.metrics=[{_target_: tests.launch.test_placement.Own}]"
    assert decide(metric).job.ranks == 2
    with pytest.raises(ConfigError, match=r"train.metrics: Own is no torchmetrics.Metric"):
        decide(metric, "pipeline.replicas=2")
    known = "train.metrics=[{_target_: torchmetrics.classification.MulticlassAccuracy}]"
    assert decide(known, "pipeline.replicas=2").job.ranks == 4


class Own:
    """A metric that is no torchmetrics.Metric."""


# --- What is decided -----------------------------------------------------------------------------


def test_the_stored_configuration_has_a_list() -> None:
    """Whatever was typed, a run's own configuration says how many each stage has."""
    assert decide().job.config.pipeline.replicas == [1, 1]
    assert decide("pipeline.replicas=2").job.config.pipeline.replicas == [2, 2]
    job = decide("pipeline.replicas=[3,1]").job
    again = TrainJob.from_json(job.to_json())
    assert again.config.pipeline.replicas == [3, 1]
    assert again.placement == job.placement
    assert [job.reads_data(rank) for rank in range(4)] == [True, True, True, False]


def test_threads_are_those_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cores are divided by the processes, replicas included."""
    monkeypatch.setattr("blockstep.launch.devices.cores", lambda: 12)
    assert decide("pipeline.replicas=[3,1]").job.config.train.threads == 3
    assert decide().job.config.train.threads == 6


@pytest.mark.parametrize(
    ("seconds", "words", "started", "expected"),
    [
        ([3.0, 1.0], ("pipeline.ranks=4",), None, [3, 1]),
        ([1.0, 3.5], ("pipeline.ranks=5",), None, [1, 4]),
        ([3.0, 1.0], (), 4, [3, 1]),
        ([1.0, 1.0], (), None, [3, 3]),
    ],
)
def test_auto_divides_by_measured_times(
    monkeypatch: pytest.MonkeyPatch,
    seconds: list[float],
    words: tuple[str, ...],
    started: int | None,
    expected: list[int],
) -> None:
    """The ranks that were named, or torchrun's, or as many as there are cores, are divided."""
    monkeypatch.setattr(sharing, "cores", lambda: 6)
    monkeypatch.setattr(
        "blockstep.launch.training.preparation.block_seconds", lambda *_: list(seconds)
    )
    found = decide("pipeline.replicas=auto", *words, ranks=started)
    pipeline = found.job.config.pipeline
    assert (pipeline.replicas, pipeline.ranks) == (expected, None)
    assert found.job.ranks == sum(expected)
    assert found.block_seconds == seconds


@pytest.mark.parametrize(
    "words", [("decoupling=balanced",), ("decoupling=uniform",), ("cuts=[3]", "decoupling=null")]
)
def test_auto_measures_what_was_not_measured(words: tuple[str, ...]) -> None:
    """However the network is cut, times of its blocks are at hand, and all ranks are used."""
    found = decide("pipeline.replicas=auto", "pipeline.ranks=5", *words)
    assert sum(found.job.placement.replicas) == 5
    assert found.block_seconds is not None
    assert len(found.block_seconds) == 2
    assert min(found.block_seconds) > 0


def test_auto_with_more_ranks_than_examples_is_refused() -> None:
    """A replica without examples cannot learn."""
    with pytest.raises(ConfigError, match=r"auto divides 17 ranks as \[\d+,\d+\], but train.batch"):
        decide("pipeline.replicas=auto", "pipeline.ranks=17")


def test_one_block_gets_all_ranks() -> None:
    """Nothing is measured where there is nothing to divide."""
    found = decide("pipeline.replicas=auto", "pipeline.ranks=3", "method=backprop", "heads=null")
    assert found.job.config.pipeline.replicas == [3]


def resumed(before: list[int] | None, *words: str, ranks: int | None = None) -> TrainConfig:
    """Continue a run that has ``before`` with what is typed now."""
    old = compose("train", [*SMALL])
    old.pipeline.replicas = before
    now = compose("train", [*SMALL, *words])
    if not words:
        now.pipeline.replicas = before
    keep_replicas(old, now, member(ranks) if ranks else None)
    return now


def test_a_resume_keeps_the_replicas() -> None:
    """The same words, auto or none continue with what the run has; others are refused."""
    for words in ((), ("pipeline.replicas=auto",), ("pipeline.replicas=[2,1]",)):
        assert resumed([2, 1], *words).pipeline.replicas == [2, 1]
    assert resumed(None).pipeline.replicas == [1, 1]
    with pytest.raises(ConfigError, match=r"replicas=2, but the run has \[2,1\]"):
        resumed([2, 1], "pipeline.replicas=2")
    with pytest.raises(ConfigError, match="started 4 ranks, but the run has 3"):
        resumed([2, 1], ranks=4)
    assert resumed([2, 1], ranks=3).pipeline.replicas == [2, 1]


# --- What is told --------------------------------------------------------------------------------


def test_replicas_are_told_where_there_are_several() -> None:
    """The announcement, the dry run and the progress name them; other stages are as ever."""
    found = decide("pipeline.replicas=[3,1]")
    lines = announcement(found).splitlines()
    assert lines[4].endswith(", 3 replicas (ranks 0-2) with 3 or 2 examples of each batch")
    assert "replica" not in lines[5]
    lines = forecast(found).splitlines()
    assert "layers 1-2, 3 replicas: ranks 0 on cpu, 1 on cpu, 2 on cpu: weights" in lines[1]
    assert "for each replica, queue behind it" in lines[1]
    assert "layers 3-4, rank 3 on cpu: weights" in lines[2]
    record = {
        "event": "train", "stage": 1, "step": 5, "loss": 1.0, "accuracy": 0.5,
        "images_per_second": 9.0, "queue_depth": 0, "busy": 1.0, "wait_in": 0.0, "wait_out": 0.0,
    }  # fmt: skip
    (line,) = progress_lines([record], steps=9, replicas=[3, 1])
    assert "| stage 1 (3 replicas) |" in line
    (line,) = progress_lines([record], steps=9)
    assert "| stage 1 |" in line


def test_a_share_of_the_batch_is_what_a_replica_remembers(tmp_path: Path) -> None:
    """The dry run counts the activations of the largest share."""

    def activations(*words: str) -> float:
        line = forecast(decide("train.batch_size=64", *words)).splitlines()[1]
        return float(line.partition("activations ")[2].partition(" MiB")[0])

    whole = activations("model.hidden=2048")
    assert activations("model.hidden=2048", "pipeline.replicas=4") == pytest.approx(
        whole / 4, abs=0.1
    )
