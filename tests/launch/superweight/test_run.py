"""Ensembles from end to end, as a user starts them: resumed by other ranks, evaluated, exported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.launch.dashboard.layout import ENSEMBLE
from blockstep.search.sharing.file import SharingFile

from tests.launch.dashboard.recorded import empty, record_again, unseen
from tests.launch.runs import blockstep, finish, same, start, summary, torchrun, wait_for

STEPS, SEARCH = 12, 4
WORDS = (
    "superweight",
    "members=[{_target_: models.net.Small, channels: 6},{_target_: models.net.Small, channels: 8}]",
    "budget=90%", "superweight.clusters=2", f"superweight.search_steps={SEARCH}",
    "superweight.unshare_step=4", "superweight.similarity_batches=2", "superweight.beta=0.99",
    "data=digits", "data.validation=0.1", "data.train_examples=200", f"train.steps={STEPS}",
    "train.batch_size=32", "train.lr=0.05", "train.threads=1", "checkpoint.every=2",
    "checkpoint.keep=20", "evaluate.every=4", "log.every=1", "data.augment.crop=1",
    "wandb.mode=disabled",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(project: Path) -> Path:
    """A training by one rank that nothing happens to."""
    done = blockstep(*WORDS, "ranks=1", "name=whole", cwd=project)
    assert done.code == 0, done.output
    (project / "whole.txt").write_text(done.output)
    return project / "runs" / "whole"


def state(folder: Path, step: int = STEPS + SEARCH) -> dict[str, Any]:
    """Everything that the checkpoint after a step has."""
    paths = sorted((folder / "checkpoints" / f"step-{step}").glob("*.pt"))
    assert [path.name for path in paths] == ["member-1.pt", "member-2.pt", "shared.pt"]
    return {path.name: torch.load(path, weights_only=True) for path in paths}


def test_it_leaves_its_files(project: Path, whole: Path):
    """Configuration, records, sharing with its picture, page and summary."""
    for name in (
        "config.yaml", "metrics.jsonl", "sharing.json", "sharing.svg", "report.html",
        "summary.json", "ranks.json", "rank0.log", "measured.json",
    ):  # fmt: skip
        assert (whole / name).is_file(), name
    result, file = summary(whole), SharingFile.load(whole / "sharing.json")
    assert (result["command"], result["method"]) == ("superweight", "superweight")
    assert result["steps"] == STEPS + SEARCH
    assert result["members"] == ["Small", "Small"]
    assert set(result["parameters"]) == {"templates", "coefficients", "heads", "norms"}
    assert result["parameters"]["templates"] <= result["budget"]
    assert result["clusters"] == len(file.sharing.clusters)
    assert result["ensemble_accuracy"] == result["test_accuracy"]
    assert len(result["member_accuracy"]) == 2
    assert result["images_per_second"] is not None
    page = (whole / "report.html").read_text()
    assert "What the members share" in page
    assert "member 2 Small" in page
    told = (project / "whole.txt").read_text()
    assert "all begins anew" in told
    assert "sets of coefficients from now on" in told


def test_the_dashboard_shows_what_is_recorded(whole: Path, tmp_path: Path):
    """Every key has a panel, and every panel a key."""
    run = record_again(whole, tmp_path)
    assert unseen(run.logged) == set()
    assert [panel.title for panel in empty([ENSEMBLE], run.logged)] == []


@pytest.mark.parametrize("step", [SEARCH - 2, SEARCH, SEARCH + 4])
def test_two_ranks_resume_what_one_began(project: Path, whole: Path, step: int):
    """From the search and from both transitions: the end is the same bit for bit."""
    torn = project / "runs" / f"torn-{step}"
    shutil.copytree(whole, torn)
    for later in range(step + 1, STEPS + SEARCH + 1):
        shutil.rmtree(torn / "checkpoints" / f"step-{later}", ignore_errors=True)
    for name in ("summary.json", "sharing.json"):
        (torn / name).unlink()
    done = blockstep("superweight", f"resume=runs/{torn.name}", "ranks=2", cwd=project)
    assert done.code == 0, done.output
    assert f"continues after step {step}" in done.output
    assert same(state(torn), state(whole))
    assert (torn / "sharing.json").read_text() == (whole / "sharing.json").read_text()


def test_torchrun_trains_the_same(project: Path, whole: Path):
    """Two processes of its own, one member each."""
    flags = ["--standalone", "--nproc-per-node", "2"]
    done = torchrun(*WORDS, "name=torchrun", cwd=project, flags=flags)
    assert done.code == 0, done.output
    assert "rank 0 (member " in done.output
    assert "rank 1 (member " in done.output
    assert same(state(project / "runs" / "torchrun"), state(whole))


def test_evaluate_tells_everything(project: Path, whole: Path):
    """Scores, diversity, costs of all subsets, corruptions; a picture of each."""
    done = blockstep(
        "evaluate", "run=runs/whole", "corruptions=own", "severities=2", "timing=1", cwd=project
    )
    assert done.code == 0, done.output
    found = json.loads((whole / "evaluation-test.json").read_text())
    assert [one["top1"] for one in found["members"]] == summary(whole)["member_accuracy"]
    assert found["ensemble"]["top1"] == summary(whole)["test_accuracy"]
    assert found["ensemble"]["ece"] == pytest.approx(summary(whole)["test_ece"])
    assert len(found["anytime"]["flops"]["subsets"]) == 3
    assert found["anytime"]["seconds"]["subsets"][0]["cost"] > 0
    assert found["members"][0]["flops"] < found["members"][1]["flops"]
    assert len(found["corruptions"]["kinds"]) == 11
    assert found["corruptions"]["source"].startswith("own")
    assert found["interpolation"] == []  # the members are of two widths
    assert sum(one["examples"] for one in found["calibration"]) == found["examples"]
    for name in (
        "members", "calibration", "diversity", "anytime-flops", "anytime-seconds", "corruptions"
    ):  # fmt: skip
        text = (whole / f"evaluation-test-{name}.svg").read_text()
        assert "<svg" in text


def test_export_writes_plain_networks(project: Path, whole: Path):
    """Each member has weights of its own, and the norms and the head that it trained."""
    done = blockstep("export", "run=runs/whole", cwd=project)
    assert done.code == 0, done.output
    exported = torch.load(whole / "member-2.pt", weights_only=True)
    assert exported["stem.0.weight"].shape == (8, 1, 3, 3)
    trained = state(whole)["member-2.pt"]["tensors"]
    assert len(trained) == len(exported) - 4  # the four convolutions are made of templates
    for name, tensor in trained.items():
        assert torch.equal(exported[name.removeprefix("members.1.")], tensor), name


def test_status_tells_members(project: Path, whole: Path):
    """The newest line of each, and the last events."""
    done = blockstep("status", "run=runs/whole", cwd=project)
    assert done.code == 0, done.output
    assert "member 2 | training" in done.output
    assert "test accuracy of the ensemble" in done.output


def test_it_can_be_looked_at_stopped_and_continued(project: Path):
    """stop leaves a checkpoint and a summary; a resume goes on from there, by other ranks."""
    folder = project / "runs" / "stopped"
    words = ("train.steps=3000", "train.schedule=constant", "ranks=2", "name=stopped")
    process = start(*WORDS, *words, cwd=project)
    try:
        wait_for(lambda: (folder / "checkpoints" / "step-8" / "manifest.json").exists())
        status = blockstep("status", "run=runs/stopped", cwd=project)
        stop = blockstep("stop", "run=runs/stopped", cwd=project)
    finally:
        done = finish(process)
    assert "running" in status.output
    assert "member 1 | " in status.output
    assert "blockstep superweight resume=runs/stopped" in stop.output
    assert done.code == 0, done.output
    steps = summary(folder)["steps"]
    assert 0 < steps < 3000
    less = ("train.steps=1", "superweight.unshare_step=1")
    few = blockstep("superweight", "resume=runs/stopped", *less, cwd=project)
    assert few.code == 2
    assert "of the main training is already done" in few.output
    again = f"train.steps={steps - SEARCH + 2}"
    done = blockstep("superweight", "resume=runs/stopped", "ranks=1", again, cwd=project)
    assert done.code == 0, done.output
    assert summary(folder)["steps"] == steps + 2
