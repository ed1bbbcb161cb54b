"""Which head a search prefers after each layer: softmaxed beta."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .layers import Column, columns, layer_axis
from .markup import Markup, element, join
from .picture import WIDTH, Picture, shortened

__all__ = ["mixture_picture"]

ROW = 26.0
TOP, BOTTOM, RIGHT = 40.0, 40.0, 16.0
CHARACTER = 7.2
"""About the width of a letter of a name in pixels."""
LONGEST = 22
FULL = 0.6
"""Opacity of the largest share: numbers in the colour of text can be read on it."""
ROOM = 34.0
"""A column of this width has room for its numbers."""

NOTE = (
    "The share of each head in the mixture that trains the layer. The largest of each layer is "
    "marked: it is the head if the network is cut there."
)


def mixture_picture(
    shares: Sequence[Sequence[float]], heads: Sequence[str], cuts: Collection[int] = ()
) -> Picture | None:
    """Return a heat map of layers and heads; None without layers.

    Args:
        shares: Softmaxed beta: for each layer but the last, one number for each head.
        heads: The names of the heads.
        cuts: The layers after which the network is cut, from 1; framed.
    """
    if not shares or not heads:
        return None
    names = [shortened(head, LONGEST) for head in heads]
    left = max(54.0, max(map(len, names)) * CHARACTER + 16)
    across = columns(len(shares), left, WIDTH - RIGHT)
    largest = max(max(row) for row in shares)
    bottom = TOP + ROW * len(heads)
    body = [
        *(
            element(
                "text", element("title", head), name, x=left - 9, y=TOP + ROW * (place + 0.5) + 4,
                class_="end name",
            )
            for place, (name, head) in enumerate(zip(names, heads, strict=True))
        ),
        *(
            _column(column, row, heads, largest, column.layer in cuts)
            for column, row in zip(across, shares, strict=True)
        ),
        *(_frame(column, bottom) for column in across if column.layer in cuts),
        layer_axis(across, cuts, bottom),
        _legend(largest, bool(cuts)),
    ]  # fmt: skip
    words = f"softmaxed beta of {len(shares)} layers and the heads {', '.join(heads)}"
    return Picture("Which head", NOTE, WIDTH, bottom + BOTTOM, join(body), words)


def _column(
    column: Column, row: Sequence[float], heads: Sequence[str], largest: float, cut: bool
) -> Markup:
    """Return a layer's cells, with numbers or with a mark on the largest."""
    best = max(range(len(row)), key=lambda place: row[place])
    parts = []
    for place, share in enumerate(row):
        top, depth = TOP + ROW * place, share / largest if largest else 0.0
        told = f"layer {column.layer}, {heads[place]}: {share:.4f}"
        told += ", the largest" if place == best else ""
        box = {
            "x": f"{column.left:.2f}",
            "y": f"{top:g}",
            "width": f"{column.pitch:.2f}",
            "height": ROW,
        }
        parts.append(
            element(
                "rect",
                element("title", told),
                class_="cell",
                fill_opacity=f"{FULL * depth:.3f}",
                **box,
            )
        )
        parts.append(element("rect", class_="cell-frame", **box))
        if column.pitch >= ROOM:
            parts.append(_number(column, top, share, place == best))
        elif place == best:
            x, y = f"{column.middle:.1f}", f"{top + ROW / 2:g}"
            parts.append(element("circle", cx=x, cy=y, r=3.2, class_="best-mark"))
    return join(parts)


def _number(column: Column, top: float, share: float, best: bool) -> Markup:
    """Return a cell's number, the largest of its layer in bold."""
    look = "middle figure" + " best" * best
    x, y = f"{column.middle:.1f}", f"{top + ROW / 2 + 4:g}"
    return element("text", f"{share:.2f}", x=x, y=y, class_=look)


def _frame(column: Column, bottom: float) -> Markup:
    """Return the frame around the column of a cut, and an arrow above it."""
    box = f"M{column.left:.2f} {TOP}H{column.left + column.pitch:.2f}V{bottom}H{column.left:.2f}Z"
    arrow = f"M{column.middle - 5:.1f} {TOP - 9}h10l-5 7Z"
    told = element("title", f"cut after layer {column.layer}")
    return join(
        [
            element("path", d=box, class_="column"),
            element("path", told, d=arrow, class_="arrow"),
        ]
    )


def _legend(largest: float, marks: bool) -> Markup:
    """Return the scale of the cells, and the mark of cuts if there are any, at the top right."""
    parts, size, count = [], 12.0, 10
    end = WIDTH - RIGHT - 34
    left = end - count * size
    for place in range(count):
        x, share = f"{left + place * size:g}", f"{FULL * (place + 0.5) / count:.3f}"
        box = {"x": x, "y": 1.5, "width": size, "height": 10}
        parts.append(element("rect", class_="cell", fill_opacity=share, **box))
    parts.append(element("text", "share 0", x=f"{left - 6:g}", y=11, class_="end"))
    parts.append(element("text", f"{largest:.2f}", x=f"{end + 6:g}", y=11))
    if marks:
        parts.append(element("path", d=f"M{left - 118:g} 3h10l-5 7Z", class_="arrow"))
        parts.append(element("text", "cut", x=f"{left - 104:g}", y=11))
    return join(parts)
