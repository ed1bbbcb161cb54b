"""Partitioned trainings from end to end: by both launchers, killed, interrupted, retrained."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.launch.dashboard.layout import PARTITION
from blockstep.launch.folder import RunFolder
from blockstep.launch.restore import restore
from blockstep.models import make_network
from blockstep.models.hyperparameters import Psi, attach
from blockstep.search.psifile import load_psi

from tests.launch import runs
from tests.launch.dashboard.recorded import empty, record_again, unseen
from tests.launch.runs import QUIET, blockstep, finish, same, start, summary, torchrun, wait_for

STEPS = 60
WORDS = (
    "partition", "data=input_selection", "model.hidden=16", "partition.chunks=[0.6,0.4]",
    f"train.steps={STEPS}", "train.batch_size=32", "evaluate.every=20", "checkpoint.every=10",
    "log.every=5", "train.threads=1", "wandb.mode=disabled",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(project: Path) -> Path:
    """A training by one process that nothing happens to."""
    done = blockstep(*WORDS, "name=whole", cwd=project)
    assert done.code == 0, done.output
    (project / "whole.txt").write_text(done.output)
    return project / "runs" / "whole"


def records(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == event]


def last_state(folder: Path) -> dict[str, Any]:
    """Everything that a training ended with."""
    paths = sorted((folder / "checkpoints" / f"step-{STEPS}").glob("*.pt"))
    assert [path.name for path in paths] == ["partition-1.pt", "partition-2.pt", "psi.pt"]
    return {path.name: torch.load(path, weights_only=True) for path in paths}


def has(folder: Path, step: int) -> bool:
    return (folder / "checkpoints" / f"step-{step}" / "manifest.json").exists()


def test_a_partitioned_training_leaves_its_files(project: Path, whole: Path):
    """Configuration, records, psi.json with 30 logits alone, page, summary; told on the way."""
    for name in ("config.yaml", "report.html", "ranks.json", "rank0.log"):
        assert (whole / name).is_file(), name
    result, found = summary(whole), json.loads((whole / "psi.json").read_text())
    assert list(found) == ["mask"]
    assert len(found["mask"]) == 30
    assert result["found"] == found
    assert (result["command"], result["network"]) == ("partition", "mlp_gelu")
    assert (result["steps"], result["chunks"]) == (STEPS, [0.6, 0.4])
    evaluations = records(whole, "objective")
    assert [one["step"] for one in evaluations] == [20, 40, 60]
    assert evaluations[-1]["objective"] == result["objective"] == sum(evaluations[-1]["terms"])
    assert result["test_accuracy"] == evaluations[-1]["splits"]["test"]["accuracy"] > 0.55
    assert result["best_objective"] == max(one["objective"] for one in evaluations)
    assert "Learned mask" in (whole / "report.html").read_text()
    assert (whole / "mask.svg").is_file()
    stage = result["stages"][0]
    assert (stage["learned"], stage["judged"], stage["partitions"]) == (STEPS, STEPS, [1, 2])
    assert stage["busy"] > 0
    assert result["psi_age"] == {"mean": None, "largest": None}
    output = (project / "whole.txt").read_text()
    assert "partition 2:" in output
    assert f"retrain: blockstep train model=mlp_gelu data={result['data']}" in output
    assert output.strip().splitlines()[-1] == "run: runs/whole"


def test_the_dashboard_shows_what_is_recorded(whole: Path, tmp_path: Path):
    """Every key has a panel; every panel a key, but for the pictures of an augmentation."""
    run = record_again(whole, tmp_path)
    assert unseen(run.logged) == set()
    assert len([key for key in run.logged if key.startswith("psi/mask/")]) == 30
    absent = [panel.title for panel in empty([PARTITION], [*run.logged, "psi_augmentation"])]
    # One process has no copies that could be old.
    assert absent == ["age of psi, steps", "age of copies of weights, steps"]


def test_psi_that_runs_to_infinity_ends_the_run_with_its_course(project: Path):
    """The hyperparameter, the limit, its last values and what to change are told."""
    words = ("psi.lr=0.2", "psi.limit=0.7", "name=diverged")
    done = blockstep(*WORDS, *words, cwd=project)
    assert done.code == 1, done.output
    told = done.last_line
    assert told.startswith("blockstep: failed at rank 0, step "), told
    assert "DivergedError: step " in told
    assert "the hyperparameter change.mask has reached" in told
    assert "psi.limit=0.7; its last values are [[" in told
    assert "Lower psi.lr" in told


def test_killed_interrupted_and_by_torchrun_it_ends_where_one_process_ends(
    project: Path, whole: Path
):
    """SIGKILL of a rank is told by name; Ctrl-C is 130; torchrun's two ranks go on: bit for bit."""
    folder = project / "runs" / "parts"
    process = start(*WORDS, "ranks=2", "name=parts", cwd=project)
    try:
        wait_for(lambda: has(folder, 10), text="the checkpoint of step 10")
        pids = runs.pids(folder)
        os.kill(pids[1], signal.SIGKILL)
    finally:
        done = finish(process)
    assert done.code == 1, done.output
    assert done.last_line.startswith("blockstep: failed at partition 2 (rank 1), step ")
    assert "SIGKILL" in done.last_line
    wait_for(lambda: not any(map(runs.alive, pids)), limit=10, text="the end of all ranks")
    checkpoints = len(records(folder, "checkpoint"))

    process = start("partition", f"resume={folder}", "train.steps=100000", cwd=project)
    try:
        wait_for(lambda: len(records(folder, "checkpoint")) > checkpoints + 1, text="a checkpoint")
        assert "running" in blockstep("status", f"run={folder}", cwd=project).output
        process.send_signal(signal.SIGINT)
    finally:
        done = finish(process)
    assert done.code == 130, done.output
    assert "Traceback" not in done.output
    ends = [one["step"] for one in records(folder, "end")]
    stopped = records(folder, "checkpoint")[-1]["step"]
    assert ends == [stopped]

    whole_state = last_state(whole)
    again = torchrun(
        *WORDS, "name=torchrun", cwd=project, flags=["--standalone", "--nproc-per-node", "2"]
    )
    assert again.code == 0, again.output
    assert same(last_state(project / "runs" / "torchrun"), whole_state)
    one, two = summary(whole), summary(project / "runs" / "torchrun")
    assert two["objective"] == one["objective"]
    assert two["test_accuracy"] == one["test_accuracy"]
    assert [stage["partitions"] for stage in two["stages"]] == [[1], [2]]
    learned = [stage["learned"] for stage in two["stages"]]
    assert sum(learned) == STEPS
    assert [stage["judged"] for stage in two["stages"]] == [0, STEPS]
    assert two["psi_age"] == {"mean": 0.0, "largest": 0}
    assert two["bytes_per_step"] > 0


def test_a_resumed_training_ends_where_the_whole_one_ends(project: Path, whole: Path):
    """From the checkpoint of step 50: weights, optimizers, psi; and from other ranks' files."""
    folder = project / "runs" / "again"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text((whole / "config.yaml").read_text())
    kept = sorted(one.name for one in (whole / "checkpoints").glob("step-*"))
    source = whole / "checkpoints" / next(name for name in kept if name != f"step-{STEPS}")
    os.symlink(source, folder / "checkpoints" / source.name)
    done = blockstep("partition", f"resume={folder}", cwd=project)
    assert done.code == 0, done.output
    assert f"continues after {source.name.replace('-', ' ')}" in done.output
    assert same(last_state(folder), last_state(whole))


def test_what_was_found_is_retrained_evaluated_and_exported(project: Path, whole: Path):
    """The mask is in the network and stays; the exported weights are those of the run."""
    words = ("train", "data=input_selection", "model.hidden=16", "method=backprop")
    steps = ("train.steps=40", "train.batch_size=32", "evaluate.every=0", *QUIET[:-1])
    done = blockstep(*words, *steps, f"psi={whole}/psi.json", "name=retrained", cwd=project)
    assert done.code == 0, done.output
    folder = project / "runs" / "retrained"
    assert load_psi(folder / "psi.json") == load_psi(whole / "psi.json")
    for run in ("whole", "retrained"):
        done = blockstep("export", f"run=runs/{run}", cwd=project)
        assert "multiplies its inputs by the mask" in done.output
        network = make_network("mlp_gelu", classes=2, in_channels=30, size=1, hidden=16)
        module = attach(network, Psi("mask"), shape=(30,)).module.eval()
        path = project / "runs" / run / "model.pt"
        module.load_state_dict(torch.load(path, weights_only=True))
        mask = torch.tensor(load_psi(whole / "psi.json")["mask"])
        assert torch.equal(module.state_dict()["change.mask"], mask)
        restored = restore(RunFolder(project / "runs" / run), "last")
        x, y = next(restored.data.evaluation("test", batch_size=1000))
        accuracy = (module(x).argmax(1) == y).double().mean().item()
        assert accuracy == pytest.approx(summary(project / "runs" / run)["test_accuracy"])
        done = blockstep("evaluate", f"run=runs/{run}", cwd=project)
        assert f"accuracy {accuracy:.2%}" in done.output
