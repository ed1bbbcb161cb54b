"""What accuracy costs in speed: the Pareto front of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .chart import Frame, x_axis, y_axis
from .markup import Markup, element, join
from .picture import Picture
from .scale import Scale, fit
from .spacing import spread

__all__ = ["Spot", "tradeoff_picture"]

FRAME = Frame(560, 250, 54, 128, 24, 38)
GAP = 14.0
MANY = 25
"""More points than these are drawn smaller."""
NOTE = "Predicted from measured times; no other cuts have more of both."


@dataclass(frozen=True)
class Spot:
    """A choice.

    Attributes:
        alpha: Sum of softmaxed alpha_1 over its cuts.
        speedup: Predicted, over backpropagation on one device.
        told: What is shown when the pointer rests on it.
    """

    alpha: float
    speedup: float
    told: str


def tradeoff_picture(
    spots: Sequence[Spot], *, names: Mapping[int, str] | None = None, chosen: int | None = None
) -> Picture | None:
    """Return the front as points; None without any.

    Args:
        spots: The front.
        names: Of some of them, by their place from 0.
        chosen: Place of the one that was taken.
    """
    if not spots:
        return None
    names = names or {}
    across = fit((spot.speedup for spot in spots), count=5)
    up = fit((spot.alpha for spot in spots), count=5)
    at = [(FRAME.x(spot.speedup, across), FRAME.y(spot.alpha, up)) for spot in spots]
    radius = 4.0 if len(spots) <= MANY else 3.0
    body = [
        y_axis(FRAME, up, "sum of softmaxed alpha\u2081 over the cuts"),
        x_axis(FRAME, across, "predicted speedup", bottom=FRAME.height - FRAME.bottom),
        _stairs(at),
        *(
            _point(x, y, spot, named=place in names, chosen=place == chosen, radius=radius)
            for place, ((x, y), spot) in enumerate(zip(at, spots, strict=True))
        ),
        _labels(at, names, chosen, up),
    ]
    words = f"{len(spots)} choices between a large alpha and a large speedup"
    return Picture("Accuracy against speed", NOTE, FRAME.width, FRAME.height, join(body), words)


def _stairs(at: Sequence[tuple[float, float]]) -> Markup:
    """Return the edge of what is possible: from one choice to the next nothing is on the way."""
    (x, y), *rest = at
    words = [f"M{x:.1f} {y:.1f}"]
    for x, y in rest:
        words.append(f"V{y:.1f}H{x:.1f}")
    return element("path", d="".join(words), class_="stair")


def _point(x: float, y: float, spot: Spot, *, named: bool, chosen: bool, radius: float) -> Markup:
    kind = "point chosen" if chosen else "point named" if named else "point"
    told = element("title", spot.told)
    dot = element("circle", told, cx=f"{x:.1f}", cy=f"{y:.1f}", r=radius, class_=kind)
    ring = element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=8, class_="ring") if chosen else None
    return join([part for part in (dot, ring) if part])


def _labels(
    at: Sequence[tuple[float, float]], names: Mapping[int, str], chosen: int | None, up: Scale
) -> Markup:
    """Return the names to the right of their points, where a front that falls leaves room."""
    told = set(names) if chosen is None else {*names, chosen}
    places = sorted(told)
    wanted = [at[place][1] - 8 for place in places]
    found = spread(wanted, gap=GAP, low=FRAME.top + 5, high=FRAME.height - FRAME.bottom - 4)
    parts = []
    for place, y in zip(places, found, strict=True):
        words = [names[place]] if place in names else []
        words += ["chosen"] if place == chosen else []
        x = at[place][0] + 11
        parts.append(
            element(
                "text",
                ", ".join(words),
                x=f"{x:.1f}",
                y=f"{y:.1f}",
                class_="strong halo" if place == chosen else "name halo",
            )
        )
    return join(parts)  # fmt: skip
