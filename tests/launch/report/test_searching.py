"""Tests of the page of a search: `blockstep.launch.report.searching` and its records."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from blockstep.launch.compose import compose
from blockstep.launch.configfile import config_to_yaml
from blockstep.launch.report import write_report
from blockstep.launch.report.records import MAX_OUTER, read_recording
from blockstep.search.discretization import discretize

from tests.launch.report.reading import Page

LAYERS, STEPS = 5, 40


def alpha(step: int) -> list[list[float]]:
    """Layer 3 wins, then layer 1."""
    wins = (0.5, 0.1, 1.0, -0.4)
    return [[win * step / STEPS, 0.0] for win in wins]


def outer(step: int, **values: Any) -> dict[str, Any]:
    common = {"event": "search", "time": 100.0 + step, "step": step, "steps": STEPS, "loss": 1.0}
    common |= {"accuracy": 0.5 + step / 100, "alpha": alpha(step), "beta": [[0.0, step]] * 4}
    return {**common, "skipped": 0, "lost": 0, "gradient_norm": 0.1, "seconds": 0.5, **values}


def pretraining(step: int) -> dict[str, Any]:
    accuracy = step / 100 if step % 10 == 0 else None
    common = {"event": "pretrain", "time": float(step), "step": step, "steps": 60, "lr": 0.1}
    return {**common, "loss": 2.0, "losses": [2.0] * LAYERS, "accuracy": accuracy, "seconds": 0.1}


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A search that goes on: 60 pretraining steps and 20 of 40 outer steps."""
    words = ["data=digits", "blocks=3", "train.steps=60", "search.memory=1", "search.steps=40"]
    config = compose("search", [*words, "search.pretrain_every=10", "search.heads=[linear,aux1]"])
    (tmp_path / "config.yaml").write_text(config_to_yaml(config))
    records = [{"event": "start", "time": 0.0, "step": 0}]
    records.append({"event": "profiled", "time": 0.0, "seconds": 0.25})
    records += [pretraining(step) for step in range(1, 61)]
    records += [outer(step) for step in range(1, 21)]
    write(tmp_path / "metrics.jsonl", records)
    return tmp_path


def show(folder: Path) -> tuple[Page, str]:
    """Write the page and read it; and its words without tags."""
    path = folder / "report.html"
    write_report([folder], path)
    source = path.read_text(encoding="ascii")
    return Page(source), " ".join(re.sub(r"<[^>]*>", " ", source).split())


def finish(folder: Path) -> None:
    """Let the search end with what it found."""
    beta = [[0.0, 1.0]] * 4
    found = discretize(alpha(40), beta, network="small", heads=["linear", "aux1"], blocks=3)
    found.save(folder / "decoupling.json")
    with (folder / "metrics.jsonl").open("a") as file:
        for step in range(21, 41):
            file.write(json.dumps(outer(step)) + "\n")
        file.write(json.dumps({"event": "end", "time": 200.0, "step": 100}) + "\n")
    summary = {"command": "search", "network": "small", "data": "digits", "steps": 100}
    summary |= {"outer_step_seconds": 0.5, "pretraining_seconds": 6.0, "skipped": 3}
    (folder / "summary.json").write_text(json.dumps(summary))


def test_a_search_that_goes_on_shows_what_it_has_learned(folder: Path):
    """The pictures of alpha and the charts of both phases, without a result."""
    page, words = show(folder)
    assert (page.unbalanced, page.open, page.loads()) == ([], [], [])
    assert "The search goes on" in words
    assert "a search" in words
    assert "How the search decided" in words
    assert "outer step" in words
    assert "of 40" in words
    assert "method ?" not in words
    for training in ("Pipeline", "Blocks", "Throughput"):
        assert f">{training}<" not in page.source


def test_a_search_that_has_ended_shows_its_cuts(folder: Path):
    """For the number of blocks that was asked for; and how it went."""
    finish(folder)
    _, words = show(folder)
    assert "1, 3 after these layers, for 3 blocks" in words
    assert "finished all 100 steps" in words
    assert "90.00% after the inner steps of the last outer step" in words
    assert "gradients of alpha and beta that were not finite" in words
    assert "layers and heads timed" in words


def test_a_damaged_decoupling_is_told(folder: Path):
    """The page is written all the same."""
    (folder / "decoupling.json").write_text("{")
    (folder / "pareto.json").write_text("[]")
    _, words = show(folder)
    assert "Some files could not be read" in words
    assert "decoupling.json" in words
    assert "pareto.json" in words


def test_steps_that_are_told_again_after_a_resume_count_once(tmp_path: Path):
    """The newest record of a step is the one that counts."""
    records = [outer(step) for step in range(1, 8)]
    records += [outer(step, loss=9.0) for step in range(5, 10)]
    recording = read_recording(write(tmp_path / "metrics.jsonl", records))
    assert [one["step"] for one in recording.outer] == list(range(1, 10))
    assert recording.phases["search"].points("loss") == [
        *((step, 1.0) for step in range(1, 5)),
        *((step, 9.0) for step in range(5, 10)),
    ]
    assert recording.events.count == 0


def test_a_long_search_is_thinned_out(tmp_path: Path):
    """However many outer steps: bounded memory, evenly chosen."""
    count = 3 * MAX_OUTER + 7
    lines = [outer(step, alpha=[[0.0, 0.0]], beta=[[0.0]]) for step in range(1, count + 1)]
    kept = read_recording(write(tmp_path / "metrics.jsonl", lines)).outer
    assert MAX_OUTER // 2 <= len(kept) <= MAX_OUTER
    assert kept[-1]["step"] == count
    gaps = {after["step"] - before["step"] for before, after in itertools.pairwise(kept)}
    assert max(gaps) <= 8


@pytest.mark.parametrize(
    "values",
    [
        {"alpha": None},
        {"alpha": "x", "beta": 5},
        {"alpha": [[1]], "beta": [[]]},
        {"alpha": [[0.0] * 30_000]},
        {"step": "x"},
        {"loss": float("nan"), "accuracy": {}},
    ],
)
def test_damaged_records_do_no_harm(folder: Path, values: dict[str, Any]):
    """What is no alpha is left out."""
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({**outer(21), **values}) + "\n")
    page, _ = show(folder)
    assert page.unbalanced == []
