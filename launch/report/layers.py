"""The layers of a network side by side, as the columns of a picture."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from .markup import NOTHING, Markup, element, join

__all__ = ["CHARACTER", "Column", "columns", "in_words", "layer_axis"]

CHARACTER = 6.1
"""About the width of a letter of a label in pixels."""
BOLD = 6.8
"""About the width of a bold digit."""
MOST = 20
"""Characters in the text of neighbouring cuts."""
MARGIN = 14.0
"""By which a text may stand out beside the columns, in pixels."""
ROOM = 18.0
"""Between the middles of two numbers, in pixels."""


@dataclass(frozen=True)
class Column:
    """Where a layer stands.

    Attributes:
        layer: From 1.
        left: Where its column begins, in pixels.
        pitch: Width of the column.
    """

    layer: int
    left: float
    pitch: float

    @property
    def middle(self) -> float:
        """Where its middle is, in pixels."""
        return self.left + self.pitch / 2


def columns(count: int, left: float, right: float) -> list[Column]:
    """Return a column for each of so many layers, side by side."""
    pitch = (right - left) / max(1, count)
    return [Column(layer, left + (layer - 1) * pitch, pitch) for layer in range(1, count + 1)]


def in_words(layers: Sequence[int], *, most: int | None = None) -> str:
    """Return ascending numbers in words, neighbours as runs: 1, 3-5, 9.

    Args:
        layers: The numbers.
        most: Characters; of more, the first numbers and an ellipsis.
    """
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    words = [f"{run[0]}\u2013{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    told = ", ".join(words)
    while most is not None and len(told) > most and len(words) > 1:
        words.pop()
        told = ", ".join([*words, "\u2026"])
    return told


def layer_axis(across: Sequence[Column], cuts: Collection[int], bottom: float) -> Markup:
    """Return the numbers of the layers, those of cuts in bold, and the label under them.

    Args:
        across: The columns of all layers.
        cuts: Layers whose numbers are always there, those too near to each other as one text; of
            the others as many as there is room for.
        bottom: Where the columns end.
    """
    if not across:
        return NOTHING
    texts, taken = [], []
    for group in _groups(sorted(cuts), across):
        middle, half = group.middle, group.half
        texts.append(_text(group.words, middle, bottom + 15, "middle strong"))
        taken.append((middle - half - ROOM * 0.7, middle + half + ROOM * 0.7))
    pitch = across[0].pitch
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if step * pitch >= ROOM)
    for column in across:
        # The first number stands always, so the next must not come too soon.
        room = column.layer == 1 or (column.layer - 1) * pitch >= ROOM
        regular = column.layer == 1 or column.layer % step == 0
        if regular and room and not any(low < column.middle < high for low, high in taken):
            texts.append(_text(str(column.layer), column.middle, bottom + 15, "middle"))
    center = (across[0].left + across[-1].left + pitch) / 2
    return join([*texts, _text("layer", center, bottom + 33, "axis middle")])


@dataclass(frozen=True)
class _Group:
    """Cuts whose numbers are one text, in the middle between the first and the last."""

    cuts: tuple[int, ...]
    middle: float

    @property
    def words(self) -> str:
        return in_words(self.cuts, most=MOST)

    @property
    def half(self) -> float:
        """Half the width of the text."""
        return len(self.words) * BOLD / 2

    def touches(self, other: _Group) -> bool:
        """Whether its text would touch that of the group to its right."""
        return self.middle + self.half + 5 > other.middle - other.half


def _groups(cuts: Sequence[int], across: Sequence[Column]) -> list[_Group]:
    """Put cuts together whose numbers would touch."""
    found: list[_Group] = []
    for cut in cuts:
        group = _Group((cut,), across[cut - 1].middle)
        while found and found[-1].touches(group):
            together = found.pop().cuts + group.cuts
            group = _Group(together, _middle(together, across))
        found.append(group)
    return found


def _middle(cuts: Sequence[int], across: Sequence[Column]) -> float:
    """Return where the text of neighbouring cuts stands, away from the edges of the picture."""
    half = _Group(tuple(cuts), 0.0).half
    middle = (across[cuts[0] - 1].middle + across[cuts[-1] - 1].middle) / 2
    right = across[-1].left + across[-1].pitch
    return min(max(middle, across[0].left + half - MARGIN), right - half + MARGIN)


def _text(words: str, x: float, y: float, look: str) -> Markup:
    return element("text", words, x=f"{x:.1f}", y=f"{y:g}", class_=look)
