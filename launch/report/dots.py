"""One figure of every run as a dot, a row per group, with mean and standard error."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .chart import Frame, figure, x_axis
from .groups import Estimate, Group
from .markup import NOTHING, Markup, element, join
from .palette import colour
from .scale import DASH, fit

__all__ = ["dot_plot"]

ROW = 26.0
TOP = 4.0
NAME = 190.0
CHARACTER = 7.0
"""About the width of a letter in pixels; longer names are cut."""

NOTE = "small: single runs; large: mean, with one standard error to either side"


def dot_plot(
    title: str,
    unit: str,
    name: str,
    groups: Sequence[Group],
    *,
    factor: float = 1.0,
    zero: bool = False,
) -> Markup:
    """Return a figure, or nothing if no run has the figure.

    Args:
        title: What it shows.
        unit: Of the axis.
        name: Of the figure in the summaries.
        groups: A row each.
        factor: From the figure to the unit.
        zero: Whether the axis begins at 0.
    """
    values = [[factor * v for run in g.runs if (v := run.figure(name)) is not None] for g in groups]
    if not any(values):
        return NOTHING
    scale = fit([end for row in values for end in (*row, *_ends(row))], zero=zero)
    bottom = TOP + len(groups) * ROW
    frame = Frame(560, bottom + 36, NAME, 22, TOP, 36)
    lines = "".join(f"M{frame.x(tick, scale):.1f} {TOP:g}V{bottom:g}" for tick in scale.ticks)
    picture = element(
        "svg",
        element("g", element("path", d=lines), class_="grid"),
        x_axis(frame, scale, unit, bottom=bottom),
        *(
            _row(group, index, row, lambda value: frame.x(value, scale))
            for index, (group, row) in enumerate(zip(groups, values, strict=True), start=1)
        ),
        class_="plot",
        viewBox=f"0 0 {frame.width:g} {frame.height:g}",
        role="img",
        aria_label=f"{title}: {', '.join(group.name for group in groups)}",
    )
    several = any(len(row) > 1 for row in values)
    return figure(title, NOTE if several else "", NOTHING, picture)


def _ends(values: Sequence[float]) -> tuple[float, ...]:
    """Return where the standard error ends, if there is one."""
    estimate = Estimate.of(values)
    if estimate is None or estimate.error is None:
        return ()
    return estimate.mean - estimate.error, estimate.mean + estimate.error


def _row(
    group: Group, index: int, values: Sequence[float], place: Callable[[float], float]
) -> Markup:
    """Return the name of a group, its runs, and their mean."""
    look, y = colour(index), TOP + (index - 0.5) * ROW
    most = int((NAME - 14) / CHARACTER)
    short = group.name if len(group.name) <= most else f"{group.name[: most - 1]}\u2026"
    whole = element("title", group.name)
    name = element("text", whole, short, x=NAME - 10, y=y + 4, class_="end name")
    estimate = Estimate.of(values)
    if estimate is None:
        return join([name, element("text", DASH, x=NAME + 4, y=y + 4)])
    parts = [
        element("circle", cx=f"{place(value):.1f}", cy=y, r=2.5, class_=f"fill faint {look}")
        for value in values
    ]
    ends = [f"{place(end):.1f}" for end in _ends(values)]
    if ends:
        left, right = ends
        whisker = f"M{left} {y}H{right}M{left} {y - 4}v8M{right} {y - 4}v8"
        parts.append(element("path", d=whisker, class_=f"line thin {look.split()[0]}"))
    middle = f"{place(estimate.mean):.1f}"
    parts.append(element("circle", cx=middle, cy=y, r=5, class_=f"fill {look}"))
    return element("g", name, *parts, data_series=group.name)
