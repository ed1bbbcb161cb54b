"""Where a search wants to cut: softmaxed alpha_1 per layer (SEDONA, Figure 4)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from .chart import Frame, y_axis
from .layers import CHARACTER, Column, columns, layer_axis
from .markup import NOTHING, Markup, element, join
from .picture import WIDTH, Picture, shortened
from .scale import Scale

__all__ = ["cuts_picture"]

PLOT = 190.0
LEFT, RIGHT, BOTTOM = 54.0, 16.0, 40.0
LEGEND = 26.0
LONGEST = 16
NARROWEST = 9.0
"""A column narrower than this has no room for the name of a head."""
SHARES = Scale(0.0, 1.0, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))

NOTE = (
    "How much each layer prefers its own loss to the error from above; a block ends where it does "
    "most. At 0.5 the search has no opinion."
)
TIED = "Dashed: between these layers it did not decide."


def cuts_picture(
    weights: Sequence[float],
    cuts: Sequence[int],
    heads: Sequence[str],
    *,
    tied: Collection[int] = (),
) -> Picture:
    """Return bars of softmaxed alpha_1, the cuts in colour with their heads.

    Args:
        weights: Of each layer but the last, from 0 to 1.
        cuts: The layers after which the network is cut, from 1.
        heads: The name of the head of each cut.
        tied: Layers, cut or not, between which the search did not decide.
    """
    heads_ = dict(zip(cuts, heads, strict=True))
    across = columns(len(weights), LEFT, WIDTH - RIGHT)
    names = {cut: shortened(head, LONGEST) for cut, head in heads_.items()}
    if across and across[0].pitch < NARROWEST:
        names = {}
    longest = max((len(name) for name in names.values()), default=0) * CHARACTER
    upright = bool(across) and longest > across[0].pitch - 4
    top = LEGEND + (longest + 6 if upright else 16 if names else 4)
    frame = Frame(WIDTH, top + PLOT + BOTTOM, LEFT, RIGHT, top, BOTTOM)
    kinds = {layer: _kind(layer, cuts, tied) for layer in range(1, len(weights) + 1)}
    middle = frame.y(0.5, SHARES)
    body = [
        y_axis(frame, SHARES, "softmaxed alpha\u2081"),
        *(
            _bar(column, value, kinds[column.layer], heads_.get(column.layer), frame)
            for column, value in zip(across, weights, strict=True)
        ),
        element("path", d=f"M{LEFT:g} {middle:.1f}H{WIDTH - RIGHT:g}", class_="undecided"),
        *(
            _head(across[cut - 1], weights[cut - 1], name, frame, upright)
            for cut, name in names.items()
        ),
        layer_axis(across, cuts, frame.height - BOTTOM),
        _legend(kinds.values()),
    ]
    words = f"softmaxed alpha_1 of {len(weights)} layers; cuts after {_listed(cuts)}"
    title = f"Where to cut: {len(cuts) + 1} blocks" if cuts else "Where to cut"
    return Picture(
        title, f"{NOTE} {TIED}" if tied else NOTE, WIDTH, frame.height, join(body), words
    )


def _kind(layer: int, cuts: Collection[int], tied: Collection[int]) -> str:
    """Return the classes of a layer's bar."""
    if layer in cuts:
        return "bar cut tied" if layer in tied else "bar cut"
    return "bar rival" if layer in tied else "bar"


KINDS = {
    "bar cut": "cut",
    "bar cut tied": "cut, a tie",
    "bar rival": "not cut, a tie",
    "bar": "not cut",
}


def _bar(column: Column, value: float, kind: str, head: str | None, frame: Frame) -> Markup:
    """Return a layer's bar."""
    width = min(44.0, column.pitch * 0.74)
    top = frame.y(value, SHARES)
    told = f"layer {column.layer}: {value:.4f}, {KINDS[kind]}" + (f", head {head}" if head else "")
    return element(
        "rect", element("title", told), x=f"{column.middle - width / 2:.1f}", y=f"{top:.1f}",
        width=f"{width:.1f}", height=f"{max(0.5, frame.height - BOTTOM - top):.1f}", class_=kind,
    )  # fmt: skip


def _head(column: Column, value: float, name: str, frame: Frame, upright: bool) -> Markup:
    """Return the name of a cut's head above its bar."""
    x, y = column.middle + (4 if upright else 0), frame.y(value, SHARES) - 5
    turn = f"rotate(-90 {x:.1f} {y:.1f})" if upright else None
    look = "strong halo" if upright else "strong halo middle"
    return element("text", name, x=f"{x:.1f}", y=f"{y:.1f}", class_=look, transform=turn)


def _legend(kinds: Iterable[str]) -> Markup:
    """Return what the bars mean that are there, from right to left at the top."""
    present = [kind for kind in KINDS if kind in set(kinds)]
    if len(present) < 2:
        return NOTHING
    parts, x = [], WIDTH - RIGHT
    for kind in reversed(present):
        x -= len(KINDS[kind]) * CHARACTER - 2
        parts.append(element("text", KINDS[kind], x=f"{x:.1f}", y=11))
        parts.append(element("rect", x=f"{x - 17:.1f}", y=1.5, width=11, height=10, class_=kind))
        x -= 34
    return join(parts)


def _listed(cuts: Sequence[int]) -> str:
    return ", ".join(map(str, cuts)) or "no layer"
