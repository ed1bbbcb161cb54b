"""From what a search learned to cuts and heads (SEDONA, section 3.4).

    alpha    (0.9, -0.1)  (0.2, 0.4)  (0.5, 0.3)        one row for each layer but the last
    weights     0.73         0.45        0.55           softmaxed alpha_1
    ranking       1st          3rd         2nd          layers 1, 3, 2
    margins         0.18 (1 before 3)   0.10 (3 before 2)

K blocks are made by cutting after the first K - 1 layers of the ranking, each with the head of the
largest beta. What decides is the margin between place K - 1 and place K. Where it is tiny, another
seed, or only another order of adding, would have cut elsewhere: that is a tie, and is told.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..models import HeadSpec
from .decoupling import Decoupling, DecouplingError
from .jsonfile import MAX_BYTES, shown
from .split import check_blocks

__all__ = [
    "TIE",
    "Tie",
    "best_heads",
    "cut_weights",
    "discretize",
    "head_weights",
    "margins",
    "ranking",
    "ties",
]

TIE = 1e-3
"""A margin below this decides nothing: SEDONA's released ResNet-152 ranks 34 of its 49 layers
within it, and in another order than the paper prints."""

Table = Tensor | Sequence[Sequence[float]]
Rows = list[list[float]]


@dataclass(frozen=True)
class Tie:
    """A number of blocks for which it is not known where to cut.

    Attributes:
        blocks: K.
        cuts: Chosen layers that are ahead of the best one not chosen by less than ``TIE``; best
            first.
        rivals: Layers not chosen that are behind the last one chosen by less; best first.
        margin: Between the last one chosen and the best one not chosen.
    """

    blocks: int
    cuts: tuple[int, ...]
    rivals: tuple[int, ...]
    margin: float

    def __str__(self) -> str:
        """Return it in words, for the terminal."""
        lead = f"is ahead of {self.rivals[0]} by {self.margin:.2g}"
        if not self.margin:
            lead = f"is level with {self.rivals[0]}"
        words = f"K={self.blocks}: the cut after {self.cuts[-1]} {lead}: a tie"
        if len(self.cuts) + len(self.rivals) > 2:
            words += f" (of {_listed(self.cuts)} with {_listed(self.rivals)})"
        return words


def cut_weights(alpha: Table) -> tuple[float, ...]:
    """Return softmaxed alpha_1 of each layer but the last, in float64.

    Args:
        alpha: (L - 1, 2): for each layer the weights of cutting after it, and of not doing so.

    Raises:
        DecouplingError: It has another shape, or a value is not finite.
    """
    return tuple(_logistic(lead) for lead in _leads(alpha))


def ranking(alpha: Table) -> tuple[int, ...]:
    """Return the layers, the best one to cut after first; of equals, the first in the network.

    They are compared by alpha_1 - alpha_2 in float64, which orders them as softmaxed alpha_1 does
    and still tells apart what rounds to the same softmax.

    Args:
        alpha: (L - 1, 2), as learned.

    Raises:
        DecouplingError: It has another shape, or a value is not finite.
    """
    leads = _leads(alpha)
    return tuple(sorted(range(1, len(leads) + 1), key=lambda layer: -leads[layer - 1]))


def margins(alpha: Table) -> tuple[float, ...]:
    """Return how much each layer of the ranking is ahead of the next, in softmaxed alpha_1.

    There is one less than there are ranked layers: nothing comes after the last.

    Args:
        alpha: (L - 1, 2), as learned.

    Raises:
        DecouplingError: It has another shape, or a value is not finite.
    """
    ordered = sorted(cut_weights(alpha), reverse=True)
    return tuple(before - after for before, after in itertools.pairwise(ordered))


def best_heads(beta: Table) -> tuple[int, ...]:
    """Return for each layer but the last which head has the largest beta; of equals, the first.

    Args:
        beta: (L - 1, M), as learned.

    Returns:
        Places in the pool, from 0.

    Raises:
        DecouplingError: Rows have different lengths or none, or a value is not finite.
    """
    return tuple(row.index(max(row)) for row in _rows("beta", beta))


def head_weights(beta: Table) -> tuple[tuple[float, ...], ...]:
    """Return softmaxed beta of each layer but the last, in float64.

    Args:
        beta: (L - 1, M), as learned.

    Returns:
        For each layer the M weights of its heads; they sum to 1.

    Raises:
        DecouplingError: Rows have different lengths or none, or a value is not finite.
    """
    weights = []
    for row in _rows("beta", beta):
        most = max(row)
        shares = [math.exp(value - most) for value in row]
        weights.append(tuple(share / math.fsum(shares) for share in shares))
    return tuple(weights)


def discretize(
    alpha: Table, beta: Table, *, network: str, heads: Sequence[HeadSpec], blocks: int
) -> Decoupling:
    """Decide where to cut and with which heads.

    The result holds what was learned, and cuts and heads for every number of blocks from 2 to L.
    If that is more than a file may have (hundreds of layers with heads of many arguments), the
    largest numbers of blocks are left out.

    Args:
        alpha: (L - 1, 2), as learned.
        beta: (L - 1, M), as learned.
        network: Name of the network.
        heads: The pool, M heads in the order of beta's columns.
        blocks: K, the number of blocks of the decoupling itself.

    Raises:
        DecouplingError: The shapes do not fit each other, a value is not finite, or there are
            fewer layers than blocks.
    """
    joints, mixtures = _rows("alpha", alpha, columns=2), _rows("beta", beta, columns=len(heads))
    if len(joints) != len(mixtures):
        raise DecouplingError(
            f"alpha has {len(joints)} rows and beta has {len(mixtures)}; both need one for each "
            "layer but the last"
        )
    layers = len(joints) + 1
    check_blocks(layers, blocks)
    order, best = ranking(alpha), best_heads(beta)

    def choice(count: int) -> dict[str, tuple[Any, ...]]:
        cuts = tuple(sorted(order[: count - 1]))
        return {"cuts": cuts, "heads": tuple(heads[best[cut - 1]] for cut in cuts)}

    whole = Decoupling(
        network,
        layers,
        **choice(blocks),
        alpha=tuple(map(tuple, joints)),
        beta=tuple(map(tuple, mixtures)),
        pool=tuple(heads),
        ranking=order,
        margins=margins(alpha),
        by_blocks={count: choice(count) for count in range(2, layers + 1)},
    )
    return _shortened(whole)


def ties(alpha: Table) -> dict[int, Tie]:
    """Return the numbers of blocks for which the choice of the cuts is a tie; ``str`` tells it.

    Args:
        alpha: (L - 1, 2), as learned.

    Raises:
        DecouplingError: It has another shape, or a value is not finite.
    """
    order, weights = ranking(alpha), cut_weights(alpha)
    found = {}
    for blocks in range(2, len(order) + 1):
        chosen, others = order[: blocks - 1], order[blocks - 1 :]
        last, next_ = weights[chosen[-1] - 1], weights[others[0] - 1]
        if last - next_ < TIE:
            cuts = tuple(layer for layer in chosen if weights[layer - 1] - next_ < TIE)
            rivals = tuple(layer for layer in others if last - weights[layer - 1] < TIE)
            # The logistic of two leads that differ in the last bit may be out of order.
            found[blocks] = Tie(blocks, cuts, rivals, max(0.0, last - next_))
    return found


def _leads(alpha: Table) -> list[float]:
    return [first - second for first, second in _rows("alpha", alpha, columns=2)]


def _logistic(lead: float) -> float:
    """Return the first of the softmax of two values, from their difference."""
    # exp of a positive number could overflow.
    return 1 / (1 + math.exp(-lead)) if lead >= 0 else math.exp(lead) / (1 + math.exp(lead))


def _rows(name: str, table: Table, *, columns: int | None = None) -> Rows:
    """Return a table in float64: float32 values are exact in it.

    Raises:
        DecouplingError: The rows do not have ``columns`` values each (None: as many as the first
            has, at least one), or a value is not finite.
    """
    rows = table.tolist() if isinstance(table, Tensor) else [list(row) for row in table]
    wanted = len(rows[0]) if columns is None and rows else columns
    for place, row in enumerate(rows):
        if len(row) != wanted or not row:
            raise DecouplingError(
                f"{name}[{place}] has {len(row)} values, but there must be {wanted or 'some'}"
            )
        if not all(math.isfinite(value) for value in row):
            raise DecouplingError(
                f"{name}[{place}]={shown(row)} is not finite; the search diverged, so take an "
                "earlier checkpoint of it, or search with a lower search.lr"
            )
    return rows


def _shortened(whole: Decoupling) -> Decoupling:
    """Leave out the largest numbers of blocks that do not fit into a file."""
    if len(whole.to_json()) <= MAX_BYTES:
        return whole
    choices = sorted((whole.by_blocks or {}).items())

    def first(count: int) -> Decoupling:
        return dataclasses.replace(whole, by_blocks=dict(choices[:count]))

    too_many = bisect.bisect(range(len(choices)), MAX_BYTES, key=lambda n: len(first(n).to_json()))
    return first(too_many - 1)


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers))
