"""Cuts that are likely to be accurate and fast: what accuracy costs in speed, and speed in alpha.

    sum of alpha
        ^  1 accuracy: the paper's choice
        |   2   3
        |          4 balanced        1 to 5: the front; no other cuts have both more alpha
        |                5 speed        and more speed than one of these
        +------------------> speedup

SEDONA cuts where softmaxed alpha_1 is largest (section 3.4) and knows nothing of time: its
published ResNet-101 in four blocks has 61 % of all operations in the last one. Block k's step
takes as long as was measured for its layers and its head, the slowest block sets the pace of all,
and so does a link that takes longer to carry its message.

Exact: the largest sum of alpha under a bound on the slowest block is found by dynamic programming;
then the bound is lowered below the block that was slowest, and so on until no cuts are left.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..models import HeadSpec
from .decoupling import Decoupling, DecouplingError, head_name
from .discretization import Table, cut_weights
from .profile import Profile
from .settings import PREFERENCES
from .split import check_blocks

__all__ = ["Choice", "activation_bytes", "adopt", "choose", "explain", "front"]


@dataclass(frozen=True)
class Choice:
    """Cuts and heads with what is expected of them.

    Attributes:
        cuts: The layers after which the network is cut, from 1.
        heads: One for each cut.
        alpha: Sum of softmaxed alpha_1 over the cuts, to about 14 digits.
        speedup: Predicted, over backpropagation through the whole network on one device.
        slowest: Predicted seconds per step of the slowest block or link.
        bytes: That cross each cut per step.
    """

    cuts: tuple[int, ...]
    heads: tuple[HeadSpec, ...]
    alpha: float
    speedup: float
    slowest: float
    bytes: tuple[int, ...]


def front(
    profile: Profile,
    alpha: Table,
    heads: Sequence[HeadSpec],
    blocks: int,
    *,
    sizes: Sequence[int] | None = None,
    bandwidth: float | None = None,
) -> list[Choice]:
    """Return the choices of which no other has both a larger sum of alpha and a larger speedup.

    Of several with the same of both, the first in lexicographic order of the cuts is returned. No
    cut is made where the layer's head does not fit, and the last block gets something to train.

    Args:
        profile: What the layers and the heads cost.
        alpha: (L - 1, 2), as learned.
        heads: The head of each layer but the last, each one of those in the profile.
        blocks: K, each on a device of its own.
        sizes: Bytes of each layer's output for a batch; those of the profile if None.
        bandwidth: Of each link, in bytes per second; None if links take no time, as when the
            copy is hidden behind the computation.

    Returns:
        The front, from the largest sum of alpha to the largest speedup; at least one choice.

    Raises:
        DecouplingError: There are fewer layers than blocks, no possible cuts, or one of the
            arguments is not for that many layers.
        ProfileError: A head was not measured.
        ValueError: The bandwidth is not above 0, or the profile predicts a step without time.
    """
    check_blocks(profile.layers, blocks)
    sizes = profile.boundary_bytes if sizes is None else sizes
    if bandwidth is not None and not 0 < bandwidth < math.inf:
        raise ValueError(f"bandwidth={bandwidth}: must be above 0 bytes per second, or None")
    weights = _exact(cut_weights(alpha))
    _check_lengths(profile, alpha=len(weights), heads=len(heads), sizes=len(sizes) - 1)
    costs = _costs(profile, heads, sizes, bandwidth)
    whole = profile.block_seconds(1, profile.layers)
    found: list[Choice] = []
    bound = math.inf
    while (cuts := _best(costs, weights, blocks, bound)) is not None:
        total = float(sum(weights[cut - 1] for cut in cuts))
        if found and found[-1].alpha == total:
            found.pop()  # As accurate, but slower.
        bound = max(costs[cut, end] for cut, end in zip((0, *cuts), (*cuts, -1), strict=True))
        if not bound:
            raise ValueError(
                f"{profile.network} takes 0 seconds per step when cut after {_listed(cuts)}, so "
                "there is no speedup; measure the profile again"
            )
        bound = float(bound)
        chosen = tuple(heads[cut - 1] for cut in cuts)
        carried = tuple(int(sizes[cut - 1]) for cut in cuts)
        found.append(Choice(cuts, chosen, total, whole / bound, bound, carried))
    if not found:
        raise DecouplingError(
            f"blocks={blocks}: {profile.network} has no cuts after which the learned heads fit "
            "and the last block has parameters to train; give fewer blocks or other search.heads"
        )
    return found


def choose(front: Sequence[Choice], prefer: str = "accuracy") -> Choice:
    """Return one choice of a front.

    ``accuracy`` is the largest sum of alpha: the paper's choice, the first K - 1 layers of the
    ranking as long as their heads fit (among equal sums the fastest, which the paper leaves open).

    ``speed`` is the largest predicted speedup.

    ``balanced`` is the knee. On the way from ``accuracy`` to ``speed`` each choice has lost a
    share of all alpha that can be lost, and gained a share of all speedup that can be gained; the
    knee is the choice with the largest difference, gained - lost. There is no weight or threshold
    to set: the two ends of the front measure both axes, so other units, an offset, or a factor in
    one of them change nothing. Both ends have the difference 0. So the knee has gained a larger
    share than it lost, or no choice has; then it is ``accuracy``, for nothing speaks for leaving
    the paper's choice. (It is the point of the front that is farthest above the line between its
    ends. The largest product of both shares would be as free of units, but prefers any choice
    between the ends to them, even one that loses most of the alpha for little speed.)

    Args:
        front: As :func:`front` returned it.
        prefer: ``accuracy``, ``balanced`` or ``speed``.

    Raises:
        ValueError: The front is empty, or there is no such preference.
    """
    if not front:
        raise ValueError("the front has no choices; take one that front() returned")
    if prefer not in PREFERENCES:
        raise ValueError(f"prefer={prefer!r}: must be one of {', '.join(PREFERENCES)}")
    first, last = front[0], front[-1]
    if prefer == "accuracy" or last.speedup == first.speedup:
        return first
    if prefer == "speed":
        return last

    def difference(choice: Choice) -> float:
        lost, gained = first.alpha - choice.alpha, choice.speedup - first.speedup
        return gained / (last.speedup - first.speedup) - lost / (first.alpha - last.alpha)

    return max(front, key=difference)


def explain(front: Sequence[Choice], *, every: bool = False) -> list[str]:
    """Return what the choices cost: the alpha lost and the speedup gained, a line for each.

    Args:
        front: As :func:`front` returned it.
        every: Whether to tell every choice; else the three that :func:`choose` can return.
    """
    names: dict[tuple[int, ...], list[str]] = {}
    for prefer in PREFERENCES:
        names.setdefault(choose(front, prefer).cuts, []).append(prefer)
    lines = [f"K={len(front[0].cuts) + 1}: {_choices(len(front))} between accuracy and speed"]
    for choice in front:
        if every or choice.cuts in names:
            name = ", ".join(names.get(choice.cuts, ["between"]))
            lines.append(f"{name}: {_told(choice, front[0])}")
    return lines


def adopt(decoupling: Decoupling, choices: Iterable[Choice]) -> Decoupling:
    """Put choices in the place of the cuts and heads that a decoupling has for as many blocks.

    Args:
        decoupling: What a search found.
        choices: At most one for each number of blocks; the others stay as they are.
    """
    entries = {len(choice.cuts) + 1: choice for choice in choices}
    news = {count: {"cuts": one.cuts, "heads": one.heads} for count, one in entries.items()}
    others = {**(decoupling.by_blocks or {}), **news}
    own = entries.get(decoupling.blocks)
    changes = {} if own is None else {"cuts": own.cuts, "heads": own.heads}
    return dataclasses.replace(decoupling, by_blocks=others or None, **changes)


def activation_bytes(
    shapes: Iterable[Sequence[int]], *, batch_size: int, element_size: int = 4
) -> tuple[int, ...]:
    """Return the bytes of each layer's output.

    Args:
        shapes: Of each layer's output, without the batch, as ``layer_shapes`` returns them.
        batch_size: Examples in a batch.
        element_size: Bytes of a number: 4 for float32, 2 for bfloat16.
    """
    return tuple(batch_size * element_size * math.prod(shape) for shape in shapes)


def _exact(weights: Sequence[float]) -> np.ndarray:
    """Round to so many binary places that any sum is exact, in whatever order it is added.

    Else equal sums could differ in their last bit and stand in the front as different. With 50
    layers this is a rounding to 7e-15.
    """
    unit = 2.0 ** (53 - len(weights).bit_length())
    return np.rint(np.array(weights, dtype=np.float64) * unit) / unit


def _costs(
    profile: Profile, heads: Sequence[HeadSpec], sizes: Sequence[int], bandwidth: float | None
) -> np.ndarray:
    """Return the seconds of each block, or of the link behind it if that is slower.

    Row p, column l is the block of layers p + 1 to l; infinite where there is no such block.
    """
    layers = profile.layers
    places = [profile.head_index(head) for head in heads]
    costs = np.full((layers + 1, layers + 1), math.inf)
    for last in range(1, layers):
        if not profile.fits(last, places[last - 1]):
            continue
        link = 0.0 if bandwidth is None else sizes[last - 1] / bandwidth
        for first in range(1, last + 1):
            seconds = profile.block_seconds(first, last, places[last - 1])
            costs[first - 1, last] = max(seconds, link)
    trains = profile.classifier_parameters > 0
    for first in range(layers, 0, -1):
        trains = trains or profile.parameters[first - 1] > 0
        if trains:
            costs[first - 1, layers] = profile.block_seconds(first, layers)
    return costs


def _best(
    costs: np.ndarray, weights: np.ndarray, blocks: int, bound: float
) -> tuple[int, ...] | None:
    """Return the cuts with the largest sum of weights whose blocks all cost less than ``bound``.

    ``most[p]`` is the largest sum for the layers after p in k blocks: the maximum over the first
    block's last layer l of weight(l) + most of the layers after l in k - 1 blocks. It is found
    from the end, and argmax takes the first, so the result is the first in lexicographic order.
    """
    layers = len(costs) - 1
    gains = np.append(np.insert(weights, 0, 0.0), 0.0)
    penalties = np.where(costs < bound, 0.0, -math.inf)
    most = np.full(layers + 1, -math.inf)
    most[layers] = 0.0
    ends = []
    for _ in range(blocks):
        sums = penalties + (gains + most)
        ends.append(sums.argmax(axis=1))
        most = sums.max(axis=1)
    if most[0] == -math.inf:
        return None
    cuts = [0]
    for end in reversed(ends):
        cuts.append(int(end[cuts[-1]]))
    return tuple(cuts[1:-1])


def _check_lengths(profile: Profile, **lengths: int) -> None:
    """Refuse what is not for the network's cuts."""
    for name, length in lengths.items():
        if length != profile.layers - 1:
            raise DecouplingError(
                f"{name} is for {length + 1} layers, but the profile of {profile.network!r} has "
                f"{profile.layers}; take both from the same network"
            )


def _told(choice: Choice, first: Choice) -> str:
    """Return a choice in words, compared with the first of its front."""
    cuts = f"cuts {_listed(choice.cuts)} ({', '.join(map(head_name, choice.heads))})"
    words = f"{cuts}: alpha {choice.alpha:.3f}, speedup {choice.speedup:.2f}x"
    if choice is first or not first.alpha:
        return words
    lost, gained = first.alpha - choice.alpha, choice.speedup / first.speedup - 1
    return f"{words}; {lost:.3g} less alpha ({lost / first.alpha:.1%}), {gained:.1%} faster"


def _choices(count: int) -> str:
    return "one choice, no trade" if count == 1 else f"{count} choices"


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers)) or "no layer"
