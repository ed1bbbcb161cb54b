"""The page that compares several runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .chart import Axis, Line, line_chart
from .dots import dot_plot
from .groups import Estimate, Group, differences, group_runs, mean_curve
from .history import History
from .markup import NOTHING, Markup, element
from .page import banner, page, section
from .palette import colour
from .scale import DASH, byte_unit, decimals, span_unit
from .series import Point
from .table import Cell, table

__all__ = ["comparison"]

PERCENT = (0.0, 100.0)
MEANS = 75


@dataclass(frozen=True)
class Figure:
    """A column of the table.

    Attributes:
        name: Its head, with the unit.
        read: The figure of a run.
        size: Of the unit, in the figure's own.
        digits: Decimals; None chooses four significant digits.
        most: Whether the greatest is the best; else the smallest.
    """

    name: str
    read: Callable[[History], float | None]
    size: float = 1.0
    digits: int | None = None
    most: bool = True

    def show(self, value: float, error: float | None = None) -> str:
        """Return a value in words, with its standard error in the same decimals."""
        value = value / self.size
        digits = self.digits
        if digits is None:
            digits = decimals(value)
        text = f"{value:,.{digits}f}"
        return text if error is None else f"{text} \u00b1 {error / self.size:,.{digits}f}"


def comparison(histories: Sequence[History]) -> str:
    """Return the page of several runs.

    Args:
        histories: At least two. Those that differ in their seed only are shown as one, with mean
            and standard error.
    """
    groups = group_runs(histories)
    averaged = any(len(group.runs) > 1 for group in groups)
    how = "Bold: the best of a column."
    if averaged:
        how += (
            " Runs that differ in their seed only are one row: mean \u00b1 standard error over "
            "n runs (standard deviation with n \u2212 1, over \u221an)."
        )
    sections = [
        *_banners(histories),
        section("Results", _result_table(groups), _result_dots(groups), note=how),
        section("Curves", _curves(groups), note=_curve_note(averaged)),
        section("What differs", _difference_table(groups)),
        section("Runs", _run_table(histories) if averaged else NOTHING),
    ]
    title = f"{len(histories)} runs"
    header = element(
        "header",
        element("p", "blockstep comparison", class_="kicker"),
        element("h1", title),
        element("p", _facts(histories, groups), class_="facts"),
    )
    return page(f"{title} \u2013 blockstep", header, sections)


def _facts(histories: Sequence[History], groups: Sequence[Group]) -> str:
    def named(values: set[str]) -> str:
        return ", ".join(sorted(values))

    networks = named({history.network for history in histories})
    data = named({history.data for history in histories})
    sets = f"{len(groups)} configuration{'s' * (len(groups) != 1)}"
    return f"{networks} on {data} \u00b7 {sets}"


def _banners(histories: Sequence[History]) -> list[Markup]:
    """Name the runs whose figures are missing."""
    odd = [history for history in histories if not history.status.ended]
    lines = [f"{history.folder.path}: {history.status.text}" for history in odd]
    for history in histories:
        lines += [f"{history.folder.path}: {problem}" for problem in history.problems]
    if not lines:
        return []
    return [banner("running", "Some figures are missing.", "\n".join(lines))]


def _figures(histories: Sequence[History]) -> list[Figure]:
    """Return the columns; seconds and bytes in one unit each."""

    def largest(read: Callable[[History], float | None]) -> float:
        return max((read(history) or 0.0 for history in histories), default=0.0)

    alone, seconds = _of("slowest_alone"), _of("seconds")
    step, whole = span_unit(largest(alone)), span_unit(largest(seconds))
    memory, sent = byte_unit(largest(_peak)), byte_unit(largest(_of("bytes_up")))
    digits = 2 if memory.name == "GiB" else 0
    return [
        Figure("test accuracy (%)", _of("test_accuracy"), 0.01, 2),
        Figure("ensemble (%)", _of("ensemble_accuracy"), 0.01, 2),
        Figure("last evaluations (%)", _of("averaged_accuracy"), 0.01, 2),
        Figure("upload (%)", _of("upload_share"), 0.01, 2, most=False),
        Figure(f"sent up ({sent.name})", _of("bytes_up"), sent.size, most=False),
        Figure("images/s", _of("images_per_second")),
        Figure("speed-up (\u00d7)", _of("speedup_vs_backprop"), 1.0, 2),
        Figure("efficiency (%)", _of("efficiency"), 0.01, 1),
        Figure(f"slowest alone ({step.name})", alone, step.size, most=False),
        Figure(f"time ({whole.name})", seconds, whole.size, most=False),
        Figure(f"memory per process ({memory.name})", _peak, memory.size, digits, most=False),
    ]


def _of(name: str) -> Callable[[History], float | None]:
    return lambda history: history.figure(name)


def _peak(history: History) -> float | None:
    """Return the memory of the process that needs most."""
    peaks = [block.figure("peak_memory_bytes") for block in history.blocks()]
    return max((peak for peak in peaks if peak is not None), default=None)


def _result_table(groups: Sequence[Group]) -> Markup:
    figures = _figures([run for group in groups for run in group.runs])
    columns = [[Estimate.of(list(map(f.read, g.runs))) for g in groups] for f in figures]
    shown = [(f, column) for f, column in zip(figures, columns, strict=True) if any(column)]
    rows = []
    for place, group in enumerate(groups):
        cells: list[object] = [_name(group, place + 1), str(len(group.runs))]
        cells += [_cell(figure, column, place) for figure, column in shown]
        rows.append(cells)
    heads = ["", "n", *(figure.name for figure, _ in shown)]
    return table(heads, rows, class_="results")


def _name(group: Group, index: int) -> Markup:
    swatch = element("path", d="M1 6H23", class_=f"line {colour(index)}")
    picture = element("svg", swatch, viewBox="0 0 24 12", width=24, height=12, aria_hidden="true")
    names = ", ".join(run.folder.name for run in group.runs)
    return element("span", picture, " ", group.name, title=names, class_="name")


def _cell(figure: Figure, column: Sequence[Estimate | None], place: int) -> Cell:
    estimate = column[place]
    if estimate is None:
        return Cell(DASH)
    known = [other.mean for other in column if other is not None]
    best = max(known) if figure.most else min(known)
    text = figure.show(estimate.mean, estimate.error)
    # What looks the same is the same.
    equal = figure.show(estimate.mean) == figure.show(best)
    return Cell(text, best=len(known) > 1 and equal)


def _result_dots(groups: Sequence[Group]) -> Markup:
    """Return the accuracy and the throughput of all groups as pictures."""
    if len(groups) < 2:
        return NOTHING
    charts = [
        dot_plot("Test accuracy", "%", "test_accuracy", groups, factor=100),
        dot_plot("Throughput", "images/s", "images_per_second", groups, zero=True),
    ]
    shown = [chart for chart in charts if chart]
    return element("div", *shown, class_="charts") if shown else NOTHING


def _curve_note(averaged: bool) -> str | None:
    if not averaged:
        return None
    return "Lines are means over runs, bands one standard error to either side."


def _curves(groups: Sequence[Group]) -> Markup:
    charts = []
    percent = Axis("%", "%", limits=PERCENT)
    splits = {split for g in groups for run in g.runs for split in run.recording.evaluations}
    for split in sorted(splits, reverse=True):
        name = f"{split.capitalize()} accuracy"
        steps = [_accuracy_line(group, place, split) for place, group in enumerate(groups, 1)]
        if not any(len(line.points) > 1 for line in steps):
            continue
        charts.append(
            line_chart(f"{name} over steps", "of the last block", steps, x=Axis("step"), y=percent)
        )
        runs = [run for group in groups for run in group.runs]
        unit = span_unit(max((_elapsed(run, split) for run in runs), default=0.0))
        timed = [
            _accuracy_line(group, place, split, seconds=unit.size)
            for place, group in enumerate(groups, 1)
        ]
        note = "of the last block; evaluations and checkpoints take time too"
        x = Axis(f"training time ({unit.name})")
        charts.append(line_chart(f"{name} over time", note, timed, x=x, y=percent))
    losses = [_loss_line(group, place) for place, group in enumerate(groups, 1)]
    note = "of the last block, on training batches; means over neighbouring records"
    charts.append(line_chart("Training loss", note, losses, x=Axis("step"), y=Axis("loss")))
    shown = [chart for chart in charts if chart]
    return element("div", *shown, class_="charts") if shown else NOTHING


def _accuracy_line(group: Group, place: int, split: str, *, seconds: float | None = None) -> Line:
    """Return the accuracy of the last block, over steps or over units of so many seconds."""
    accuracies, times = [], []
    for run in group.runs:
        series = run.recording.evaluations.get(split)
        names = [name for name in series.names if name.startswith("accuracy/")] if series else []
        if series is None or not names:
            continue
        accuracies.append([(x, 100 * y) for x, y in series.means(names[-1])])
        times.append(series.means("elapsed"))
    curve = mean_curve(accuracies)
    if seconds is not None:
        elapsed = dict(mean_curve(times))
        curve = [(elapsed[x].mean / seconds, y) for x, y in curve if x in elapsed]
    return _line(group, place, curve)


def _elapsed(run: History, split: str) -> float:
    series = run.recording.evaluations.get(split)
    return (series.last("elapsed") if series else None) or 0.0


def _loss_line(group: Group, place: int) -> Line:
    curves: list[list[Point]] = []
    for run in group.runs:
        stages = run.recording.stages
        if stages:
            curves.append(stages[max(stages)].means("loss", groups=MEANS))
    return _line(group, place, mean_curve(curves))


def _line(group: Group, place: int, curve: Sequence[tuple[float, Estimate]]) -> Line:
    points = [(x, estimate.mean) for x, estimate in curve]
    errors = [estimate.error for _, estimate in curve]
    band = None
    if curve and all(error is not None for error in errors):
        low = [(x, e.mean - (e.error or 0.0)) for x, e in curve]
        high = [(x, e.mean + (e.error or 0.0)) for x, e in curve]
        band = (low, high)
    count = f" (n={len(group.runs)})" if len(group.runs) > 1 else ""
    return Line(f"{group.name}{count}", colour(place), points, band=band)


def _difference_table(groups: Sequence[Group]) -> Markup:
    """Return the keys of the configurations that are not the same in all groups."""
    found = differences([group.runs for group in groups])
    cuts = [_cuts(group) for group in groups]
    rows: list[list[object]] = [[key, *values] for key, values in found.items()]
    if len(set(cuts)) > 1:
        rows.append(["cuts (decoupling.json)", *cuts])
    if not rows:
        return NOTHING
    return table(["key", *(group.name for group in groups)], rows, words=range(len(groups) + 1))


def _cuts(group: Group) -> str:
    """Return the cuts of a group; a measured balance may differ between its runs."""
    found = dict.fromkeys(str(run.decoupling.get("cuts", DASH)) for run in group.runs)
    return " or ".join(found)


def _run_table(histories: Sequence[History]) -> Markup:
    """Return every run for itself."""
    figures = _figures(histories)
    heads = ["run", "seed", "status", *(figure.name for figure in figures)]
    rows = []
    for history in histories:
        values = [(figure, figure.read(history)) for figure in figures]
        told = [DASH if value is None else figure.show(value) for figure, value in values]
        rows.append(
            [history.folder.name, history.setting("seed") or DASH, history.status.kind, *told]
        )
    return table(heads, rows, words=(0, 2))
