"""How a search made up its mind: softmaxed alpha_1 of every layer over the outer steps."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from .chart import Frame, x_axis, y_axis
from .layers import in_words
from .markup import Markup, element, join
from .picture import WIDTH, Picture
from .ramp import ramp
from .scale import Scale, fit
from .spacing import spread

__all__ = ["courses_picture", "thinned"]

POINTS = 160
"""At most so many points in a line: of 50 layers they make no heavy page."""

FRAME = Frame(WIDTH, 430, 54, 150, 32, 40)
GAP = 12.0
"""Between labels, in pixels."""
MOST = 20
"""Characters in a label."""

NOTE = (
    "One line per layer, the cuts thick; beside its end each cut's number, and in grey the other "
    "layers that end there."
)
PLAIN = "One line per layer; beside its end its number, or those of all that end there."

Rows = Sequence[tuple[float, Sequence[float]]]
T = TypeVar("T")


def courses_picture(rows: Rows, cuts: Sequence[int] = ()) -> Picture | None:
    """Return a line for each layer; None without rows.

    Args:
        rows: Step, and softmaxed alpha_1 of each layer but the last; steps ascending.
        cuts: The layers after which the network is cut, from 1.
    """
    rows = thinned(rows, POINTS)
    if not rows or not rows[-1][1]:
        return None
    across = fit((step for step, _ in rows), count=10, tight=True)
    up = fit((value for _, values in rows for value in values), limits=(0.0, 1.0))
    count = len(rows[-1][1])
    order = [layer for layer in range(1, count + 1) if layer not in cuts] + list(cuts)
    body = [
        y_axis(FRAME, up, "softmaxed alpha\u2081"),
        x_axis(FRAME, across, "outer step", bottom=FRAME.height - FRAME.bottom),
        *(_line(rows, layer, count, across, up, layer in cuts) for layer in order),
        _labels(rows[-1][1], cuts, up),
        _legend(count),
    ]
    words = f"softmaxed alpha_1 of {count} layers over {len(rows)} outer steps"
    return Picture(
        "How the search decided", NOTE if cuts else PLAIN, WIDTH, FRAME.height, join(body), words
    )


def thinned(rows: Sequence[T], most: int) -> list[T]:
    """Return at most so many rows, evenly chosen, with the first and the last.

    The outer optimizer changes alpha little by little, so nothing happens between two of them.
    """
    if len(rows) <= most:
        return list(rows)
    return [rows[round(place * (len(rows) - 1) / (most - 1))] for place in range(most)]


def _colour(layer: int, count: int) -> str:
    return ramp((layer - 1) / max(1, count - 1))


def _line(rows: Rows, layer: int, count: int, across: Scale, up: Scale, cut: bool) -> Markup:
    points = [(FRAME.x(x, across), FRAME.y(values[layer - 1], up)) for x, values in rows]
    # A single point gets a line of no length, whose round ends make it a dot.
    path = "M" + " ".join(f"{x:.1f} {y:.1f}" for x, y in points) + ("h0" * (len(points) == 1))
    told = f"layer {layer}: {rows[-1][1][layer - 1]:.4f} at step {rows[-1][0]:g}"
    told += ", cut" if cut else ""
    return element(
        "path", element("title", told), d=path, stroke=_colour(layer, count),
        class_="course cut" if cut else "course",
    )  # fmt: skip


@dataclass(frozen=True)
class _Label:
    """What stands beside the ends of lines.

    Attributes:
        layers: Whose lines end there.
        place: Where they end, in pixels from the top.
        cut: Whether it is one cut.
    """

    layers: tuple[int, ...]
    place: float
    cut: bool

    @property
    def text(self) -> str:
        """The layers in words, as many as there is room for."""
        return in_words(self.layers, most=MOST)


def _labels(values: Sequence[float], cuts: Collection[int], up: Scale) -> Markup:
    """Return the numbers of the layers beside the ends of their lines, with leaders to them."""
    ends = {layer: FRAME.y(value, up) for layer, value in enumerate(values, start=1)}
    low, high = FRAME.top, FRAME.height - FRAME.bottom
    room = int((high - low) / GAP) + 1
    single = [_Label((cut,), ends[cut], True) for cut in cuts][:room]
    groups = _groups({layer: end for layer, end in ends.items() if layer not in cuts})
    # The largest groups first: a label for one of many lines is missed least.
    groups = sorted(groups, key=lambda group: -len(group.layers))[: room - len(single)]
    labels = single + groups
    places = spread([label.place for label in labels], gap=GAP, low=low, high=high)
    return join(
        _label(label, place, len(values)) for label, place in zip(labels, places, strict=True)
    )


def _label(label: _Label, place: float, count: int) -> Markup:
    x = FRAME.width - FRAME.right
    leader = f"M{x + 3:g} {label.place:.1f}L{x + 16:g} {place:.1f}"
    text = f"{label.layers[0]}, cut" if label.cut else label.text
    whole = f"layers {in_words(label.layers)}"
    colour = _colour(label.layers[len(label.layers) // 2], count)
    return join(
        [
            element("path", d=leader, class_="leader"),
            element("circle", cx=x + 22, cy=f"{place:.1f}", r=3, fill=colour),
            element(
                "text", element("title", whole), text, x=x + 29, y=f"{place + 4:.1f}",
                class_="strong" if label.cut else None,
            ),
        ]
    )  # fmt: skip


def _groups(ends: dict[int, float]) -> list[_Label]:
    """Put layers whose lines end within a label's height together."""
    found: list[list[int]] = []
    for layer in sorted(ends, key=lambda layer: ends[layer]):
        if found and ends[layer] - ends[found[-1][0]] < GAP:
            found[-1].append(layer)
        else:
            found.append([layer])
    return [
        _Label(tuple(sorted(group)), sum(ends[layer] for layer in group) / len(group), False)
        for group in found
    ]


def _legend(count: int) -> Markup:
    """Return the scale of colours at the top right."""
    width, parts = 120.0, min(count, 40)
    last = f"{count}"
    left = FRAME.width - FRAME.right - width - 7 * len(last) - 6
    step = width / parts
    cells = [
        element(
            "rect", x=f"{left + place * step:.2f}", y=2, width=f"{step + 0.3:.2f}", height=10,
            fill=ramp(place / max(1, parts - 1)),
        )
        for place in range(parts)
    ]  # fmt: skip
    first = element("text", "layer 1", x=f"{left - 7:g}", y=11, class_="end")
    return join([first, *cells, element("text", last, x=f"{left + width + 6:g}", y=11)])
