"""Searches from end to end, as a user starts them: by both launchers, interrupted, deployed."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.launch.dashboard.layout import SEARCH
from blockstep.search import Decoupling, random_cuts, random_heads

from tests.launch import runs
from tests.launch.dashboard.recorded import empty, record_again, unseen
from tests.launch.runs import (
    Finished,
    blockstep,
    finish,
    same,
    start,
    states,
    summary,
    torchrun,
    wait_for,
)

PRETRAINING, OUTER = 30, 12
WORDS = (
    "search", "model._target_=models.net.Small", "model.channels=4", "data=digits", "blocks=2",
    "search.heads=[linear,aux1]", f"train.steps={PRETRAINING}", "train.batch_size=32",
    "train.lr=0.05", "train.threads=1", f"search.steps={OUTER}", "search.inner_steps=2",
    "search.samples=2", "search.memory=3", "search.pretrain_every=10",
    "search.validation_batch=60", "checkpoint.every=6", "log.every=1",
    "data.augment.crop=1", "search.profile=false", "wandb.mode=disabled",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(project: Path) -> Path:
    """A search by one rank that nothing happens to."""
    done = blockstep(*WORDS, "ranks=1", "search.profile=true", "name=whole", cwd=project)
    assert done.code == 0, done.output
    (project / "whole.txt").write_text(done.output)
    return project / "runs" / "whole"


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def has(folder: Path, step: int) -> bool:
    """Whether the checkpoint after ``step`` of both phases is there."""
    return (folder / "checkpoints" / f"step-{step}" / "manifest.json").exists()


def last_state(folder: Path) -> Any:
    """Everything that a search ended with."""
    checkpoint = folder / "checkpoints" / f"step-{PRETRAINING + OUTER}"
    paths = sorted(checkpoint.glob("*.pt"))
    assert len(paths) == 4, [path.name for path in paths]
    states = {path.name: torch.load(path, weights_only=True) for path in paths}
    return {name: {**state, "accuracy": None} for name, state in states.items()}


def check_same_end(folder: Path, whole: Path) -> None:
    """Alpha, beta, their optimizer and every snapshot are equal bit for bit."""
    assert same(last_state(folder), last_state(whole))
    ours, theirs = (Decoupling.load(path / "decoupling.json") for path in (folder, whole))
    assert ours == theirs


def test_the_dashboard_shows_what_a_search_records(whole: Path, tmp_path: Path) -> None:
    """Every key has a panel, and every panel a key, but for heads that were not in the pool."""
    run = record_again(whole, tmp_path)
    assert unseen(run.logged) == set()
    cuts = Decoupling.load(whole / "decoupling.json").layers - 1
    assert len([key for key in run.logged if key.startswith("beta/linear/")]) == cuts
    panels = empty([SEARCH], run.logged)
    absent = [f"beta of {head}, by layer" for head in ("aux2", "aux3", "aux4")]
    assert [panel.title for panel in panels] == absent


def test_a_search_leaves_its_files(project: Path, whole: Path) -> None:
    """Configuration, records, decoupling, times, front, pictures, page and summary."""
    for name in (
        "config.yaml", "metrics.jsonl", "decoupling.json", "profile.json", "pareto.json",
        "alpha.svg", "course.svg", "heads.svg", "tradeoff.svg", "report.html", "summary.json",
        "ranks.json", "rank0.log",
    ):  # fmt: skip
        assert (whole / name).is_file(), name
    result, found = summary(whole), Decoupling.load(whole / "decoupling.json")
    assert (result["command"], result["network"], result["layers"]) == ("search", "Small", 4)
    assert (result["cuts"], result["heads"]) == (list(found.cuts), list(found.heads))
    assert (result["pretraining_steps"], result["outer_steps"]) == (PRETRAINING, OUTER)
    assert result["outer_step_seconds"] > 0
    assert result["pretraining_seconds"] > 0
    assert result["ranks"][0]["peak_memory_bytes"] > 1e7
    assert (found.network, found.layers, found.blocks) == ("Small", 4, 2)
    assert found.pool == ("linear", "aux1")
    assert found.alpha is not None
    assert any(value for row in found.alpha for value in row)
    assert "Search" in (whole / "report.html").read_text()


def test_the_records_tell_both_phases(whole: Path) -> None:
    """Every step, the validations of the pretraining, and alpha and beta of every outer step."""
    lines = records(whole)
    pretraining = [one for one in lines if one["event"] == "pretrain"]
    assert [one["step"] for one in pretraining] == list(range(1, PRETRAINING + 1))
    validated = [one["step"] for one in pretraining if one["accuracy"] is not None]
    assert validated == list(range(10, PRETRAINING + 1, 10))
    outer = [one for one in lines if one["event"] == "search"]
    assert [one["step"] for one in outer] == list(range(1, OUTER + 1))
    assert all(len(one["alpha"]) == 3 and len(one["beta"][0]) == 2 for one in outer)
    found = Decoupling.load(whole / "decoupling.json")
    assert found.alpha is not None
    assert outer[-1]["alpha"] == [list(row) for row in found.alpha]
    assert [one["event"] for one in lines[:2]] == ["start", "profiled"]
    assert lines[-1]["event"] == "end"


def test_the_terminal_tells_what_was_found(project: Path, whole: Path) -> None:
    """The phases, the cuts for 2 and 4 blocks, what they cost, and the run at the end."""
    output = (project / "whole.txt").read_text()
    assert "digits brings its own validation part of 180" in output
    assert "layers and heads timed" in output
    assert f"pretraining     {PRETRAINING}/{PRETRAINING}" in output
    assert "blocks  cuts (head)" in output
    assert "between accuracy and speed" in output or "one choice, no trade" in output
    assert output.strip().splitlines()[-1] == "run: runs/whole"


def test_torchrun_with_two_ranks_equals_one(project: Path, whole: Path) -> None:
    """Alpha and beta depend on the samples and the seed, not on the ranks: bit for bit."""
    flags = ["--standalone", "--nproc-per-node", "2"]
    done = torchrun(*WORDS, "name=two", cwd=project, flags=flags)
    assert done.code == 0, done.output
    check_same_end(project / "runs" / "two", whole)
    assert len(summary(project / "runs" / "two")["ranks"]) == 2


def test_a_killed_rank_is_named_and_the_resumed_search_is_identical(
    project: Path, whole: Path
) -> None:
    """SIGKILL of rank 1 ends the search; resumed, it ends where the undisturbed one ends."""
    folder = project / "runs" / "killed"
    process = start(*WORDS, "ranks=2", "name=killed", cwd=project)
    try:
        wait_for(lambda: has(folder, PRETRAINING + 6), text="outer step 6")
        pids = runs.pids(folder)
        os.kill(pids[1], signal.SIGKILL)
    finally:
        done = finish(process)
    assert done.code == 1, done.output
    assert done.last_line.startswith("blockstep: failed at rank 1, step "), done.last_line
    assert "SIGKILL" in done.last_line
    wait_for(lambda: not any(map(runs.alive, pids)), limit=10, text="the end of all ranks")
    done = blockstep("search", "name=killed", "resume=auto", cwd=project)
    assert done.code == 0, done.output
    assert "continues after outer step" in done.output
    check_same_end(folder, whole)


def test_ctrl_c_in_the_pretraining_keeps_it_and_the_resumed_search_is_identical(
    project: Path, whole: Path
) -> None:
    """While rank 1 waits for rank 0: 130, a checkpoint, and one rank goes on where two were."""
    folder = project / "runs" / "interrupted"
    process = start(*WORDS, "ranks=2", "name=interrupted", cwd=project)
    try:
        wait_for(lambda: has(folder, 6), text="the checkpoint of step 6")
        process.send_signal(signal.SIGINT)
    finally:
        done = finish(process)
    assert done.code == 130, done.output
    assert "stopping with a checkpoint" in done.output
    assert "Traceback" not in done.output
    steps = [one["step"] for one in records(folder) if one["event"] == "checkpoint"]
    done = blockstep("search", f"resume={folder}", "ranks=1", cwd=project)
    assert done.code == 0, done.output
    assert f"continues after {_words(steps[-1])}" in done.output
    check_same_end(folder, whole)


def _words(step: int) -> str:
    """A step of both phases as the terminal tells it; a fast machine may be further already."""
    if step < PRETRAINING:
        return f"pretraining step {step}"
    return f"outer step {step - PRETRAINING}"


def test_torchrun_restarts_by_itself_and_ends_where_the_undisturbed_search_ends(
    project: Path, whole: Path
) -> None:
    """After SIGKILL, torchrun --max-restarts 1 continues from the checkpoint, bit for bit."""
    folder = project / "runs" / "restarted"
    process = runs.start_torchrun(
        *WORDS, "name=restarted", cwd=project,
        flags=["--nnodes", "1", "--nproc-per-node", "2", "--max-restarts", "1",
               "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"],
    )  # fmt: skip
    try:
        wait_for(lambda: has(folder, PRETRAINING + 6), text="outer step 6")
        os.kill(runs.pids(folder)[1], signal.SIGKILL)
    finally:
        done = finish(process)
    assert done.code == 0, done.output
    assert "continues after outer step" in done.output
    check_same_end(folder, whole)


def test_a_search_can_be_looked_at_and_stopped(project: Path) -> None:
    """status tells phase and cuts, decoupling.json is there before the end, stop keeps it."""
    folder = project / "runs" / "stopped"
    process = start(*WORDS, "search.steps=4000", "name=stopped", cwd=project)
    try:
        wait_for(lambda: (folder / "decoupling.json").exists(), text="the first decoupling")
        status = blockstep("status", "run=runs/stopped", cwd=project)
        stop = blockstep("stop", "run=runs/stopped", cwd=project)
    finally:
        done = finish(process)
    assert status.code == 0, status.output
    assert "running" in status.output
    assert "/4000 | loss" in status.output
    assert stop.code == 0, stop.output
    assert "blockstep search resume=runs/stopped" in stop.output
    assert done.code == 0, done.output
    assert 0 < summary(folder)["outer_steps"] < 4000
    again = blockstep("search", "resume=runs/stopped", "search.steps=1", cwd=project)
    assert again.code == 2
    assert "search.steps=1, but outer step" in again.output
    other = blockstep("train", "resume=runs/stopped", cwd=project)
    assert other.code == 2
    assert "the configuration of `blockstep search`" in other.output


def test_a_pretraining_that_explodes_is_named(project: Path) -> None:
    """Layer, step and rate; the checkpoint before it is kept."""
    words = ("train.lr=1e9", "train.lr_min=0", "checkpoint.every=1", "name=exploding")
    done = blockstep(*WORDS, *words, cwd=project)
    assert done.code == 1
    assert done.last_line.startswith("blockstep: failed at rank 0, step "), done.last_line
    assert "NonFiniteLossError: the loss of layer" in done.last_line
    assert list((project / "runs" / "exploding" / "checkpoints").glob("step-*/manifest.json"))


def deploy(project: Path, *words: str) -> Finished:
    """Train with what was found."""
    common = ("train", "model._target_=models.net.Small", "train.steps=3", "train.threads=1")
    quiet = ("wandb.mode=disabled", "measure.backprop=0", "measure.alone=0")
    file = "decoupling=runs/whole/decoupling.json"
    return blockstep(*common, *quiet, file, *words, cwd=project)


def test_what_was_found_is_deployed(project: Path, whole: Path) -> None:
    """Into another number of blocks, at another width, on other data."""
    done = deploy(project, "blocks=3", "model.channels=8", "data.size=12", "name=deployed")
    assert done.code == 0, done.output
    found = Decoupling.load(whole / "decoupling.json").for_blocks(3)
    deployed = summary(project / "runs" / "deployed")
    assert (deployed["cuts"], deployed["heads"]) == (list(found.cuts), list(found.heads))
    assert deployed["blocks"] == 3


@pytest.mark.parametrize(("half", "cuts"), [("alpha", False), ("beta", True)])
def test_half_of_it_can_be_left_to_chance(
    project: Path, whole: Path, half: str, cuts: bool
) -> None:
    """Table 4: alpha draws the cuts, beta the heads; the other half is as it was learned."""
    found = Decoupling.load(whole / "decoupling.json").for_blocks(3)
    expected = {"alpha": random_cuts, "beta": random_heads}[half](found, seed=2)
    name = f"without-{half}"
    done = deploy(project, "blocks=3", f"ablation={half}", "seed=2", f"name={name}")
    assert done.code == 0, done.output
    result = summary(project / "runs" / name)
    assert (result["cuts"], result["heads"]) == (list(expected.cuts), list(expected.heads))
    assert (expected.cuts == found.cuts) == cuts


def test_published_heads_are_drawn_from_the_paper_s_pool(project: Path) -> None:
    """A published decoupling names no pool; what it was chosen from is known."""
    words = ("model=resnet50", "decoupling=sedona/resnet50", "blocks=4", "ablation=beta")
    done = blockstep("train", *words, "dry_run=true", cwd=project)
    assert done.code == 0, done.output
    done = blockstep(
        "train", *words[:3], "model.width=0.25", "ablation=alpha", "dry_run=true", cwd=project
    )
    assert done.code == 2
    assert "take the decoupling.json of a search" in done.last_line


def test_what_was_found_is_trained_without_choosing(project: Path, whole: Path) -> None:
    """Table 6: one block; interrupted and resumed it ends the same; evaluate and export know it."""
    words = ("method=sedona_continuous", "train.steps=6", "checkpoint.every=3", "log.every=1")
    done = deploy(project, *words, "name=continuous")
    assert done.code == 0, done.output
    folder = project / "runs" / "continuous"
    result, learned = summary(folder), Decoupling.load(whole / "decoupling.json")
    assert (result["blocks"], result["cuts"], result["method"]) == (1, [], "sedona_continuous")
    kept = Decoupling.load(folder / "decoupling.json")
    assert (kept.alpha, kept.beta, kept.pool) == (learned.alpha, learned.beta, learned.pool)
    done = deploy(project, *words, "name=torn")
    assert done.code == 0, done.output
    shutil.rmtree(project / "runs" / "torn" / "checkpoints" / "step-6")
    done = blockstep("train", "resume=runs/torn", cwd=project)
    assert done.code == 0, done.output
    assert same(states(project / "runs" / "torn", 6), states(folder, 6))
    done = blockstep("evaluate", "run=runs/continuous", cwd=project)
    assert done.code == 0, done.output
    told = json.loads((folder / "evaluation-test.json").read_text())
    assert [block["accuracy"] for block in told["blocks"]] == result["block_accuracy"]
    done = blockstep("export", "run=runs/continuous", cwd=project)
    assert done.code == 0, done.output
    exported = torch.load(folder / "model.pt", weights_only=True)
    assert not any("head" in key for key in exported)


def test_continuous_training_needs_what_a_search_learned(project: Path) -> None:
    """A decoupling without alpha and beta is refused with what is missing."""
    path = project / "plain.json"
    Decoupling("Small", 4, (2,), ("linear",)).save(path)
    words = ("train", "model._target_=models.net.Small", "method=sedona_continuous")
    done = blockstep(*words, "decoupling=plain.json", cwd=project)
    assert done.code == 2
    assert "has 0 rows of alpha and 0 heads in its pool; it needs 3 rows" in done.last_line


def test_more_ranks_than_samples_are_refused_by_torchrun(project: Path) -> None:
    """Before anything is trained, with both numbers."""
    words = (*WORDS, "search.samples=1", "name=idle")
    done = runs.refused_rank(*words, cwd=project, world=2)
    assert done.code == 2
    assert "2 ranks share search.samples=1 of each outer step" in done.output
    assert not (project / "runs" / "idle").exists()
