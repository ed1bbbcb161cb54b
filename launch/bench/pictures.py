"""The two pictures of a comparison: error over seconds, and throughput with memory per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..report.groups import mean_curve
from .rows import Row, step_seconds
from .trial import Trial

__all__ = ["draw_errors", "draw_rates", "write_pictures"]

MIB = 2**20
HEIGHT = 4.2
"""Of a picture, in inches."""


def draw_errors(trials: Mapping[str, Sequence[Trial]]) -> Any:
    """Return a figure of the error over the seconds of training, means over the repeats."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, HEIGHT), layout="constrained")
    axes = figure.subplots()
    splits = set()
    for method, repeats in trials.items():
        seconds = step_seconds(repeats)
        curves = [
            [(step * seconds, 100 * error) for step, error in trial.errors] for trial in repeats
        ]
        splits |= {trial.split for trial in repeats}
        if not all(curves):
            continue
        line = [(at, estimate.mean) for at, estimate in mean_curve(curves)]
        (drawn,) = axes.plot(*zip(*line, strict=True), marker="o", markersize=3, label=method)
        for curve in curves if len(curves) > 1 else ():
            axes.plot(*zip(*curve, strict=True), color=drawn.get_color(), alpha=0.25, linewidth=1)
    axes.set_xlabel("seconds of training, evaluations excluded")
    axes.set_ylabel(f"{' and '.join(sorted(splits))} error, %")
    axes.set_yscale("log")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small")
    return figure


def draw_rates(rows: Sequence[Row]) -> Any:
    """Return a figure of throughput, with its spread, and of the peak memory of a rank."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 1.4 + 0.36 * len(rows)), layout="constrained")
    speed, memory = figure.subplots(1, 2, sharey=True)
    places = range(len(rows))
    rates = [row.images_per_second for row in rows]
    below = [row.images_per_second - row.images_per_second_min for row in rows]
    above = [row.images_per_second_max - row.images_per_second for row in rows]
    speed.barh(places, rates, xerr=(below, above), capsize=3, color="tab:blue")
    speed.set_yticks(places, [row.method for row in rows])
    speed.invert_yaxis()
    speed.set_xlabel("images/s (median, smallest and largest)")
    memory.barh(places, [(row.peak_memory_bytes or 0) / MIB for row in rows], color="tab:orange")
    memory.set_xlabel("peak MiB of the rank that needs most")
    for axes in (speed, memory):
        axes.grid(alpha=0.3, axis="x")
        axes.set_axisbelow(True)
    return figure


def write_pictures(
    folder: Path, trials: Mapping[str, Sequence[Trial]], rows: Sequence[Row]
) -> list[Path]:
    """Write ``error.png`` and ``rates.png``; return their paths."""
    drawn = {"error": draw_errors(trials), "rates": draw_rates(rows)}
    paths = []
    for name, figure in drawn.items():
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=150)
        paths.append(path)
    return paths
