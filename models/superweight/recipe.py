"""What it takes to generate the weights of one member, decided once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .layout import Block
from .sharing import Sharing
from .use import Key, Use, by_key

__all__ = ["Piece", "Recipe", "Rows", "Work", "coefficient_rows", "recipes_of"]

Rows = Mapping[Key, int]
"""The row of each use in the coefficients of one slot; uses of one group have the same row."""


@dataclass(frozen=True)
class Piece:
    """A rectangle of a weight.

    Attributes:
        row: Which of the member's SuperWeights of the slot it is cut from.
        weight: Which of the member's weights it goes to.
        block: From where to where.
    """

    row: int
    weight: int
    block: Block


@dataclass(frozen=True)
class Work:
    """What a member takes from one slot.

    Attributes:
        name: The slot's parameters, ``CLUSTER_SLOT``.
        rows: The rows of the coefficients that the member uses, ascending.
        pieces: Where their SuperWeights go.
        whole: Whether every number of every SuperWeight goes to exactly one weight.
    """

    name: str
    rows: tuple[int, ...]
    pieces: tuple[Piece, ...]
    whole: bool


@dataclass(frozen=True)
class Recipe:
    """Everything that generates a member's weights.

    Attributes:
        uses: The member's weights, in order.
        works: The slots that it uses, in order.
    """

    uses: tuple[Use, ...]
    works: tuple[Work, ...]


def coefficient_rows(sharing: Sharing, uses: Sequence[Use]) -> dict[str, Rows]:
    """Return the rows of every slot by its name, cluster by cluster: one for each group."""
    known, found = by_key(uses), {}
    for number, (cluster, layout) in enumerate(
        zip(sharing.clusters, sharing.layouts(uses), strict=True)
    ):
        for slot in range(len(layout.sizes)):
            rows: dict[Key, int] = {}
            count = 0
            for group in cluster:
                users = [key for key in group if slot in layout.slots(known[key].shape)]
                rows |= dict.fromkeys(users, count)
                count += bool(users)
            found[f"{number}_{slot}"] = rows
    return found


def recipes_of(sharing: Sharing, uses: Sequence[Use], members: int) -> list[Recipe]:
    """Return the recipe of each member."""
    rows, layouts, cluster_of = (
        coefficient_rows(sharing, uses),
        sharing.layouts(uses),
        sharing.cluster_of(),
    )
    recipes = []
    for member in range(members):
        own = [use for use in uses if use.member == member]
        works = []
        for name, row_of in rows.items():
            cluster, slot = map(int, name.split("_"))
            mine = [
                (place, use)
                for place, use in enumerate(own)
                if cluster_of[use.key] == cluster and use.key in row_of
            ]
            if not mine:
                continue
            wanted = sorted({row_of[use.key] for _, use in mine})
            pieces = [
                Piece(wanted.index(row_of[use.key]), place, block)
                for place, use in mine
                for block in layouts[cluster].blocks(use.shape)
                if block.slot == slot
            ]
            size = layouts[cluster].sizes[slot]
            whole = len(wanted) == len(mine) and len(wanted) * size == sum(
                piece.block.shown[0] * piece.block.shown[1] * layouts[cluster].kernel
                for piece in pieces
            )
            works.append(Work(name, tuple(wanted), tuple(pieces), whole))
        recipes.append(Recipe(tuple(own), tuple(works)))
    return recipes
