"""From trainings to the rows of a table: medians, ratios within a repeat, errors at equal times."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from blockstep.launch.bench.result import figures_of
from blockstep.launch.bench.rows import make_rows, shared_seconds
from blockstep.launch.bench.table import csv_text, markdown, terminal
from blockstep.launch.bench.trial import Trial

ERRORS = ((50, 0.5), (100, 0.3))


def trial(
    method: str,
    speed: float,
    *,
    seed: int = 0,
    errors: Sequence[tuple[int, float]] = ERRORS,
    accuracy: float | None = 0.7,
    stages: list[dict[str, Any]] | None = None,
) -> Trial:
    """A training of 100 steps with batches of 10."""
    rank = {"stage": 1, "rank": 0, "head_params": 7, "peak_memory_bytes": 100}
    summary = {
        "images_per_second": speed,
        "batch_size": 10,
        "steps": 100,
        "seed": seed,
        "efficiency": None,
        "test_accuracy": accuracy,
        "cuts": [],
        "stages": stages or [rank],
    }
    return Trial(method, Path(method), summary, "test", tuple(errors))


def test_ratios_are_taken_within_a_repeat() -> None:
    """A machine that is twice as slow in the second repeat changes no ratio."""
    trials = {
        "backprop": [trial("backprop", 100, seed=0), trial("backprop", 50, seed=1)],
        "ddp": [trial("ddp", 180, seed=0), trial("ddp", 90, seed=1)],
        "sedona": [trial("sedona", 150, seed=0), trial("sedona", 75, seed=1)],
    }
    rows = {row.method: row for row in make_rows(trials)}
    assert rows["backprop"].speedup_vs_backprop == 1.0
    assert rows["sedona"].speedup_vs_backprop == 1.5
    assert rows["sedona"].speedup_vs_ddp == pytest.approx(150 / 180)
    assert (rows["sedona"].images_per_second, rows["sedona"].images_per_second_min) == (112.5, 75)


def test_a_repeat_without_its_reference_gives_no_ratio() -> None:
    """Another seed is not the same repeat."""
    (_, row) = make_rows(
        {"backprop": [trial("backprop", 9, seed=0)], "dgl": [trial("dgl", 5, seed=1)]}
    )
    assert row.speedup_vs_backprop is None
    assert row.speedup_vs_ddp is None


def test_errors_are_compared_after_the_same_seconds() -> None:
    """The fastest is done after 5 s; the other has done 75 of its steps, between evaluations."""
    trials = {"fast": [trial("fast", 200)], "slow": [trial("slow", 150)]}
    assert shared_seconds(trials) == 5.0
    fast, slow = make_rows(trials)
    assert fast.error_at is not None
    assert slow.error_at is not None
    assert fast.error_at.mean == pytest.approx(0.3)
    assert slow.error_at.mean == pytest.approx(0.4)
    assert slow.error is not None
    assert slow.error.mean == pytest.approx(0.3)


def test_what_was_not_measured_is_empty() -> None:
    """Neither a zero nor a guess: before the first evaluation there is no error."""
    trials = {
        "fast": [trial("fast", 1000)],
        "slow": [trial("slow", 100, accuracy=None, stages=[{"stage": 1, "rank": 0}])],
    }
    _, slow = make_rows(trials)
    assert (slow.error, slow.error_at, slow.peak_memory_bytes, slow.bytes_per_step) == (None,) * 4
    assert make_rows({"none": []}) == []


def test_memory_is_that_of_the_rank_that_needs_most() -> None:
    """Replicas of a stage are ranks; two stages in one process are one."""
    replicas = [{"rank": 0, "peak_memory_bytes": 5}, {"rank": 1, "peak_memory_bytes": 9}]
    stages = [
        {"stage": 1, "rank": 0, "replicas": replicas, "head_params": 3},
        {"stage": 2, "rank": 2, "peak_memory_bytes": 7, "head_params": 11},
    ]
    (row,) = make_rows({"a": [trial("a", 1, stages=stages)]})
    assert (row.peak_memory_bytes, row.ranks, row.head_params) == (9, 3, 3)


def test_tables_have_every_method_and_csv_has_plain_numbers() -> None:
    """The columns ``method`` and ``images_per_second`` are what scripts read."""
    rows = make_rows({"backprop": [trial("backprop", 100)], "a b=[1,2]": [trial("a b=[1,2]", 50)]})
    read = list(csv.DictReader(io.StringIO(csv_text(rows))))
    assert [line["method"] for line in read] == ["backprop", "a b=[1,2]"]
    assert [float(line["images_per_second"]) for line in read] == [100.0, 50.0]
    assert read[1]["speedup_vs_backprop"] == "0.5"
    assert read[1]["speedup_vs_ddp"] == ""
    for text in (markdown(rows), terminal(rows)):
        assert "a b=[1,2]" in text
        assert "0.50x" in text


def test_wandb_gets_every_number_that_was_measured() -> None:
    """One key for each figure of each method; none for what was not measured."""
    values = figures_of(
        make_rows({"backprop": [trial("backprop", 100)], "dgl": [trial("dgl", 150, accuracy=None)]})
    )
    assert values["bench/images_per_second/dgl"] == 150
    assert values["bench/speedup_vs_backprop/dgl"] == 1.5
    assert values["bench/error/backprop"] == pytest.approx(0.3)
    assert "bench/error/dgl" not in values
    assert "bench/speedup_vs_ddp/dgl" not in values
    assert all(isinstance(value, int | float) for value in values.values())
