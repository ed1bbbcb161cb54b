"""One figure of every run as a dot, a row per group, with mean and standard error."""

from __future__ import annotations

from collections.abc import Sequence

from .chart import Frame, figure, x_axis
from .groups import Estimate, Group
from .markup import NOTHING, Markup, element, join
from .palette import colour
from .scale import fit

__all__ = ["dot_plot"]

ROW = 26.0
NAME = 190.0
CHARACTER = 7.0


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
    estimates = [Estimate.of(row) for row in values]
    ends = [e.mean + sign * (e.error or 0) for e in estimates if e for sign in (-1, 1)]
    scale = fit([*ends, *(value for row in values for value in row)], zero=zero)
    height = len(groups) * ROW + 40
    frame = Frame(560, height, NAME, 22, 4, 36)
    bottom = 4 + len(groups) * ROW
    lines = "".join(f"M{frame.x(tick, scale):.1f} 4V{bottom:g}" for tick in scale.ticks)
    rows = [
        _row(group, index, values[index - 1], estimates[index - 1],
             y=4 + (index - 0.5) * ROW, place=lambda value: frame.x(value, scale))
        for index, group in enumerate(groups, start=1)
    ]  # fmt: skip
    picture = element(
        "svg",
        element("g", element("path", d=lines), class_="grid"),
        x_axis(frame, scale, unit, bottom=bottom),
        *rows,
        class_="plot dots-plot",
        viewBox=f"0 0 560 {height:g}",
        role="img",
        aria_label=f"{title}: {', '.join(group.name for group in groups)}",
    )
    several = any(len(row) > 1 for row in values)
    note = "small: single runs; large: mean, with one standard error to either side"
    return figure(title, note if several else "", NOTHING, picture)


def _row(group: Group, index: int, values: Sequence[float], estimate: Estimate | None, *, y, place):
    look = colour(index)
    most = int((NAME - 14) / CHARACTER)
    short = group.name if len(group.name) <= most else f"{group.name[: most - 1]}\u2026"
    parts = [
        element(
            "text", short, element("title", group.name), x=NAME - 10, y=y + 4, class_="end name"
        )
    ]
    if estimate is None:
        return join([*parts, element("text", "\u2013", x=NAME + 4, y=y + 4)])
    if len(values) > 1:
        parts += [
            element("circle", cx=f"{place(value):.1f}", cy=y, r=2.5, class_=f"fill faint {look}")
            for value in values
        ]
    if estimate.error is not None:
        low, high = place(estimate.mean - estimate.error), place(estimate.mean + estimate.error)
        whisker = f"M{low:.1f} {y}H{high:.1f}M{low:.1f} {y - 4}v8M{high:.1f} {y - 4}v8"
        parts.append(element("path", d=whisker, class_=f"line thin {look.split()[0]}"))
    parts.append(
        element("circle", cx=f"{place(estimate.mean):.1f}", cy=y, r=5, class_=f"fill {look}")
    )
    return element("g", *parts, data_series=group.name)
