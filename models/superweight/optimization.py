"""SuperWeights and optimizers: what decays, and what becomes of separated coefficients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .accounting import norm_parameters
from .ensemble import GeneratedEnsemble

__all__ = ["carry_over", "parameter_groups"]


def parameter_groups(
    ensemble: GeneratedEnsemble[Any], weight_decay: float, *, decay_norms: bool = True
) -> list[dict[str, Any]]:
    """Return groups for an optimizer: coefficients do not decay.

    Args:
        ensemble: Its parameters that learn, each once, in the order of ``parameters()``.
        weight_decay: Of everything else.
        decay_norms: Whether norms decay too.
    """
    still = {id(one) for one in ensemble.superweights.coefficients.parameters()}
    if not decay_norms:
        still |= {id(one) for one in norm_parameters(ensemble)}
    learning = [one for one in ensemble.parameters() if one.requires_grad]
    return [
        {"params": [p for p in learning if id(p) not in still], "weight_decay": weight_decay},
        {"params": [p for p in learning if id(p) in still], "weight_decay": 0.0},
    ]


def carry_over(
    optimizer: torch.optim.Optimizer, replaced: Sequence[tuple[nn.Parameter, nn.Parameter, Tensor]]
) -> None:
    """Put replaced coefficients into an optimizer, with what it knew about their rows.

    Args:
        optimizer: It has the old parameters.
        replaced: What ``SuperWeights.regroup`` returned.
    """
    successors: Mapping[int, tuple[nn.Parameter, Tensor]] = {
        id(old): (new, index) for old, new, index in replaced
    }
    for group in optimizer.param_groups:
        for place, parameter in enumerate(group["params"]):
            if id(parameter) not in successors:
                continue
            new, index = successors[id(parameter)]
            group["params"][place] = new
            if parameter in optimizer.state:
                optimizer.state[new] = {
                    key: value[index].clone()
                    if isinstance(value, Tensor) and value.shape == parameter.shape
                    else value
                    for key, value in optimizer.state.pop(parameter).items()
                }
