"""Tests of `blockstep.launch.report.groups`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from blockstep.launch.config import TrainConfig
from blockstep.launch.report.groups import Estimate, differences, group_runs, mean_curve
from blockstep.launch.report.history import History, read_history
from hypothesis import given
from hypothesis import strategies as st

WriteRun = Callable[..., Path]
FLOATS = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20)


def other_method(config: TrainConfig) -> None:
    config.method = "backprop"


def other_names(config: TrainConfig) -> None:
    config.wandb.tags, config.log.view, config.runs = ["b"], "none", "elsewhere"


def read(*folders: Path) -> list[History]:
    return [read_history(folder, trace=False) for folder in folders]


@given(FLOATS)
def test_the_standard_error_is_that_of_numpy(values: list[float]):
    """Standard deviation with n - 1, over the square root of n."""
    estimate = Estimate.of(values)
    assert estimate is not None
    assert estimate.count == len(values)
    assert estimate.mean == pytest.approx(np.mean(values), abs=1e-9)
    expected = np.std(values, ddof=1) / np.sqrt(len(values))
    assert estimate.error == pytest.approx(expected, abs=1e-9)


def test_one_value_has_no_standard_error():
    """Nothing is known of the spread of a single run; what is not measured does not count."""
    assert Estimate.of([0.5, None]) == Estimate(0.5, None, 1)
    assert Estimate.of([None, None]) is None


def test_runs_that_differ_in_their_seed_only_are_one_group(write_run: WriteRun):
    """Seed, name and what is told to wandb make no other configuration; the method does."""
    runs = [write_run(f"a-{seed}", seed=seed) for seed in range(2)]
    runs.append(write_run("a-2", seed=2, config=other_names))
    runs += [write_run(f"b-{seed}", seed=seed, config=other_method) for seed in range(2)]
    groups = group_runs(read(*runs))
    assert [len(group.runs) for group in groups] == [3, 2]
    assert [group.name for group in groups] == ["method=decoupled", "method=backprop"]
    assert differences([group.runs for group in groups]) == {"method": ["decoupled", "backprop"]}


def test_a_run_that_failed_is_not_averaged(write_run: WriteRun):
    """Its figures are not those of a whole run."""
    whole = [write_run(f"seed-{seed}", seed=seed) for seed in range(2)]
    failed = write_run("seed-2", seed=2, until=70, failure="stage 1: lost")
    groups = group_runs(read(*whole, failed))
    assert [group.name for group in groups] == ["seed-{}".format("0 and 1 more"), "seed-2"]
    assert [len(group.runs) for group in groups] == [2, 1]


def test_one_group_is_called_by_what_its_names_share(write_run: WriteRun):
    """Three seeds of one configuration have a name without the seed."""
    runs = [write_run(f"digits-k4-seed-{seed}", seed=seed) for seed in range(3)]
    (group,) = group_runs(read(*runs))
    assert group.name == "digits-k4"


def test_a_mean_curve_is_the_mean_at_common_steps():
    """Where all runs have the same steps, nothing is interpolated."""
    curves = [[(10, 1.0), (20, 3.0)], [(10, 2.0), (20, 5.0)], [(10, 6.0), (20, 4.0)]]
    (x0, first), (x1, last) = mean_curve(curves)
    assert (x0, x1) == (10, 20)
    assert (first.mean, last.mean) == pytest.approx((3.0, 4.0))
    assert first.error == pytest.approx(np.std([1, 2, 6], ddof=1) / np.sqrt(3))


def test_a_mean_curve_ends_with_the_shortest_run():
    """Where a run has no value there is no mean; between its steps it is a straight line."""
    curves = [[(0, 0.0), (10, 10.0), (20, 20.0)], [(5, 5.0), (15, 15.0)]]
    assert [(x, estimate.mean) for x, estimate in mean_curve(curves)] == [(5, 5.0), (15, 15.0)]
    assert mean_curve([[], []]) == []
    assert mean_curve([[(1, 2.0)]]) == [(1, Estimate(2.0, None, 1))]
