"""What the trainings of a comparison amount to: a row per method."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..report.groups import Estimate
from .trial import Trial

__all__ = ["Row", "make_rows", "shared_seconds", "step_seconds"]

Trials = Mapping[str, Sequence[Trial]]
"""By method, the trainings in the order of the repeats."""


@dataclass(frozen=True)
class Row:
    """One method's figures; None where something was not measured.

    Attributes:
        method: The words that it was asked for with.
        images_per_second: Median over the repeats.
        images_per_second_min: Smallest.
        images_per_second_max: Largest.
        speedup_vs_backprop: Median over the repeats of the ratio to the plain loop on one device
            in the same repeat.
        speedup_vs_ddp: The same against DDP on as many devices.
        efficiency: Median: throughput against the batch over the slowest stage's busy time.
        peak_memory_bytes: Of the rank that needs most; median.
        bytes_per_step: That ranks send each other per training step, all together.
        head_params: Parameters of all auxiliary heads.
        error: Share of wrong answers on the test split after the last step.
        error_at: The same, on the split that is evaluated on the way, after the seconds of
            training that the fastest method needs for all of its steps; interpolated between
            evaluations.
        ranks: Processes.
        cuts: Where the network was cut.
        repeats: Trainings.
    """

    method: str
    images_per_second: float
    images_per_second_min: float
    images_per_second_max: float
    speedup_vs_backprop: float | None
    speedup_vs_ddp: float | None
    efficiency: float | None
    peak_memory_bytes: float | None
    bytes_per_step: float | None
    head_params: int
    error: Estimate | None
    error_at: Estimate | None
    ranks: int
    cuts: tuple[int, ...]
    repeats: int


def step_seconds(repeats: Sequence[Trial]) -> float:
    """Return the seconds per step of a method, from the median of its repeats."""
    speed = statistics.median(trial.images_per_second for trial in repeats)
    return float(repeats[0].summary["batch_size"]) / speed


def shared_seconds(trials: Trials) -> float:
    """Return how many seconds of training every method had: those of the fastest."""
    return min(repeats[0].summary["steps"] * step_seconds(repeats) for repeats in trials.values())


def make_rows(trials: Trials) -> list[Row]:
    """Work out the rows of the methods that have at least one training."""
    trials = {method: repeats for method, repeats in trials.items() if repeats}
    if not trials:
        return []
    seconds = shared_seconds(trials)
    return [_row(method, trials, seconds) for method in trials]


def _row(method: str, trials: Trials, seconds: float) -> Row:
    repeats = trials[method]
    speeds = [trial.images_per_second for trial in repeats]
    summary = repeats[0].summary
    steps = seconds / step_seconds(repeats) * (1 + 1e-9)
    return Row(
        method=method,
        images_per_second=statistics.median(speeds),
        images_per_second_min=min(speeds),
        images_per_second_max=max(speeds),
        speedup_vs_backprop=_speedup(repeats, trials.get("backprop", ())),
        speedup_vs_ddp=_speedup(repeats, trials.get("ddp", ())),
        efficiency=_median([trial.summary.get("efficiency") for trial in repeats]),
        peak_memory_bytes=_median([_peak(trial) for trial in repeats]),
        bytes_per_step=_median([trial.summary.get("bytes_per_step") for trial in repeats]),
        head_params=sum(stage.get("head_params") or 0 for stage in summary["stages"][:-1]),
        error=Estimate.of([_error(trial) for trial in repeats]),
        error_at=Estimate.of([trial.error_after(steps) for trial in repeats]),
        ranks=len(_ranks(summary)),
        cuts=tuple(summary["cuts"]),
        repeats=len(repeats),
    )


def _speedup(repeats: Sequence[Trial], reference: Sequence[Trial]) -> float | None:
    """Return the median of the ratios of trainings of the same repeat."""
    by_seed = {trial.summary["seed"]: trial.images_per_second for trial in reference}
    ratios = [
        trial.images_per_second / by_seed[trial.summary["seed"]]
        for trial in repeats
        if trial.summary["seed"] in by_seed
    ]
    return statistics.median(ratios) if ratios else None


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _error(trial: Trial) -> float | None:
    accuracy = trial.summary.get("test_accuracy")
    return None if accuracy is None else 1.0 - accuracy


def _peak(trial: Trial) -> float | None:
    peaks = [rank.get("peak_memory_bytes") for rank in _ranks(trial.summary)]
    known = [peak for peak in peaks if peak is not None]
    return max(known) if known else None


def _ranks(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the entries of all ranks: a stage may have several replicas."""
    found = [rank for stage in summary["stages"] for rank in stage.get("replicas") or [stage]]
    return list({rank["rank"]: rank for rank in found}.values())
