"""One strip per stage: the shares of its time, over steps or over the whole run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .chart import Frame, digits, figure, legend, x_axis
from .markup import NOTHING, Markup, element, join
from .scale import Scale, fit, percent_text

__all__ = ["KIND_NAMES", "LEFT", "WIDTH", "Strip", "kind_legend", "row_head", "strip_figure"]

KIND_NAMES = {
    "busy": "busy",
    "replay": "learns again",
    "wait_in": "waits for input",
    "wait_out": "waits for room",
    "evaluate": "evaluates",
    "checkpoint": "writes a checkpoint",
}
"""What a reader is told; the keys are those of the records."""

ROW = 40.0
GAP = 12.0
WIDTH = 1160.0
LEFT = 74.0
RIGHT = 236.0
AXIS = 38.0


@dataclass(frozen=True)
class Strip:
    """The shares of one stage's time.

    Attributes:
        name: E.g. ``stage 2``.
        look: Classes of the stage's colour.
        rows: For each x the shares of the kinds, in their order.
        totals: The shares of computing and waiting over the whole strip, told beside it.
    """

    name: str
    look: str
    rows: Sequence[tuple[float, Sequence[float]]]
    totals: Sequence[float | None]


def strip_figure(
    title: str,
    note: str,
    strips: Sequence[Strip],
    *,
    x_label: str,
    kinds: Sequence[str],
    stepped: bool,
) -> Markup:
    """Return a wide figure with one strip below the other.

    Args:
        title: What it shows.
        note: One line on how to read it.
        strips: In the order of stages.
        x_label: What the horizontal axis shows, with its unit.
        kinds: What the rows have shares of.
        stepped: Whether a row holds until the next one; else rows are joined by lines.
    """
    strips = [strip for strip in strips if len(strip.rows) > 1]
    if not strips:
        return NOTHING
    xs = [x for strip in strips for x, _ in strip.rows]
    across = fit(xs, count=10, tight=True)
    height = 4 + len(strips) * (ROW + GAP) - GAP + AXIS
    picture = element(
        "svg",
        *(
            _strip(strip, across, kinds, top=4 + place * (ROW + GAP), stepped=stepped)
            for place, strip in enumerate(strips)
        ),
        x_axis(Frame(WIDTH, height, LEFT, RIGHT), across, x_label, bottom=height - AXIS),
        class_="plot strips",
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        role="img",
        aria_label=f"{title}: {', '.join(strip.name for strip in strips)}",
        data_x=x_label,
    )
    return figure(title, note, kind_legend(kinds), picture, class_="chart wide")


def kind_legend(kinds: Sequence[str]) -> Markup:
    """Return what the colours of ``kinds`` mean."""
    return legend([(KIND_NAMES[kind], f"k-{kind}") for kind in kinds], swatch=True)


def _strip(
    strip: Strip, across: Scale, kinds: Sequence[str], *, top: float, stepped: bool
) -> Markup:
    frame = Frame(WIDTH, top + ROW, LEFT, RIGHT, top, 0)
    share = Scale(0, 1, (0, 1))
    # The uppermost sum first: the smaller ones are painted over it.
    areas = [
        element(
            "path",
            class_=f"fill k-{kind}",
            data_kind=KIND_NAMES[kind],
            d=_area([(x, sum(values[: place + 1])) for x, values in strip.rows], stepped=stepped),
        )
        for place, kind in reversed(list(enumerate(kinds)))
    ]
    told = [
        f"{word} {percent_text(total, digits=0)}"
        for word, total in zip(("busy", "input", "room"), strip.totals, strict=False)
    ]
    return join(
        [
            *row_head(strip.name, strip.look, top, ROW, WIDTH - RIGHT),
            element(
                "g",
                *areas,
                class_="data",
                data_series=strip.name,
                data_span="0 1",
                transform=frame.transform(across, share),
            ),
            *(
                element("text", text, x=WIDTH - RIGHT + 10 + place * 76, y=top + ROW / 2 + 4)
                for place, text in enumerate(told)
            ),
        ]
    )


def row_head(name: str, look: str, top: float, height: float, end: float) -> list[Markup]:
    """Return what every row of a wide figure begins with: its ground, its colour and its name.

    Args:
        name: E.g. ``stage 2``.
        look: Classes of its colour.
        top: Of the row.
        height: Of the row.
        end: Where the ground ends, from the left of the figure.
    """
    middle = top + height / 2
    mark = {"x": 2, "y": middle - 6, "width": 4, "height": 12, "rx": 2}
    return [
        element("rect", x=LEFT, y=top, width=end - LEFT, height=height, class_="track"),
        element("rect", class_=f"fill {look}", **mark),
        element("text", name, x=12, y=middle + 4, class_="name"),
    ]


def _area(points: Sequence[tuple[float, float]], *, stepped: bool) -> str:
    """Return the area under the points as an SVG path, down to 0."""
    words = [f"M{digits(points[0][0])} 0"]
    previous = None
    for x, y in points:
        if stepped and y != previous:
            words.append(f"H{digits(x)}V{y:.3g}")
        elif not stepped:
            words.append(f"L{digits(x)} {y:.3g}")
        previous = y
    last = digits(points[-1][0])
    words.append(f"H{last}V0Z" if stepped else f"L{last} 0Z")
    return "".join(words)
