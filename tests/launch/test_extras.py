"""Parts of a run that a user switches on: own data, losses and metrics, image folders, windows."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.launch import runs
from tests.launch.runs import QUIET, at_step, blockstep, finish, same, start, states, wait_for
from tests.launch.users_project import write_project

OWN = '''
import torch
from torch import nn


class Blobs:
    """Two clouds of points as 1x8x8 images."""

    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        y = torch.arange(count) % 2
        x = torch.randn(count, 1, 8, 8, generator=generator) + 2.0 * y[:, None, None, None]
        self.train, self.test = (x[:-100], y[:-100]), (x[-100:], y[-100:])


class Focal(nn.Module):
    def __init__(self, gamma):
        super().__init__()
        self.gamma = gamma

    def forward(self, logits, y):
        p = logits.log_softmax(-1).gather(1, y[:, None]).squeeze(1)
        return (-((1 - p.exp()) ** self.gamma) * p).mean()
'''


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's project with a data set and a loss."""
    folder = write_project(tmp_path_factory.mktemp("project"))
    (folder / "own.py").write_text(OWN)
    return folder


def test_own_data_loss_and_metric_by_target(project: Path) -> None:
    """A data set, a loss and a torchmetrics metric of the user's choice train and evaluate."""
    words = (
        "data._target_=own.Blobs", "data.count=500", "model=mlp", "model.depth=2",
        "heads=linear", "train.loss._target_=own.Focal", "train.loss.gamma=2",
        "train.steps=40", "train.lr=0.05",
        "train.batch_size=50",
        "train.metrics=[{_target_:torchmetrics.classification.MulticlassF1Score}]",
    )  # fmt: skip
    done = blockstep("train", *QUIET, *words, "name=own", cwd=project)
    assert done.code == 0, done.output
    folder = project / "runs" / "own"
    assert runs.summary(folder)["test_accuracy"] > 0.9
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = [record for record in records if record["event"] == "evaluation"][-1]
    assert all(0.9 < block["MulticlassF1Score"] <= 1 for block in last["metrics"])


def write_images(root: Path) -> None:
    """Write a folder of JPEGs as ImageNet has it: bright and dark pictures."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 40), ("val", 10)):
        for number, name in enumerate(("n01", "n02")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 100, (40, 48, 3)) + 120 * number
                Image.fromarray(pixels.astype("uint8")).save(folder / f"{index}.JPEG")


def test_folders_of_images_feed_the_pipeline_and_resume(project: Path) -> None:
    """JPEGs come through worker processes; an interrupted run ends like an uninterrupted one."""
    write_images(project / "pictures")
    words = (
        *QUIET, "data=imagenet", "data.root=pictures", "data.size=32", "data.workers=1",
        "data.validation=0.2", "model=resnet18", "model.width=0.125", "train.batch_size=8",
        "train.lr=0.01", "train.lr_min=0.001", "train.precision=float32", "train.warmup=0",
        "checkpoint.every=8", "checkpoint.keep=10", "log.every=2",
    )  # fmt: skip
    done = blockstep("train", *words, "train.steps=16", "name=whole", cwd=project)
    assert done.code == 0, done.output
    whole = project / "runs" / "whole"
    assert runs.summary(whole)["test_accuracy"] is not None
    cut = project / "runs" / "cut"
    shutil.copytree(whole, cut)
    shutil.rmtree(cut / "checkpoints" / "step-16")
    done = blockstep("train", "name=cut", "resume=auto", cwd=project)
    assert done.code == 0, done.output
    assert "continues after step" in done.output
    assert same(states(cut, 16), states(whole, 16))


def test_profile_window_writes_a_trace_of_the_chosen_stage(project: Path) -> None:
    """profile.stage=2 leaves torch.profiler's trace of that stage's steps."""
    words = ("train.steps=8", "profile.stage=2", "profile.start=3", "profile.steps=2")
    done = blockstep("train", *QUIET, *words, "name=profiled", cwd=project)
    assert done.code == 0, done.output
    trace = json.loads((project / "runs" / "profiled" / "profile-stage-2.json").read_text())
    names = {event.get("name", "") for event in trace["traceEvents"]}
    assert any("conv" in name for name in names)
    assert not (project / "runs" / "profiled" / "profile-stage-1.json").exists()


def test_sigterm_writes_a_checkpoint_and_ends_in_time(project: Path) -> None:
    """Pre-emption: SIGTERM ends the run within 5 s with a checkpoint and status 143."""
    words = (*QUIET, "train.steps=4000", "checkpoint.every=0", "evaluate.every=0", "log.every=5")
    process = start("train", *words, "name=preempted", cwd=project)
    folder = project / "runs" / "preempted"
    wait_for(lambda: at_step(folder, 20), text="step 20")
    process.send_signal(signal.SIGTERM)
    done = finish(process, 15)
    assert done.code == 143, done.output
    assert list((folder / "checkpoints").glob("step-*/manifest.json"))


def test_wandb_keeps_its_run_over_a_resume(project: Path) -> None:
    """The resumed part is recorded under the same wandb id, in the same folder."""
    words = [word for word in QUIET if not word.startswith("wandb")]
    done = blockstep("train", *words, "train.steps=6", "name=tracked", cwd=project)
    assert done.code == 0, done.output
    folder = project / "runs" / "tracked"
    identity = (folder / "wandb" / "id").read_text()
    done = blockstep("train", "name=tracked", "resume=auto", "train.steps=8", cwd=project)
    assert done.code == 0, done.output
    assert (folder / "wandb" / "id").read_text() == identity
    parts = sorted((folder / "wandb").glob("offline-run-*"))
    assert len(parts) >= 1
    assert all(part.name.endswith(identity) for part in parts)
