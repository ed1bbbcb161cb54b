"""Tests of the page of several runs: `blockstep.launch.report.comparison`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from blockstep.launch.config import TrainConfig
from blockstep.launch.report import write_report
from blockstep.launch.report.scale import DASH

from tests.launch.report.reading import Page

WriteRun = Callable[..., Path]


def show(tmp_path: Path, *folders: Path) -> Page:
    """Write the comparison and read it."""
    write_report(folders, tmp_path / "comparison.html")
    return Page((tmp_path / "comparison.html").read_text(encoding="ascii"))


def backprop(config: TrainConfig) -> None:
    config.method = "backprop"


def figures(folders: list[Path], name: str) -> list[float]:
    return [json.loads((folder / "summary.json").read_text())[name] for folder in folders]


def bold(page: Page) -> list[str]:
    return re.findall(r'<td class="number best"><strong>(.*?)</strong>', page.source)


def test_runs_stand_side_by_side_with_the_best_marked(write_run: WriteRun, tmp_path: Path):
    """Higher is better for accuracy and speed, lower for time and memory."""
    one = {"test_accuracy": 0.9, "images_per_second": 500.0, "seconds": 10.0, "efficiency": None}
    two = {"test_accuracy": 0.8, "images_per_second": 700.0, "seconds": 20.0, "efficiency": None}
    runs = [write_run("one", summary=one), write_run("two", summary=two, config=backprop)]
    page = show(tmp_path, *runs)
    rows = page.rows("results")
    assert [row[0] for row in rows] == ["one", "two"]
    assert (rows[0][2], rows[1][2]) == ("90.00", "80.00")
    assert bold(page)[0] == "90.00"
    assert "700.0" in bold(page)
    assert "10.00" in bold(page)
    assert "efficiency" not in page.source.split("</thead>")[0]
    assert page.loads() == []
    assert (page.unbalanced, page.open) == ([], [])
    page.pictures()


def test_seeds_are_one_row_with_mean_and_standard_error(write_run: WriteRun, tmp_path: Path):
    """n, mean and standard error as numpy finds them."""
    runs = [write_run(f"k3-seed-{seed}", seed=seed) for seed in range(3)]
    other = [write_run(f"bp-seed-{s}", seed=s, blocks=1, config=backprop) for s in range(2)]
    page = show(tmp_path, *runs, *other)
    rows = page.rows("results")
    assert [row[1] for row in rows] == ["3", "2"]
    for row, group in zip(rows, (runs, other), strict=True):
        values = 100 * np.array(figures(group, "test_accuracy"))
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        assert row[2] == f"{np.mean(values):.2f} \u00b1 {error:.2f}"
    assert "blocks=3, method=decoupled" in page.text
    assert page.text.count("k3-seed-1") >= 1
    assert "standard error" in page.text


def test_curves_of_seeds_are_means_with_a_band(write_run: WriteRun, tmp_path: Path):
    """The line is the mean over the seeds, the band one standard error to either side."""
    runs = [write_run(f"seed-{seed}", seed=seed, evaluate=20) for seed in range(3)]
    page = show(tmp_path, *runs, write_run("bp", blocks=1, config=backprop))
    values: dict[int, list[float]] = {}
    for run in runs:
        for line in (run / "metrics.jsonl").open():
            record = json.loads(line)
            if record.get("split") == "validation":
                values.setdefault(record["step"], []).append(100 * record["accuracies"][-1])
    lines = page.lines("Validation accuracy over steps")
    (name,) = [name for name in lines if name.endswith("(n=3)")]
    assert lines[name] == [(s, pytest.approx(np.mean(v), rel=1e-4)) for s, v in values.items()]
    bands = [
        path
        for path in page.figure("Validation accuracy over steps").iter("path")
        if path.get("data-series") == name and "band" in path.get("class", "")
    ]
    numbers = [float(n) for n in re.findall(r"[\d.]+", bands[0].get("d", ""))]
    first = values[20]
    error = np.std(first, ddof=1) / np.sqrt(3)
    assert numbers[1] == pytest.approx(np.mean(first) - error, rel=1e-4)
    assert numbers[-1] == pytest.approx(np.mean(first) + error, rel=1e-4)
    assert page.has_figure("Training loss")


def test_accuracy_over_time_uses_seconds_of_training(write_run: WriteRun, tmp_path: Path):
    """The faster run reaches its last evaluation earlier."""
    slow = write_run("slow", busy=(0.2,))
    fast = write_run("fast", busy=(0.01,), config=backprop)
    lines = show(tmp_path, slow, fast).lines("Validation accuracy over time")
    times = {name: points[-1][0] for name, points in lines.items()}
    assert times["slow"] > 10 * times["fast"]


def test_a_run_that_failed_is_told_and_has_no_figures(write_run: WriteRun, tmp_path: Path):
    """It is listed with dashes; its curves are shown as far as they go."""
    page = show(tmp_path, write_run("good"), write_run("bad", failure="lost <b>", until=90))
    assert "lost <b>" in page.text
    assert page.rows("results")[1][2:] == [DASH] * (len(page.rows("results")[1]) - 2)
    assert set(page.lines("Training loss")) == {"good", "bad"}


def test_what_differs_is_listed(write_run: WriteRun, tmp_path: Path):
    """Keys with different values, and cuts that a measured balance made different."""
    page = show(tmp_path, write_run("a", blocks=2), write_run("b", blocks=3))
    cells = re.findall(r"<td>(.*?)</td>", page.source.split("What differs")[1])
    assert cells[:3] == ["blocks", "2", "3"]
    assert "[2]" in cells
    assert "[2, 4]" in cells


def test_runs_without_records_are_compared_too(write_run: WriteRun, tmp_path: Path):
    """Nothing but a configuration is enough for a row."""
    run = write_run("a")
    for name in ("metrics.jsonl", "summary.json", "ranks.json", "decoupling.json", "trace.json"):
        (run / name).unlink()
    page = show(tmp_path, run, write_run("b"))
    assert [row[0] for row in page.rows("results")] == ["a", "b"]


def test_every_run_is_a_dot(write_run: WriteRun, tmp_path: Path):
    """Single runs as small dots, the mean as a large one, between the ends of its error."""
    runs = [write_run(f"s-{s}", seed=s, summary={"test_accuracy": 0.9 + s / 50}) for s in range(3)]
    other = write_run("bp", config=backprop, summary={"test_accuracy": None})
    figure = show(tmp_path, *runs, other).figure("Test accuracy")
    circles = [(float(c.get("cx", 0)), float(c.get("r", 0))) for c in figure.iter("circle")]
    small = [x for x, r in circles if r == 2.5]
    (large,) = [x for x, r in circles if r == 5]
    assert len(small) == 3
    assert large == pytest.approx(np.mean(small), abs=0.1)
    (whisker,) = [p.get("d", "") for p in figure.iter("path") if "thin" in p.get("class", "")]
    left, right = map(float, re.findall(r"M([\d.]+) [\d.]+H([\d.]+)", whisker)[0])
    error = np.std(small, ddof=1) / np.sqrt(3)
    assert (large - left, right - large) == pytest.approx((error, error), abs=0.2)
    assert [text.text for text in figure.iter("text")].count(DASH) == 1
