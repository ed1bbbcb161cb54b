"""How weights of different shapes are put together from the slots of one cluster.

The distinct shapes of a cluster, sorted by their number of weights, are nested at the top left:
the smallest one is slot 0, and each next shape adds only what the one before it does not cover.

    shape w-1 -> shape w, wider and taller       wider, but lower: the rows below are left out
        +-------+----+                               +-------+----+
        |  old  |cols|                               |  old  |cols|
        +-------+----+                               +-------+----+
        |    rows    |                               : unused :
        +------------+

A slot's SuperWeight is one flat vector: its columns first, then its rows. This is ``chain``, the
nesting of the paper's public code. What lies outside a lower shape is generated again by the next
larger one, so that members of different proportions need more weights than their largest layer.
With ``union``, a slot adds only what no smaller shape covers, and every shape takes what lies in it
of all smaller slots:

        +-------+----+
        |  old  |new |
        |   +---+    |
        |   |  new   |
        +---+--------+
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

__all__ = ["NESTINGS", "Block", "Layout", "Shape"]

NESTINGS = ("chain", "union")

Shape = tuple[int, ...]
Rectangle = tuple[tuple[int, int], tuple[int, int]]
"""First row and the one after the last, and likewise columns."""


@dataclass(frozen=True)
class Block:
    """A rectangle of output and input channels that comes out of one slot.

    Attributes:
        slot: The slot, from 0.
        start: Where it begins in the slot's vector.
        rows: First output channel, and the one after the last.
        columns: First input channel, and the one after the last.
        shown: Rows and columns that are left after later slots cropped it, from its top left.
    """

    slot: int
    start: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    shown: tuple[int, int]

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns in the slot's vector."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]


@dataclass(frozen=True)
class Layout:
    """The slots of one cluster.

    Attributes:
        shapes: The distinct shapes (out, in, *kernel), from the smallest; slot w is added by shape
            w, which consists of slots up to w.
        nesting: One of ``NESTINGS``.
    """

    shapes: tuple[Shape, ...]
    nesting: str = "chain"

    @classmethod
    def of(cls, shapes: Iterable[Shape], nesting: str = "chain") -> Layout:
        """Sort the shapes of a cluster; of two with as many weights, the lower one is first.

        Raises:
            ValueError: There is none, the kernels differ, or the nesting is unknown.
        """
        if nesting not in NESTINGS:
            raise ValueError(f"nesting={nesting!r}: valid are {', '.join(NESTINGS)}")
        ordered = sorted(set(shapes), key=lambda shape: (math.prod(shape), shape))
        kernels = {shape[2:] for shape in ordered}
        if len(kernels) != 1:
            raise ValueError(
                f"a cluster needs weights of one kernel size, not of {sorted(kernels)}; separate "
                "them into one cluster for each"
            )
        return cls(tuple(ordered), nesting)

    @cached_property
    def kernel(self) -> int:
        """Weights per output and input channel."""
        return math.prod(self.shapes[0][2:])

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The length of each slot's vector."""
        return tuple(sum(map(self._size, added)) for added in self._added)

    def blocks(self, shape: Shape) -> tuple[Block, ...]:
        """Return what a shape consists of; the blocks cover it once and do not overlap."""
        return self._blocks[self.shapes.index(shape)]

    def slots(self, shape: Shape) -> tuple[int, ...]:
        """Return the slots that a shape uses, in order.

        In a chain these are all up to its own, also those of which later ones leave nothing.
        """
        if self.nesting == "chain":
            return tuple(range(self.shapes.index(shape) + 1))
        return tuple(sorted({block.slot for block in self.blocks(shape)}))

    @cached_property
    def _added(self) -> tuple[tuple[Rectangle, ...], ...]:
        """The rectangles that each slot adds, in the order of its vector."""
        numbers = range(len(self.shapes))
        if self.nesting == "chain":
            return tuple(tuple(_difference(self.shapes, slot)) for slot in numbers)
        return tuple(tuple(_uncovered(self.shapes, slot)) for slot in numbers)

    @cached_property
    def _blocks(self) -> tuple[tuple[Block, ...], ...]:
        return tuple(tuple(self._compose(depth)) for depth in range(len(self.shapes)))

    def _compose(self, depth: int) -> Iterator[Block]:
        for slot in range(depth + 1):
            # In a chain every later slot cropped; in a union only the shape itself does.
            later = self.shapes[slot + 1 if self.nesting == "chain" else depth : depth + 1]
            start = 0
            for rows, columns in self._added[slot]:
                height = min([rows[1], *(shape[0] for shape in later)]) - rows[0]
                breadth = min([columns[1], *(shape[1] for shape in later)]) - columns[0]
                if height > 0 and breadth > 0:
                    yield Block(slot, start, rows, columns, (height, breadth))
                start += self._size((rows, columns))

    def _size(self, rectangle: Rectangle) -> int:
        rows, columns = rectangle
        return (rows[1] - rows[0]) * (columns[1] - columns[0]) * self.kernel


def _difference(shapes: tuple[Shape, ...], slot: int) -> Iterator[Rectangle]:
    """Return what a shape has beyond the one before it: columns, then rows."""
    out, inputs = shapes[slot][:2]
    covered_out, covered_in = shapes[slot - 1][:2] if slot else (0, 0)
    if inputs > covered_in and covered_out:
        yield (0, min(covered_out, out)), (covered_in, inputs)
    if out > covered_out:
        yield (covered_out, out), (0, inputs)


def _uncovered(shapes: tuple[Shape, ...], slot: int) -> Iterator[Rectangle]:
    """Return what a shape has beyond all smaller ones, from the top."""
    out, inputs = shapes[slot][:2]
    smaller = shapes[:slot]
    edges = sorted({0, out, *(shape[0] for shape in smaller if shape[0] < out)})
    for top, bottom in pairwise(edges):
        covered = max([0, *(shape[1] for shape in smaller if shape[0] > top)])
        if covered < inputs:
            yield (top, bottom), (covered, inputs)
