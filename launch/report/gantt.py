"""The timeline in detail: who computed which step when, and who waited."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .chart import Frame, figure, x_axis
from .markup import Markup, element, join
from .palette import colour
from .scale import fit, seconds_text, span_unit
from .spans import Span, Trace, Window
from .strips import KIND_NAMES, LEFT, WIDTH, kind_legend, row_head

__all__ = ["gantt"]

RIGHT = 22.0
ROW = 28.0
GAP = 8.0
AXIS = 38.0
MARK = 8.0
"""Height of an evaluation or a checkpoint: the steps' spans stay visible behind it."""

THINNEST = 0.25
"""Pixels; shorter spans are not drawn."""

DIGIT = 6.5
"""Width of a digit in pixels."""


def gantt(trace: Trace, window: Window) -> Markup:
    """Return a wide figure: a row per stage, and its spans in the window.

    Args:
        trace: The spans.
        window: The part to show.
    """
    unit = span_unit(window.end)
    scale = fit((window.begin / unit.size, window.end / unit.size), count=10, tight=True)
    height = 4 + len(trace.stages) * (ROW + GAP) - GAP + AXIS
    frame = Frame(WIDTH, height, LEFT, RIGHT, 0, 0)

    def place(seconds: float) -> float:
        return frame.x(min(max(seconds / unit.size, scale.low), scale.high), scale)

    rows = [
        _row(stage, trace.stages[stage], window, top=4 + index * (ROW + GAP), place=place)
        for index, stage in enumerate(trace.stages)
    ]
    picture = element(
        "svg",
        *rows,
        x_axis(frame, scale, f"time since the run began ({unit.name})", bottom=height - AXIS),
        class_="plot gantt",
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        role="img",
        aria_label=f"{window.title}: what each stage did when",
    )
    return figure(
        window.title,
        "numbers: training steps",
        kind_legend(trace.kinds),
        picture,
        class_="chart wide",
    )


def _row(
    stage: int,
    spans: Sequence[Span],
    window: Window,
    *,
    top: float,
    place: Callable[[float], float],
) -> Markup:
    seen = [span for span in spans if span.end > window.begin and span.begin < window.end]
    # Marks last: an evaluation lies over the time the stage waited in it.
    seen.sort(key=lambda span: span.kind in ("evaluate", "checkpoint"))
    name = f"stage {stage}"
    shapes = (_span(stage, span, top=top, place=place) for span in seen)
    head = row_head(name, colour(stage), top, ROW, WIDTH - RIGHT)
    return join([*head, element("g", *shapes, data_series=name)])


def _span(stage: int, span: Span, *, top: float, place: Callable[[float], float]) -> Markup | None:
    left, right = place(span.begin), place(span.end)
    if right - left < THINNEST:
        return None
    mark = span.kind in ("evaluate", "checkpoint")
    steps = f"{span.first}" if not span.added_up else f"{span.first}\u2013{span.last}"
    told = f"stage {stage}, step {steps}: {KIND_NAMES[span.kind]} {seconds_text(span.seconds)}"
    # A hair of the background between two steps that follow each other without a wait.
    hair = 0.6 if span.kind == "busy" and right - left > 3 else 0.0
    shape = element(
        "rect",
        element("title", told),
        x=f"{left:.2f}",
        y=f"{top + ROW - MARK if mark else top:g}",
        width=f"{right - left - hair:.2f}",
        height=f"{MARK if mark else ROW:g}",
        class_=f"fill k-{span.kind}",
    )
    if span.kind != "busy" or right - left < DIGIT * len(steps) + 3:
        return shape
    number = element(
        "text",
        steps,
        x=f"{(left + right - hair) / 2:.1f}",
        y=f"{top + ROW / 2 + 4:g}",
        class_="inside middle",
    )
    return join([shape, number])
