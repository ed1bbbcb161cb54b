"""On the straight line between two members: are they in one basin of the loss?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from .metrics import scores

__all__ = ["interpolate", "path_scores"]


def interpolate(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Return ``(1 - share) first + share second``; counters stay those of ``first``.

    Args:
        first: A member's ``state_dict``.
        second: Another's, of the same names and shapes.
        share: 0 gives the first, 1 the second.

    Raises:
        ValueError: The members have other names or shapes.
    """
    if first.keys() != second.keys():
        name = min(first.keys() ^ second.keys())
        raise ValueError(f"only one of the two members has {name}; they must be equal networks")
    made = {}
    for name, one in first.items():
        other = second[name]
        if one.shape != other.shape:
            raise ValueError(
                f"{name} has the shapes {tuple(one.shape)} and {tuple(other.shape)}; only members "
                "of one width and depth can be interpolated"
            )
        if not one.is_floating_point():
            made[name] = one.clone()
        else:  # both ends exactly
            made[name] = one.clone() if share == 0 else one.lerp(other, share)
    return made


@torch.no_grad()
def path_scores(
    module: nn.Module,
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    batches: Callable[[], Iterable[tuple[Tensor, Tensor]]],
    *,
    points: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
) -> list[dict[str, float]]:
    """Evaluate networks between two members; norms use each batch's own statistics.

    Running statistics mean nothing between two members (the supplement's section 3.4), so batch
    norms are in training mode and everything else is not.

    Args:
        module: A network of the members' kind; it is not changed.
        first: A member's ``state_dict``.
        second: Another's.
        batches: Called for each point: inputs and labels; large batches make good statistics.
        points: Shares of the second member.

    Returns:
        For each point ``share``, ``top1``, ``nll`` and ``ece``.
    """
    probe, found = copy.deepcopy(module).eval(), []
    for part in probe.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.train()
    for share in points:
        probe.load_state_dict(interpolate(first, second, share))
        outputs = [(probe(x), y) for x, y in batches()]
        logits = torch.cat([one for one, _ in outputs])
        found.append({"share": share, **scores(logits[None], torch.cat([y for _, y in outputs]))})
    return found
