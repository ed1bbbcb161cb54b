"""Line charts as SVG.

Lines are drawn in the units of their data and moved to their place by a transformation, so the
script of the page can read exact values under the pointer, and nothing is written twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .markup import NOTHING, Markup, element, join
from .scale import Scale, fit
from .series import Point

__all__ = [
    "Axis",
    "Frame",
    "Line",
    "digits",
    "figure",
    "legend",
    "line_chart",
    "polyline",
    "x_axis",
    "y_axis",
]

DOTS = 30
"""Lines of at most so many points show them."""


@dataclass(frozen=True)
class Line:
    """A line in a chart.

    Attributes:
        name: In the legend; the same name in several charts is the same thing.
        look: Classes of colour and dash, see ``palette``.
        points: The line, x ascending.
        faint: Drawn behind it: the single values whose means the line is.
        band: Around it: below and above.
    """

    name: str
    look: str
    points: Sequence[Point]
    faint: Sequence[Point] = ()
    band: tuple[Sequence[Point], Sequence[Point]] | None = None

    @property
    def everything(self) -> Iterable[Point]:
        """All points that must be inside the chart."""
        edges = self.band or ((), ())
        return (*self.points, *self.faint, *edges[0], *edges[1])


@dataclass(frozen=True)
class Axis:
    """What an axis shows.

    Attributes:
        label: With its unit, e.g. ``images/s``.
        unit: Behind a value in the read-out.
        zero: Whether the axis begins at 0.
        limits: What it never exceeds.
    """

    label: str
    unit: str = ""
    zero: bool = False
    limits: tuple[float, float] = (-math.inf, math.inf)


@dataclass(frozen=True)
class Frame:
    """Where the data lie in a picture, in pixels.

    Attributes:
        width: Of the picture.
        height: Of the picture.
        left: Margin for the tick labels.
        right: Margin.
        top: Margin for the label of the y axis.
        bottom: Margin for the ticks and the label of the x axis.
    """

    width: float = 560
    height: float = 250
    left: float = 54
    right: float = 22
    top: float = 24
    bottom: float = 38

    def transform(self, x: Scale, y: Scale) -> str:
        """Return the SVG transformation from data to pixels."""
        a = (self.width - self.left - self.right) / (x.high - x.low)
        d = -(self.height - self.top - self.bottom) / (y.high - y.low)
        e, f = self.left - a * x.low, self.height - self.bottom - d * y.low
        return f"matrix({a:.9g} 0 0 {d:.9g} {e:.9g} {f:.9g})"

    def x(self, value: float, scale: Scale) -> float:
        """Return where a value lies, from the left."""
        share = (value - scale.low) / (scale.high - scale.low)
        return self.left + share * (self.width - self.left - self.right)

    def y(self, value: float, scale: Scale) -> float:
        """Return where a value lies, from the top."""
        share = (value - scale.low) / (scale.high - scale.low)
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)


def line_chart(title: str, note: str, lines: Sequence[Line], *, x: Axis, y: Axis) -> Markup:
    """Return a figure with lines and, if they are several, a legend; nothing without points.

    Args:
        title: What it shows.
        note: One line on how to read it.
        lines: The lines, in the order of the legend.
        x: The horizontal axis.
        y: The vertical axis.
    """
    shown = [line for line in lines if line.points]
    if not shown:
        return NOTHING
    across = fit((px for line in shown for px, _ in line.everything), count=6, tight=True)
    up = fit((py for line in shown for _, py in line.everything), zero=y.zero, limits=y.limits)
    frame = Frame()
    picture = element(
        "svg",
        y_axis(frame, up, y.label),
        x_axis(frame, across, x.label, bottom=frame.height - frame.bottom),
        element(
            "g",
            *(_band(line) for line in shown if line.band),
            *(_path(line.name, f"faint {line.look}", line.faint) for line in shown if line.faint),
            *(_drawn(line) for line in shown),
            class_="data",
            data_span=f"{up.low:.9g} {up.high:.9g}",
            transform=frame.transform(across, up),
        ),
        class_="plot",
        viewBox=f"0 0 {frame.width:g} {frame.height:g}",
        role="img",
        aria_label=f"{title}: {', '.join(line.name for line in shown)}",
        data_x=x.label,
        data_unit=y.unit,
    )
    keys = legend([(line.name, line.look) for line in shown]) if len(shown) > 1 else NOTHING
    return figure(title, note, keys, picture)


def figure(
    title: object, note: object, keys: Markup, picture: Markup, *, class_: str = "chart"
) -> Markup:
    """Return a picture with its title, a line on how to read it, and its legend."""
    caption = element(
        "figcaption",
        element("h3", title),
        element("p", note) if note else None,
        keys,
    )
    return element("figure", caption, element("div", picture, class_="picture"), class_=class_)


def legend(entries: Iterable[tuple[str, str]], *, swatch: bool = False) -> Markup:
    """Return a legend.

    Args:
        entries: Name and classes of each.
        swatch: Whether it explains areas; else lines.
    """
    keys = []
    for name, look in entries:
        shape = (
            element("rect", x=0, y=1, width=12, height=10, rx=2, class_=f"fill {look}")
            if swatch
            else element("path", d="M1 6H23", class_=f"line {look}")
        )
        sample = element(
            "svg", shape, viewBox=f"0 0 {12 if swatch else 24} 12", width=12 if swatch else 24,
            height=12, aria_hidden="true",
        )  # fmt: skip
        name_ = None if swatch else name
        keys.append(element("span", sample, name, class_="key", data_series=name_))
    return element("div", *keys, class_="legend")


def x_axis(frame: Frame, scale: Scale, label: str, *, bottom: float) -> Markup:
    """Return the ticks below a figure and its label under them; 34 pixels high.

    Args:
        frame: Of the figure.
        scale: The horizontal axis.
        label: With its unit.
        bottom: Where the data end.
    """
    columns = [frame.x(tick, scale) for tick in scale.ticks]
    middle = (frame.left + frame.width - frame.right) / 2
    return element(
        "g",
        element("path", d="".join(f"M{x:.1f} {bottom:g}v4" for x in columns), class_="base"),
        *(
            element("text", text, x=f"{x:.1f}", y=f"{bottom + 16:g}", class_="middle")
            for x, text in zip(columns, scale.texts(), strict=True)
        ),
        element("text", label, x=f"{middle:g}", y=f"{bottom + 33:g}", class_="axis middle"),
        class_="grid",
    )


def y_axis(frame: Frame, up: Scale, label: str) -> Markup:
    """Return the horizontal grid lines, the base line, and the numbers and label of the y axis.

    Args:
        frame: Of the figure.
        up: The vertical axis.
        label: With its unit.
    """
    right, bottom = frame.width - frame.right, frame.height - frame.bottom
    rows = [frame.y(tick, up) for tick in up.ticks]
    return element(
        "g",
        element("path", d="".join(f"M{frame.left:g} {y:.1f}H{right:g}" for y in rows)),
        element("path", d=f"M{frame.left:g} {bottom:g}H{right:g}", class_="base"),
        *(
            element("text", text, x=f"{frame.left - 7:g}", y=f"{y + 3.5:.1f}", class_="end")
            for y, text in zip(rows, up.texts(), strict=True)
        ),
        element("text", label, x=4, y=11, class_="axis"),
        class_="grid",
    )


def polyline(points: Iterable[Point], *, move: str = "M") -> str:
    """Return the commands of an SVG path through the points."""
    return move + " ".join(f"{digits(x)} {digits(y)}" for x, y in points)


def digits(value: float) -> str:
    """Return a number for an SVG path: whole ones whole, others with five digits."""
    if value == int(value) and abs(value) < 1e9:
        return str(int(value))
    return f"{value:.5g}" if abs(value) < 1e5 else f"{value:.8g}"


def _drawn(line: Line) -> Markup:
    """Return a line; its points as dots where they are few and no means."""
    dots = NOTHING
    if len(line.points) <= DOTS and not line.faint:
        # A stroke of no length with round ends: a dot that the transformation does not stretch.
        marks = "".join(f"M{digits(x)} {digits(y)}h0" for x, y in line.points)
        dots = _raw(line.name, f"dots {line.look}", marks)
    return join([_path(line.name, f"line read {line.look}", line.points), dots])


def _band(line: Line) -> Markup:
    assert line.band is not None
    low, high = line.band
    outline = f"{polyline(low)}{polyline(reversed(high), move='L')}Z" if low else ""
    return _raw(line.name, f"band {line.look}", outline)


def _path(name: str, classes: str, points: Sequence[Point]) -> Markup:
    return _raw(name, classes, polyline(points))


def _raw(name: str, classes: str, commands: str) -> Markup:
    return element("path", class_=classes, data_series=name, d=commands)
