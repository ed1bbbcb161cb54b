"""Tests of `blockstep.launch.search.result` and of how it is told."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, cast

import pytest
from blockstep.launch.compose import compose
from blockstep.launch.folder import RunFolder
from blockstep.launch.job import Task
from blockstep.launch.search.announcement import closing_table
from blockstep.launch.search.board import SearchBoard, progress_lines
from blockstep.launch.search.figures import SearchFigures
from blockstep.launch.search.job import SearchJob
from blockstep.launch.search.pace import Pace
from blockstep.launch.search.result import decide
from blockstep.launch.search.summary import summarize
from blockstep.launch.view import PlainView
from blockstep.search import Profile
from blockstep.search.frontfile import save_front

TASK = Task("digits", 10, (1, 8, 8), "float32", {"train": 1257, "validation": 180, "test": 360})
ALPHA = [[0.1, 0.0], [0.5, 0.0], [0.3, 0.0], [0.4, 0.0]]
BETA = [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
TIED = [[0.1, 0.0], [0.5, 0.0], [0.4003, 0.0], [0.4, 0.0]]


def job(*words: str, folder: Path = Path("runs/x")) -> SearchJob:
    """A search of five layers."""
    common = ["data=digits", "search.heads=[linear,aux1]", "blocks=3", "train.steps=100"]
    config = compose("search", [*common, "search.memory=1", "search.steps=20", *words])
    return SearchJob(
        command="search", config=config, task=TASK, folder=RunFolder(folder),
        network="small", layers=5,
    )  # fmt: skip


def profile() -> Profile:
    """Five layers, of which the first takes as long as all others together."""
    layers, heads = 5, ((0.1,) * 4, (0.1,) * 4)
    return Profile(
        network="small", layers=layers, batch_size=8, device="cpu", threads=1,
        heads=("linear", "aux1"), forward=(1.0,) * layers, inner=(4.0, 1.0, 1.0, 1.0, 1.0),
        entry=(4.0, 1.0, 1.0, 1.0, 1.0), update=(0.0,) * layers, head_seconds=heads,
        head_update=((0.0,) * 4,) * 2, classifier_seconds=0.1, classifier_update=0.0,
        boundary_bytes=(8,) * layers, parameters=(8,) * layers, classifier_parameters=8,
    )  # fmt: skip


def record(event: str, step: int, **values: Any) -> dict[str, Any]:
    """What rank 0 tells of a step."""
    common = {"event": event, "time": 0.0, "step": step, "loss": 0.5, "accuracy": 0.9}
    common |= {"seconds": 0.25, "memory_bytes": 5}
    if event == "search":
        common |= {"steps": 20, "alpha": ALPHA, "beta": BETA, "skipped": 0, "lost": 0}
        common |= {"gradient_norm": 0.1}
    else:
        common |= {"steps": 100, "lr": 0.1, "losses": [1.0]}
    return {**common, **values}


# --- The decision -------------------------------------------------------------------------------


def test_without_a_profile_the_cuts_are_the_papers():
    """After the first layers of the ranking, with the heads of the largest beta."""
    found = decide(job(), ALPHA, BETA, None)
    assert (found.decoupling.cuts, found.decoupling.heads) == ((2, 4), ("linear", "linear"))
    assert found.decoupling.by_blocks is not None
    assert set(found.decoupling.by_blocks) == {2, 3, 4, 5}
    assert found.front == ()


def test_accuracy_stays_the_papers_with_a_profile():
    """The front is only told."""
    found = decide(job(), ALPHA, BETA, profile())
    assert found.decoupling == decide(job(), ALPHA, BETA, None).decoupling
    assert found.front[0].cuts == (2, 4)
    assert len(found.front) > 1


def test_speed_takes_the_fastest_cuts_for_every_number_of_blocks():
    """The slow first layer gets a block of its own."""
    found = decide(job("search.prefer=speed"), ALPHA, BETA, profile())
    assert found.decoupling.cuts == found.front[-1].cuts
    assert found.decoupling.cuts[0] == 1
    assert found.decoupling.for_blocks(2).cuts == (1,)
    assert found.decoupling.heads[0] == "aux1"
    assert found.decoupling.ranking == (2, 4, 3, 1)


# --- The terminal -------------------------------------------------------------------------------


class Stream:
    """Collects lines."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


def test_plain_lines_tell_phase_step_loss_and_cuts():
    """The first and the last step of each phase, and what would be decided now."""
    stream = Stream()
    view = PlainView(SearchBoard("x", job().config), cast(Any, stream), every=1e6)
    for step in (1, 2, 100):
        view.record(record("pretrain", step, accuracy=None))
    for step in (1, 2, 20):
        view.record(record("search", step, skipped=step - 1, lost=0))
    view.record({"event": "profiled", "time": 0.0, "seconds": 0.125})
    lines = stream.text.splitlines()
    assert [line.split()[:2] for line in lines[:4]] == [
        ["pretraining", "1/100"], ["pretraining", "100/100"], ["search", "1/20"],
        ["search", "20/20"],
    ]  # fmt: skip
    assert "acc      - |   0.25 s/step" in lines[0]
    assert "K=3: 2 linear, 4 linear | left" in lines[2]
    assert "19 gradients skipped" in lines[3]
    assert lines[4] == "layers and heads timed: backpropagation takes 0.125 s per step"


def test_a_tie_is_told_while_the_search_goes_on():
    """Cuts that another seed would make elsewhere are no finding."""
    board = SearchBoard("x", job().config)
    tied = record("search", 3, alpha=TIED)
    board.note(tied)
    assert "K=3: 2 linear, 3 aux1 (a tie)" in board.line(tied)


def test_the_live_table_has_both_phases():
    """With a bar for each layer's weight."""
    from rich.console import Console

    board = SearchBoard("x", job().config)
    console = Console(width=120)

    def drawn() -> str:
        with console.capture() as capture:
            console.print(board.table())
        return capture.get()

    assert "phase" in drawn()
    board.note(record("pretrain", 100))
    board.note(record("search", 10))
    text = drawn()
    assert re.search(r"pretraining . +100/100 .+90\.00%", text)
    assert re.search(r"search . +10/20", text)
    assert "softmaxed alpha of layers 1-4: ▁█▅▆ (0.525 to 0.622)" in text
    assert "K=3: 2 linear, 4 linear" in text


def test_a_loss_that_was_lost_is_no_number():
    """A sample that exploded has none."""
    board = SearchBoard("x", job().config)
    lost = record("search", 3, loss=None, accuracy=None, skipped=1)
    board.note(lost)
    assert "loss - | acc      -" in board.line(lost)
    assert "1 gradients skipped" in board.line(lost)


def test_status_tells_the_newest_line_of_each_phase():
    """From the records alone, with the time that the pace leaves."""
    records = [record("pretrain", 50), record("pretrain", 100), record("search", 8)]
    records.append({"event": "warning", "time": 0.0, "step": 1, "text": "look out"})
    lines = progress_lines(job().config, records)
    assert len(lines) == 3
    assert "100/100" in lines[0]
    assert lines[1].endswith("left 0:03")
    assert lines[2] == "warning: look out"


# --- What is left -------------------------------------------------------------------------------


def ended(
    search: SearchJob,
    alpha: list[list[float]],
    *,
    phases: dict[str, Any],
    times: Profile | None = None,
) -> dict[str, Any]:
    """The summary of a search that found ``alpha``."""
    rank = {"pid": 7, "host": "here", "device": "cpu", "threads": 1, "peak_memory_bytes": 2**20}
    told = {"step": 120, "skipped": 2, "lost": 1, "pace": phases}
    ranks = {number: {**rank, **told, "rank": number} for number in (1, 0)}
    result = decide(search, alpha, BETA, times)
    return summarize(search, result, ranks, seconds=5.0)


PHASES = {"pretrain": {"steps": 100, "seconds": 65.0}, "search": {"steps": 20, "seconds": 10.0}}


def test_the_summary_has_what_was_found_and_measured():
    """Cuts, ties in words, seconds, and the memory of each rank."""
    found = ended(job(), TIED, phases=PHASES)
    assert (found["command"], found["network"], found["data"]) == ("search", "small", "digits")
    assert (found["blocks"], found["cuts"], found["heads"]) == (3, [2, 3], ["linear", "aux1"])
    assert [tie["blocks"] for tie in found["ties"]] == [3]
    assert "the cut after 3 is ahead of 4" in found["ties"][0]["text"]
    assert (found["pretraining_steps"], found["outer_steps"]) == (100, 20)
    assert (found["pretraining_seconds"], found["outer_step_seconds"]) == (65.0, 0.5)
    assert (found["skipped"], found["lost"]) == (2, 1)
    assert [rank["rank"] for rank in found["ranks"]] == [0, 1]


def test_cuts_that_were_chosen_for_speed_are_no_tie():
    """Although the ranking has one there."""
    search = job("search.prefer=speed")
    found = ended(search, TIED, phases=PHASES, times=profile())
    assert found["cuts"][0] == 1
    assert found["ties"] == []


def test_what_was_not_measured_is_null():
    """A part of a run that had no pretraining tells no seconds of it."""
    found = ended(job(), ALPHA, phases={})
    assert (found["pretraining_seconds"], found["outer_step_seconds"]) == (None, None)
    rank = {"rank": 0, "pid": 7, "host": "here", "device": "cpu", "threads": 1}
    told = {**rank, "peak_memory_bytes": 1, "step": 40, "skipped": 0, "lost": 0, "pace": {}}
    stopped = summarize(job(), None, {0: told}, seconds=1.0)
    assert (stopped["cuts"], stopped["ties"], stopped["outer_steps"]) == (None, None, 0)


def test_the_end_tells_cuts_ties_costs_and_the_way_on(tmp_path: Path):
    """For 2 and 4 blocks and for those that were asked for; ties in words."""
    search = job(folder=tmp_path)
    result = decide(search, TIED, BETA, profile())
    result.decoupling.save(search.folder.decoupling)
    save_front(search.folder.pareto, result.front, profile=profile())
    text = closing_table(ended(search, TIED, phases=PHASES), search.folder)
    assert "*     3  2 (linear), 3 (aux1)  - a tie" in text
    assert "      2  2 (linear)\n" in text
    assert "K=3: the cut after 3 is ahead of 4 by" in text
    assert "choices between accuracy and speed" in text
    assert "pretraining     1:05" in text
    assert "an outer step   0.5 s" in text
    assert "2 gradients that were not finite" in text
    assert f"deploy: blockstep train decoupling={tmp_path}/decoupling.json blocks=3" in text
    assert text.splitlines()[-1] == f"run: {tmp_path}"


def test_a_search_that_was_stopped_early_says_so(tmp_path: Path):
    """Before the first outer step nothing is decided."""
    search = job(folder=tmp_path)
    summary = {**ended(search, ALPHA, phases={}), "cuts": None}
    text = closing_table(summary, search.folder)
    assert "nothing is decided yet" in text
    assert "deploy" not in text


# --- wandb --------------------------------------------------------------------------------------


class Wandb:
    """Takes artifacts and pages."""

    class Artifact:
        def __init__(self, name: str, type: str) -> None:
            self.name, self.type, self.files = name, type, []

        def add_file(self, path: str) -> None:
            self.files.append(path)

    class Html:
        def __init__(self, text: str) -> None:
            self.text = text


class Run:
    """Remembers what is logged."""

    id = "abc"

    def __init__(self) -> None:
        self.logged: dict[str, Any] = {}
        self.artifacts: list[Any] = []
        self.summary: dict[str, Any] = {}

    def log(self, values: dict[str, Any]) -> None:
        self.logged |= values

    def log_artifact(self, artifact: Any) -> None:
        self.artifacts.append(artifact)


def test_wandb_gets_the_weight_of_each_layer(tmp_path: Path):
    """Softmaxed alpha_1 and beta, the losses of both phases, and nothing of other records."""
    figures = SearchFigures(RunFolder(tmp_path), ["linear", "aux1"])
    values = figures.values(record("search", 3))
    assert values["alpha/layer_02"] == pytest.approx(0.6225, abs=1e-4)
    for layer, row in enumerate(BETA, start=1):
        linear, aux1 = (values[f"beta/{head}/layer_{layer:02d}"] for head in ("linear", "aux1"))
        assert math.log(linear / aux1) == pytest.approx(row[0] - row[1])
        assert linear + aux1 == pytest.approx(1)
    assert (values["search/loss"], values["search/gradient_norm"]) == (0.5, 0.1)
    pretraining = figures.values(record("pretrain", 3, accuracy=None))
    assert pretraining["pretrain/lr"] == 0.1
    assert "pretrain/accuracy" not in pretraining
    assert figures.values({"event": "checkpoint", "step": 3}) == {}
    names = {name.partition("/")[0] for name in {**values, **pretraining}}
    assert names == {pattern.partition("/")[0] for pattern in figures.patterns}


def test_wandb_gets_the_decoupling_and_the_pictures_at_the_end(tmp_path: Path):
    """As an artifact, and as pages; of a search that found nothing, nothing."""
    figures, run = SearchFigures(RunFolder(tmp_path), ["linear", "aux1"]), Run()
    figures.end(Wandb, run, {"cuts": None})
    assert (run.artifacts, run.logged) == ([], {})
    (tmp_path / "decoupling.json").write_text("{}")
    (tmp_path / "alpha.svg").write_text("<svg/>")
    figures.end(Wandb, run, {"cuts": [2, 4]})
    (artifact,) = run.artifacts
    assert (artifact.type, artifact.files) == ("decoupling", [str(tmp_path / "decoupling.json")])
    assert run.logged["pictures/alpha"].text == "<svg/>"
    assert run.summary["cuts"] == [2, 4]


# --- The pace -----------------------------------------------------------------------------------


def test_the_pace_is_a_mean_since_it_was_asked_for():
    """And a total of each phase."""
    pace = Pace()
    assert pace.take() is None
    pace.add("pretrain", 1.0)
    pace.add("pretrain", 3.0)
    assert pace.take() == 2.0
    pace.add("search", 5.0)
    assert pace.take() == 5.0
    assert pace.totals() == {
        "pretrain": {"steps": 2, "seconds": 4.0},
        "search": {"steps": 1, "seconds": 5.0},
    }
