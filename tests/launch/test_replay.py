"""Replay and slow stages as a user meets them: keys, what is told, and one run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.launch.compose import compose
from blockstep.launch.config import PipelineConfig
from blockstep.launch.job import Objects
from blockstep.launch.refusal import ConfigError
from blockstep.launch.training.announcement import announcement, closing_table
from blockstep.launch.training.board import TrainBoard
from blockstep.launch.training.delay import delay_of, slowed
from blockstep.launch.training.figures import TrainFigures
from blockstep.launch.training.forecast import forecast
from blockstep.launch.training.method import METHODS
from blockstep.launch.training.preparation import TrainPreparation, prepare

from tests.launch.report.reading import Page
from tests.launch.runs import QUIET, blockstep, summary

REPLAY = "replay.batches=4"
REFUSED = [
    (["method=dgl", "replay.batches=-1"], "replay.batches=-1", "at least 0"),
    (["method=dgl", REPLAY, "replay.reuse=0"], "replay.reuse=0", "at least 1"),
    (["method=dgl", "replay.reuse=2"], "replay.reuse=2", "replay.batches is used, which is 0"),
    (["method=ddg", REPLAY], REPLAY, "method=ddg sends the error of each batch back"),
    (["method=features_replay", REPLAY], REPLAY, "choose method=dgl"),
    (["method=backprop", "runtime=gpipe", REPLAY], REPLAY, "sends the error of each batch back"),
    (["method=backprop", REPLAY], REPLAY, "one block, which has no link"),
    (["method=dgl", "blocks=1", REPLAY], REPLAY, "one block has no link; give blocks=2"),
    (["method=dgl", "runtime=sequential", REPLAY], REPLAY, "runtime=sequential stages take turns"),
    *(
        (
            ["method=dgl", "blocks=2", REPLAY, f"pipeline.replicas={replicas}"],
            f"pipeline.replicas={replicas}",
            "with replay.batches=4 only the first stage may have several",
        )
        for replicas in ("[1,2]", "2", "auto")
    ),
    (["blocks=3", "pipeline.delay=[1.0]"], "pipeline.delay=[1.0]", "1 stages, but blocks=3"),
    (["pipeline.delay=[-1.0,0.0]"], "pipeline.delay=[-1.0,0.0]", "each at least 0"),
    (["pipeline.delay=[0.0,120.0]"], "pipeline.delay=[0.0,120.0]", "below pipeline.timeout=120"),
    (["pipeline.delay=slow"], "pipeline.delay=slow", "a list of numbers"),
]


@pytest.mark.parametrize(("words", "start", "hint"), REFUSED, ids=[w[0][-1] for w in REFUSED])
def test_what_cannot_be_is_refused(words: list[str], start: str, hint: str) -> None:
    """One problem, with the key, its value and what would be valid."""
    with pytest.raises(ConfigError) as refused:
        compose("train", words)
    (problem,) = refused.value.problems
    assert problem.startswith(f"{start}: ")
    assert hint in problem


@pytest.mark.parametrize("method", [n for n, m in METHODS.items() if not (m.whole or m.feedback)])
def test_methods_that_learn_from_activations_alone_can_replay(method: str) -> None:
    """Without limit or with one; and the first stage may have replicas, where the method may."""
    words = [f"method={method}", "blocks=2", REPLAY, "replay.reuse=3", "pipeline.delay=[0.2,0]"]
    config = compose("train", words)
    assert (config.replay.batches, config.replay.reuse) == (4, 3)
    assert config.pipeline.delay == [0.2, 0.0]
    if METHODS[method].replicas:
        assert compose("train", [*words, "pipeline.replicas=[3,1]"]).pipeline.replicas == [3, 1]


def prepared(*words: str, folder: Path) -> TrainPreparation:
    """Decide a training of a small DGL network without beginning it."""
    small = ("method=dgl", "model.width=0.0625", "blocks=3", "train.batch_size=16")
    config = compose("train", [*small, "wandb.mode=disabled", *words, f"runs={folder}"])
    return prepare("train", config, Objects(), create=False)


def test_the_start_says_what_replay_does_to_results(tmp_path: Path) -> None:
    """Who learns again, from how much, that no other run equals it, and which stage is slowed."""
    words = ("replay.batches=4", "replay.reuse=2", "pipeline.delay=[0,0.25,0]")
    lines = announcement(prepared(*words, folder=tmp_path)).splitlines()
    (line,) = [line for line in lines if "replay:" in line]
    assert "stages 2-3 learn again from the newest 4 batches, from each at most 2 times" in line
    assert any("results depend on timing" in line for line in lines)
    slow = [line for line in lines if "each step 250 ms longer (pipeline.delay)" in line]
    assert [line.split(":")[0].strip() for line in slow] == ["stage 2"]
    plain = announcement(prepared(folder=tmp_path))
    assert "replay" not in plain
    assert "longer" not in plain


def test_a_dry_run_counts_the_ring(tmp_path: Path) -> None:
    """Every stage but the first keeps so many of its inputs; without replay nobody does."""
    preparation = prepared("replay.batches=5", "train.batch_size=512", folder=tmp_path)
    lines = forecast(preparation).splitlines()[1:4]
    assert "replay" not in lines[0]
    x = preparation.job.task.example(2)
    bounds = preparation.job.decoupling.bounds()
    for line, (first, last) in zip(lines[1:], bounds, strict=False):
        with torch.no_grad():
            x = preparation.network.body(first, last).eval()(x)
        ring = 5 * 512 * x[0].numel() * 4 / 2**20
        assert f" replay at most {ring:.1f} MiB," in line
    assert "replay" not in forecast(prepared(folder=tmp_path))


def test_the_terminal_and_wandb_tell_replays() -> None:
    """The line of a stage says how many; shares of time leave room for them; wandb gets all."""
    times = {"busy": 1.0, "wait_in": 0.0, "wait_out": 1.0, "replay": 2.0}
    record = {
        **{"event": "train", "step": 4, "stage": 2, "loss": 1.0, "accuracy": 0.5, **times},
        **{"images_per_second": 8.0, "queue_depth": 0, "replayed": 7, "replay_staleness": 1.5},
    }
    line = TrainBoard("run", steps=10, start=0).line(record)
    assert "busy  25% in   0% out  25% again 7 |" in line
    values = TrainFigures(Path("decoupling.json")).values(record)
    assert values["stage/2/replayed"] == 7
    assert values["stage/2/replay_staleness"] == 1.5
    without = {key: value for key, value in record.items() if not key.startswith("replay")}
    line = TrainBoard("run", steps=10, start=0).line(without)
    assert "busy  50% in   0% out  50% |" in line


def test_a_slowed_step_lasts_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The delay comes after the step, inside of nothing else, and only where there is one."""
    told: list[Any] = []
    monkeypatch.setattr(time, "sleep", told.append)

    @contextmanager
    def around(step: int) -> Iterator[None]:
        told.append(f"enter {step}")
        yield
        told.append("leave")

    assert slowed(around, 0.0) is around
    with slowed(around, 0.25)(7):
        told.append("step")
    assert told == ["enter 7", "step", 0.25, "leave"]
    with pytest.raises(ValueError, match="broken"), slowed(around, 0.25)(8):
        raise ValueError("broken")
    assert told[4:] == ["enter 8"]
    config = PipelineConfig(delay=[0.5, 0.0])
    assert [delay_of(config, stage) for stage in (1, 2)] == [0.5, 0.0]
    assert delay_of(PipelineConfig(), 3) == 0.0


STEPS = 24


def test_behind_a_delayed_stage_a_run_learns_again(project: Path) -> None:
    """Two processes, the first one slowed: the second learns more often, hands on no more."""
    done = blockstep(
        "train",
        *QUIET,
        "model._target_=models.net.Small",
        "method=dgl",
        "blocks=2",
        f"train.steps={STEPS}",
        "train.batch_size=16",
        "evaluate.every=0",
        "log.every=4",
        "replay.batches=3",
        "replay.reuse=2",
        "pipeline.delay=[0.06,0]",
        "name=slow",
        cwd=project,
    )
    assert done.code == 0, done.output
    folder = project / "runs" / "slow"
    told = summary(folder)
    first, second = told["stages"]
    assert (first["replayed"], first["replay_staleness"]) == (0, None)
    assert 0 < second["replayed"] <= 2 * STEPS
    assert 0 <= second["replay_staleness"] <= 2
    assert first["busy"] >= 0.06
    records = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    train = [one for one in records if one["event"] == "train"]
    for stage in (1, 2):
        steps = [one["step"] for one in train if one["stage"] == stage]
        assert steps == list(range(4, STEPS + 1, 4))
    assert not [one for one in train if one["stage"] == 1 and "replayed" in one]
    counts = [one["replayed"] for one in train if one["stage"] == 2]
    # What was learned again after the last batch is in the total only.
    assert 0 < sum(counts) <= second["replayed"]
    spans = json.loads((folder / "trace.json").read_text())["traceEvents"]
    assert {one["pid"] for one in spans if one["name"] == "replay"} == {2}
    assert "results depend on timing" in done.output
    assert f"stage 2 learned again        {second['replayed']:>6} batches" in done.output
    assert Page((folder / "report.html").read_text()).has_figure("Replayed batches")


def test_the_closing_table_tells_only_of_stages_that_learned_again() -> None:
    """A run without replays has no line of it."""
    stage = {"stage": 1, "busy": 0.1, "replayed": 0, "replay_staleness": None}
    figures = dict.fromkeys(
        ["test_accuracy", "ensemble_accuracy", "images_per_second", "speedup_vs_backprop"]
    )
    told = {**figures, "efficiency": None, "cuts": [], "block_accuracy": [], "stages": [stage]}
    folder = type("Folder", (), {"path": Path("runs/x"), "report": Path("runs/x/report.html")})()
    assert "again" not in closing_table(told, folder)
    stage |= {"replayed": 12, "replay_staleness": 3.25}
    assert "12 batches, on average 3.25 steps old" in closing_table(told, folder)
