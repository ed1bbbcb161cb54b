"""Exact accounts of where the parameters of an ensemble are."""

from __future__ import annotations

from typing import Any

from torch import nn

from .ensemble import GeneratedEnsemble

__all__ = ["accounts", "norm_parameters", "norms_of"]

_NORMS = (
    nn.modules.batchnorm._NormBase,  # batch and instance norms
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)


def accounts(ensemble: GeneratedEnsemble[Any]) -> dict[str, int]:
    """Count the parameters by what they are; the four together are all there are.

    Returns:
        ``templates``, which the budget counts; ``coefficients``; ``norms``; and ``heads``: all else
        that members have of their own, which is their classifiers, biases and what does not share.
    """
    store = ensemble.superweights
    found = {
        "templates": sum(one.numel() for one in store.templates.parameters()),
        "coefficients": sum(one.numel() for one in store.coefficients.parameters()),
    }
    norms = sum(one.numel() for one in norm_parameters(ensemble))
    total = sum(one.numel() for one in ensemble.parameters())
    return {**found, "heads": total - norms - sum(found.values()), "norms": norms}


def norm_parameters(ensemble: GeneratedEnsemble[Any]) -> list[nn.Parameter]:
    """Return the parameters of the members' norms."""
    return norms_of(ensemble.members)


def norms_of(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a module's norms, each once."""
    found = {
        id(one): one
        for part in module.modules()
        if isinstance(part, _NORMS)
        for one in part.parameters(recurse=False)
    }
    return list(found.values())
