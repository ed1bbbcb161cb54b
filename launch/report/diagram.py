"""The pipeline as a picture: the data, the stages, and the links between them.

data ==link==> [stage 1] ==link==> [stage 2] ==link==> ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .markup import Markup, element, join
from .palette import colour
from .scale import percent_text
from .spans import KINDS, STEP_KINDS

__all__ = ["Box", "diagram"]

PER_ROW = 4
WIDTH = 1160
DATA = 104
LINK = 70
WIDEST = 260
HEIGHT = 152
ROW_GAP = 38
TOP = 6
CHARACTER = 6.6
"""About the width of a character in pixels."""

WORDS = {"busy": "busy", "replay": "again", "wait_in": "in", "wait_out": "out"}


@dataclass(frozen=True)
class Box:
    """A stage, or the data before the first one.

    Attributes:
        title: E.g. ``stage 2``.
        lines: What else is known, one line each.
        shares: Of its time: computing, learning again, waiting for input, for room; or nothing.
        link: What is known of the link into it: above and below the arrow.
    """

    title: str
    lines: Sequence[str]
    shares: Sequence[float] = ()
    link: tuple[str, str] = ("", "")


def diagram(data: Box, stages: Sequence[Box]) -> Markup:
    """Return the picture, with rows of at most four stages.

    Args:
        data: Where the examples come from.
        stages: In their order.
    """
    rows = -(-len(stages) // PER_ROW) or 1
    per_row = -(-len(stages) // rows)
    width = min(WIDEST, (WIDTH - 16 - DATA - per_row * LINK) // max(1, per_row))
    parts = [_data(data)]
    for index, stage in enumerate(stages):
        row, column = divmod(index, per_row)
        x = 2 + DATA + LINK + column * (width + LINK)
        y = TOP + row * (HEIGHT + ROW_GAP)
        parts.append(_turn(x, y, per_row, width) if row and not column else _link(x, y))
        parts.append(_link_text(stage, x, y))
        parts.append(_stage(stage, index + 1, x, y, width))
    used = 2 + DATA + per_row * (LINK + width) + (14 if rows > 1 else 2)
    height = 2 * TOP + rows * HEIGHT + (rows - 1) * ROW_GAP
    return element(
        "svg",
        *parts,
        class_="plot diagram",
        viewBox=f"0 0 {used} {height}",
        width=used,
        style=f"--natural:{used}px",
        role="img",
        aria_label=f"the pipeline: {data.title}, {', '.join(stage.title for stage in stages)}",
    )


def _data(data: Box) -> Markup:
    middle = TOP + HEIGHT / 2
    height = 26 + 18 * len(data.lines)
    top = middle - height / 2
    return join(
        [
            element("rect", x=2, y=top, width=DATA, height=height, rx=6, class_="box data"),
            _text(data.title, 2 + DATA / 2, top + 20, DATA, class_="title middle"),
            *(
                _text(line, 2 + DATA / 2, top + 38 + 18 * place, DATA, class_="middle")
                for place, line in enumerate(data.lines)
            ),
        ]
    )


def _stage(stage: Box, index: int, x: float, y: float, width: float) -> Markup:
    inner = width - 26
    parts = [
        element("rect", x=x, y=y, width=width, height=HEIGHT, rx=6, class_="box"),
        element("rect", x=x, y=y + 10, width=5, height=HEIGHT - 20, rx=2.5,
                class_=f"fill {colour(index)}"),
        _text(stage.title, x + 16, y + 23, inner, class_="title"),
        *(
            _text(line, x + 16, y + 43 + 18 * place, inner)
            for place, line in enumerate(stage.lines)
        ),
    ]  # fmt: skip
    left = x + 16.0
    shares = [
        one for one in zip(KINDS, stage.shares, strict=False) if one[1] or one[0] in STEP_KINDS
    ]
    for kind, share in shares:
        told = element("title", f"{kind} {percent_text(share, digits=0)}")
        part = {"x": f"{left:.1f}", "y": y + HEIGHT - 38, "width": f"{share * inner:.1f}"}
        parts.append(element("rect", told, height=9, class_=f"fill k-{kind}", **part))
        left += share * inner
    if stage.shares:
        text = " \u00b7 ".join(
            f"{WORDS[kind]} {percent_text(share, digits=0)}" for kind, share in shares
        )
        parts.append(_text(text, x + 16, y + HEIGHT - 12, inner, class_="small"))
    return join(parts)


def _link(x: float, y: float) -> Markup:
    """Return the arrow that ends at the left of a box."""
    return _arrow(f"M{x - LINK + 5} {y + HEIGHT / 2}H{x - 9}", x, y)


def _turn(x: float, y: float, per_row: int, width: float) -> Markup:
    """Return the arrow from the end of the row before to the first box of this one."""
    end = 2 + DATA + per_row * (LINK + width)
    between = y - ROW_GAP / 2
    begin = f"M{end + 3} {y - ROW_GAP - HEIGHT / 2}H{end + 10}V{between}H{x - LINK + 5}"
    return _arrow(f"{begin}V{y + HEIGHT / 2}H{x - 9}", x, y)


def _arrow(path: str, x: float, y: float) -> Markup:
    middle = y + HEIGHT / 2
    head = f"M{x - 13} {middle - 6}L{x - 4} {middle}L{x - 13} {middle + 6}"
    return join(
        [
            element("path", d=path, class_="link"),
            element("path", d=path, class_="link inner"),
            element("path", d=head, class_="link head"),
        ]
    )


def _link_text(stage: Box, x: float, y: float) -> Markup:
    middle = x - LINK / 2 - 2
    above, below = stage.link
    return join(
        [
            _text(above, middle, y + HEIGHT / 2 - 10, LINK, class_="small middle"),
            _text(below, middle, y + HEIGHT / 2 + 20, LINK, class_="small middle"),
        ]
    )


def _text(text: str, x: float, y: float, room: float, *, class_: str | None = None) -> Markup:
    """Return a text that fits into so many pixels; what does not is in its title."""
    size = 6.0 if class_ and "small" in class_ else CHARACTER
    most = max(3, int(room / size))
    whole = element("title", text) if len(text) > most else None
    shown = text if whole is None else f"{text[: most - 1]}\u2026"
    return element("text", shown, whole, x=f"{x:g}", y=f"{y:g}", class_=class_)
