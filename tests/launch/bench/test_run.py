"""A small comparison from end to end, and the plain loop against the runtime."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from blockstep.launch.bench.result import conclude
from blockstep.launch.bench.rows import make_rows
from blockstep.launch.bench.trial import read_trial
from blockstep.launch.config import WandbConfig
from blockstep.launch.dashboard.layout import BENCH
from blockstep.launch.folder import RunFolder

from tests.launch.runs import blockstep, torchrun

SMALL = ("train.steps=30", "evaluate.every=30", "model.width=0.125", "wandb.mode=offline")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison of three, once each."""
    place = tmp_path_factory.mktemp("bench")
    methods = "methods=[backprop,pipeline-1,sedona cuts=[4]]"
    words = ("bench", methods, "repeats=1", *SMALL, "name=small")
    done = blockstep(*words, cwd=place)
    assert done.code == 0, done.output
    assert "pipeline-1" in done.output
    return place / "runs" / "small"


def test_it_leaves_table_pictures_and_page(folder: Path) -> None:
    """A row per method with the words that were typed; the runs stay."""
    with (folder / "bench.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["backprop", "pipeline-1", "sedona cuts=[4]"]
    assert all(float(row["images_per_second"]) > 0 for row in rows)
    assert [row["ranks"] for row in rows] == ["1", "1", "2"]
    pictures = {path.stem: path for path in folder.glob("*.png")}
    assert set(pictures) == set(BENCH.panels[1].keys) == {"error", "rates"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures.values())
    text = (folder / "bench.md").read_text()
    assert "torch" in text
    assert "thread(s) per rank" in text
    assert (folder / "report.html").is_file()
    assert list((folder / "wandb").glob("offline-run-*"))


def test_the_plain_loop_is_what_the_runtime_computes(folder: Path) -> None:
    """Outside and inside of the runtime, backpropagation has the same losses and errors."""

    def evaluations(name: str) -> list[tuple[str, list[float], list[float]]]:
        lines = (folder / name / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        return [
            (record["split"], record["losses"], record["accuracies"])
            for record in records
            if record["event"] == "evaluation"
        ]

    assert evaluations("backprop-0") == evaluations("pipeline-1-0")
    assert [split for split, _, _ in evaluations("backprop-0")] == ["validation", "test"]


def test_a_wandb_that_fails_leaves_everything_else(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The files are written; what wandb said is told."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no room for wandb")

    monkeypatch.setattr("blockstep.launch.bench.result.open_run", refuse)
    trials = {"pipeline-1": [read_trial("pipeline-1", RunFolder(folder / "pipeline-1-0"))]}
    told = conclude(
        RunFolder(tmp_path), ["a machine"], trials, make_rows(trials), WandbConfig(mode="offline")
    )
    assert f"are in {tmp_path}" in told
    assert (tmp_path / "bench.csv").is_file()
    assert "wandb did not record it: no room for wandb" in capsys.readouterr().err


def test_a_method_that_fails_leaves_the_others(tmp_path: Path) -> None:
    """Its last lines are told, and the status is 1."""
    methods = "methods=[pipeline-1,decoupled heads._target_=no.such.Head]"
    done = blockstep("bench", methods, "repeats=1", *SMALL, "name=half", cwd=tmp_path)
    assert done.code == 1
    assert "decoupled heads._target_=no.such.Head (seed 0) failed with code 2" in done.output
    assert "no.such.Head cannot be imported" in done.output
    assert "pipeline-1" in (tmp_path / "runs" / "half" / "bench.csv").read_text()


def test_torchrun_is_refused(tmp_path: Path) -> None:
    """Each training starts processes of its own."""
    done = torchrun("bench", cwd=tmp_path, flags=["--standalone", "--nproc-per-node", "1"])
    assert done.code != 0
    assert "run it without torchrun" in done.output
