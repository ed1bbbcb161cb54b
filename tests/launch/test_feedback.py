"""Runs of the methods whose errors travel back: what they leave, and that nothing hangs."""

from __future__ import annotations

import io
import json
import os
import re
import signal
from pathlib import Path

import pytest
import torch
from blockstep.launch.training.board import TrainBoard
from blockstep.launch.training.figures import TrainFigures
from blockstep.launch.training.forecast import history_bytes
from rich.console import Console

from tests.launch import runs
from tests.launch.runs import QUIET, at_step, blockstep, finish, same, start, states, summary

METHODS = ("features_replay", "ddg")
OWN = (
    *QUIET,
    "model._target_=models.net.Small",
    "blocks=4",
    "train.steps=12",
    "train.lr=0.02",
    "train.schedule=constant",
    "evaluate.every=6",
    "checkpoint.every=3",
    "checkpoint.keep=10",
    "data.augment.crop=1",
    "data.augment.flip=true",
    "log.every=2",
)
LONG = (
    *QUIET,
    "model._target_=models.net.Small",
    "blocks=3",
    "train.steps=400",
    "checkpoint.every=50",
    "checkpoint.keep=20",
    "checkpoint.best=false",
    "evaluate.every=0",
    "log.every=5",
)


@pytest.fixture(scope="module", params=METHODS)
def reference(project: Path, request: pytest.FixtureRequest) -> Path:
    """Four blocks in one process, in turns: what every other runtime must equal."""
    method = request.param
    folder = project / "runs" / method
    if not folder.exists():  # a fixture that some tests choose is made again for the others
        words = (*OWN, f"method={method}", "runtime=sequential", f"name={method}")
        done = blockstep("train", *words, cwd=project)
        assert done.code == 0, done.output
        (project / f"{method}.txt").write_text(done.output)
    return folder


@pytest.mark.parametrize(
    ("reference", "depth"), [("features_replay", 1), ("ddg", 8)], indirect=["reference"]
)
def test_processes_equal_turns(project: Path, reference: Path, depth: int) -> None:
    """Weights, histories and signals of every checkpoint are the sequential run's, to the bit."""
    name = f"{reference.name}-{depth}"
    words = (f"method={reference.name}", f"pipeline.queue_messages={depth}", f"name={name}")
    done = blockstep("train", *OWN, *words, cwd=project)
    assert done.code == 0, done.output
    for step in (3, 6, 9, 12):
        assert same(states(project / "runs" / name, step), states(reference, step))
    assert (
        summary(project / "runs" / name)["block_accuracy"] == summary(reference)["block_accuracy"]
    )


@pytest.mark.parametrize("reference", ["ddg"], indirect=True)
def test_torchrun_equals_our_launcher(project: Path, reference: Path) -> None:
    """The same words under torchrun give the same states."""
    words = ("train", *OWN, f"method={reference.name}", f"name={reference.name}-elastic")
    flags = ["--standalone", "--nproc-per-node", "4"]
    done = runs.torchrun(*words, cwd=project, flags=flags)
    assert done.code == 0, done.output
    assert same(states(project / "runs" / f"{reference.name}-elastic", 12), states(reference, 12))


def test_a_stopped_run_goes_on_bit_for_bit(project: Path, reference: Path) -> None:
    """A run that ended early, in the warm-up even, ends like the one that did not."""
    folder = project / "runs" / f"{reference.name}-short"
    words = ("train.steps=2", f"method={reference.name}", f"name={folder.name}")
    done = blockstep("train", *OWN, *words, cwd=project)
    assert done.code == 0, done.output
    done = blockstep("train", f"resume={folder}", "train.steps=12", cwd=project)
    assert done.code == 0, done.output
    assert same(states(folder, 12), states(reference, 12))


def test_the_run_tells_that_only_the_last_block_has_a_loss(project: Path, reference: Path) -> None:
    """Summary, records and terminal have nulls and dashes where there is nothing to tell."""
    told = summary(reference)
    *others, last = told["block_accuracy"]
    assert others == [None] * 3
    assert told["test_accuracy"] == last > 0
    assert told["ensemble_accuracy"] is None
    assert told["heads"] == ["none"] * 3
    lines = [json.loads(line) for line in (reference / "metrics.jsonl").read_text().splitlines()]
    train = [one for one in lines if one["event"] == "train"]
    assert {(one["stage"], one["error_delay"]) for one in train} == {(1, 3), (2, 2), (3, 1), (4, 0)}
    assert {one["stage"] for one in train if one["loss"] is None} == {1, 2, 3}
    assert len({one["lr"] for one in train if one["step"] == 4}) == 1
    (validation, *_) = [one for one in lines if one["event"] == "evaluation"]
    assert validation["losses"][:3] == validation["accuracies"][:3] == [None] * 3
    output = (project / f"{reference.name}.txt").read_text()
    assert "stage 1: layers 1-1, errors 3 steps old" in output
    assert "stage 3: layers 3-3, errors 1 step old" in output
    assert "stage 4: layers 4-4, head classifier" in output
    assert re.search(r"validation accuracy by block -, -, -, \d", output)
    assert re.search(r"stage 1 \| loss +- \| acc +- \|", output)


def test_evaluate_export_report_and_status_work(project: Path, reference: Path) -> None:
    """evaluate repeats the accuracy of the last block; the page and the exported file are there."""
    run = f"run=runs/{reference.name}"
    done = blockstep("evaluate", run, cwd=project)
    assert done.code == 0, done.output
    assert "block 1: no head" in done.output
    result = json.loads((reference / "evaluation-test.json").read_text())
    told = summary(reference)
    assert [block["accuracy"] for block in result["blocks"]] == told["block_accuracy"]
    assert [block["loss"] is None for block in result["blocks"]] == [True, True, True, False]
    assert result["ensemble_accuracy"] is None
    done = blockstep("export", run, cwd=project)
    assert done.code == 0, done.output
    names = torch.load(reference / "model.pt", weights_only=True)
    assert "stem.0.weight" in names
    assert "out.2.weight" in names
    assert not any("history" in name or "head" in name for name in names)
    done = blockstep("status", run, cwd=project)
    assert done.code == 0, done.output
    assert "stage 2" in done.output
    done = blockstep("report", f"runs/{reference.name}", cwd=project)
    assert done.code == 0, done.output
    page = (reference / "report.html").read_text()
    assert "errors 3 steps old" in page
    assert "validation accuracy by block" in page
    assert "&quot;accuracies&quot;" not in page


def test_two_runs_are_compared(project: Path) -> None:
    """The comparison of both methods has a page with the last block's accuracy."""
    folders = [f"runs/{method}" for method in METHODS]
    if not all((project / folder).exists() for folder in folders):
        pytest.skip("needs the runs of both methods")
    done = blockstep("report", *folders, cwd=project)
    assert done.code == 0, done.output


def test_killed_stage_is_named_and_the_resumed_run_is_bit_identical(project: Path) -> None:
    """SIGKILL of the middle stage ends all; resume ends where an undisturbed run ends."""
    whole, folder = project / "runs" / "undisturbed", project / "runs" / "killed"
    words = ("train", *LONG, "method=ddg")
    done = blockstep(*words, f"name={whole.name}", cwd=project)
    assert done.code == 0, done.output
    process = start(*words, f"name={folder.name}", cwd=project)
    saved = folder / "checkpoints" / "step-50" / "manifest.json"
    runs.wait_for(saved.exists, text="the checkpoint of step 50")
    pids = runs.pids(folder)
    os.kill(pids[1], signal.SIGKILL)
    runs.wait_for(lambda: not any(map(runs.alive, pids)), limit=10, text="the end of all ranks")
    done = finish(process, 10)
    assert done.code == 1
    assert done.last_line.startswith("blockstep: failed at stage 2 (rank 1), step ")
    done = blockstep("train", f"name={folder.name}", "resume=auto", cwd=project)
    assert done.code == 0, done.output
    assert "continues after step" in done.output
    assert same(states(folder, 400), states(whole, 400))


def test_stop_leaves_no_signal_behind(project: Path) -> None:
    """blockstep stop ends all stages with a checkpoint, at any moment, at one step."""
    folder = project / "runs" / "stopped"
    words = (*LONG, "train.steps=100000", "method=features_replay", f"name={folder.name}")
    process = start("train", *words, cwd=project)
    runs.wait_for(lambda: at_step(folder, 10), text="step 10")
    stop = blockstep("stop", f"run={folder}", cwd=project)
    assert stop.code == 0, stop.output
    done = finish(process, 30)
    assert done.code == 0, done.output
    step = summary(folder)["steps"]
    signals = [state["signal"] for state in states(folder, step)]
    assert [signal and signal["step"] for signal in signals] == [step, step, None]


def test_threads_of_one_process_work(project: Path) -> None:
    """pipeline.link=local gives the processes' weights, without stock dropout."""
    words = (*QUIET, "method=features_replay", "blocks=3", "train.steps=6", "model.width=0.125")
    for link in ("local", "auto"):
        name = f"link-{link}"
        done = blockstep("train", *words, f"pipeline.link={link}", f"name={name}", cwd=project)
        assert done.code == 0, done.output
    local, processes = (states(project / "runs" / f"link-{link}", 6) for link in ("local", "auto"))
    assert same(local, processes)


def test_one_block_is_backprop(project: Path) -> None:
    """blocks=1 gives the weights of method=backprop."""
    for method in ("features_replay", "backprop"):
        words = (*QUIET, "blocks=1", "train.steps=6", "model.width=0.125", f"method={method}")
        done = blockstep("train", *words, f"name=one-{method}", cwd=project)
        assert done.code == 0, done.output
    (plain,) = states(project / "runs" / "one-backprop", 6)
    (state,) = states(project / "runs" / "one-features_replay", 6)
    assert same({key: state[key] for key in plain}, plain)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("cuts=[1,2]",), "block 2 (layers 2-2) has no parameters to train; cut elsewhere"),
        (("cuts=[1]",), None),
    ],
    ids=["silent block", "fine"],
)
def test_blocks_that_cannot_learn_are_refused(
    project: Path, words: tuple[str, ...], told: str | None
) -> None:
    """Without a head, a block of layers without parameters has nothing to learn."""
    (project / "models" / "silent.py").write_text(SILENT)
    model = ("model._target_=models.silent.Silent", "dry_run=true", "method=ddg")
    done = blockstep("train", *QUIET[:-1], *model, *words, cwd=project)
    assert done.code == (0 if told is None else 2), done.output
    assert (told or "history") in done.output


def test_a_published_decoupling_gives_its_cuts_without_its_heads(project: Path) -> None:
    """decoupling=sedona/resnet50 cuts the network; the heads that come with it are left out."""
    words = (
        *QUIET[:-1],
        "method=features_replay",
        "model=resnet50",
        "model.width=0.125",
        "decoupling=sedona/resnet50",
        "name=published",
        "dry_run=true",
    )
    done = blockstep("train", *words, cwd=project)
    assert done.code == 0, done.output
    assert "history" in done.output


def test_wandb_and_the_live_table_leave_out_what_is_not_there() -> None:
    """No figure of a block without a head goes to wandb; the table has dashes."""
    figures = TrainFigures(Path("decoupling.json"))
    evaluation = {
        "event": "evaluation",
        "split": "test",
        "losses": [None, 0.5],
        "accuracies": [None, 0.9],
        "ensemble_accuracy": None,
    }
    assert figures.values(evaluation) == {
        "test/loss": 0.5,
        "test/accuracy": 0.9,
        "test/stage_2_accuracy": 0.9,
    }
    times = {"busy": 1.0, "wait_in": 1.0, "wait_out": 0.0, "images_per_second": 8.0}
    train = {"event": "train", "step": 4, "stage": 1, "loss": None, "accuracy": None, **times}
    told = figures.values({**train, "error_delay": 1})
    assert told["stage/1/error_delay"] == 1
    assert None not in told.values()
    board = TrainBoard("run", steps=10, start=0)
    board.note({**train, "queue_depth": 0})
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(board.table())
    assert re.search(r"4/10\W+-\W+-\W+8\.0", console.export_text())


def test_what_is_kept_is_forecast() -> None:
    """Inputs for Features Replay, graphs and weights for DDG; nothing in the last block."""
    sizes = {"inputs": 10, "graph": 100, "weights": 7, "error": 3}
    assert history_bytes("", 2, **sizes) == (0, 0)
    assert history_bytes("inputs", 0, **sizes) == history_bytes("graphs", 0, **sizes) == (0, 0)
    assert history_bytes("inputs", 2, **sizes) == (3 * 10 + 2 * 3, 2 * 10 + 3)
    assert history_bytes("graphs", 2, **sizes) == (2 * 100 + 3 * 7 + 2 * 3, 2 * (10 + 7) + 3)


SILENT = '''
from torch import nn


class Silent(nn.Sequential):
    """Its second layer has nothing to learn."""

    def __init__(self, classes, in_channels):
        super().__init__(
            nn.Conv2d(in_channels, 4, 3), nn.ReLU(), nn.Sequential(nn.Flatten(), nn.Linear(144, 9)),
            nn.Linear(9, classes),
        )
'''
