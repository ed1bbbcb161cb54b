"""The state of an ensemble in parts: what members share, and what each has of its own.

Everything is kept by name, so that any number of ranks can continue what another one began.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...models.ensembles.trainable import member_of

__all__ = ["load_parts", "part_of"]


def part_of(
    module: nn.Module, optimizer: torch.optim.Optimizer, member: int | None
) -> dict[str, Any]:
    """Return what belongs to a member, or to all: tensors, and what the optimizer remembers.

    Args:
        module: The ensemble.
        optimizer: Of what this rank changes.
        member: Which one; None: what they share.
    """
    kept = module.state_dict()
    return {
        "tensors": {n: one.cpu() for n, one in kept.items() if member_of(n) == member},
        "optimizer": {
            name: {k: v.cpu() if isinstance(v, Tensor) else v for k, v in state.items()}
            for name, one in module.named_parameters()
            if member_of(name) == member and (state := optimizer.state.get(one))
        },
    }


def load_parts(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    parts: Sequence[Mapping[str, Any]],
    learning: Iterable[nn.Parameter],
) -> None:
    """Put all parts of an ensemble back.

    Args:
        module: The ensemble.
        optimizer: Gets what was remembered of the parameters that it changes.
        parts: What :func:`part_of` returned, of all members and of what they share.
        learning: What the optimizer changes.
    """
    module.load_state_dict({name: one for part in parts for name, one in part["tensors"].items()})
    mine = {id(one) for one in learning}
    known = {name: state for part in parts for name, state in part["optimizer"].items()}
    for name, one in module.named_parameters():
        if name in known and id(one) in mine:
            optimizer.state[one] = {
                # Adam counts its steps on the CPU.
                key: value.to(one.device) if isinstance(value, Tensor) and key != "step" else value
                for key, value in known[name].items()
            }
