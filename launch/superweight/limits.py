"""Which values only an ensemble has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...pipeline.optimization import OptimizationConfig
from ..limits import (
    CHOICES,
    COUNT,
    OR_NONE,
    RANGES,
    Limits,
    Range,
    check,
    check_class,
)
from ..refusal import Refusals, shown
from .config import SuperWeightConfig
from .method import METHODS

__all__ = ["LIMITS", "SHARINGS", "check_superweight"]

SHARINGS = ("auto", "learned", "own")
COSINE = Range(low=-1, high=1)

FIXED = {
    "clip": "the norm of an ensemble's gradient is on several ranks",
    "channels_last": "generated weights have the usual layout",
    "compile": "generated weights are put into their layers anew at each step",
    "chunk": "a member takes a batch as a whole; lower train.batch_size",
    "metrics": "an ensemble reports accuracy, likelihood and calibration; see blockstep evaluate",
}
"""Keys of ``train`` that an ensemble leaves at their defaults, and why."""

_BUDGET = re.compile(r"\s*\d+(\.\d*)?([eE][+-]?\d{1,2})?\s*[kKmMgGbB%]?\s*")


def check_superweight(config: SuperWeightConfig, refusals: Refusals) -> None:
    """Note every impossible value of a configuration whose types are right."""
    check(config, LIMITS, refusals)


def _train(config: SuperWeightConfig, refusals: Refusals) -> None:
    defaults = OptimizationConfig()
    for name, reason in FIXED.items():
        value, default = getattr(config.train, name), getattr(defaults, name)
        if value != default:
            refusals.add(f"train.{name}", value, f"{reason}; leave it at {shown(default)}")
    if config.train.precision == "float16":
        refusals.add(
            "train.precision",
            "float16",
            "an ensemble scales no losses, which float16 needs; use bfloat16 or float32",
        )


def _members(config: SuperWeightConfig, refusals: Refusals) -> None:
    for member in config.members:
        if isinstance(member, str) and member:
            continue
        if isinstance(member, Mapping) and "_target_" in member:
            check_class("members", member, refusals)
        elif not isinstance(member, Mapping) or not isinstance(member.get("name"), str):
            refusals.add(
                "members",
                member,
                "each is the name of a network, {name: NAME, width: 0.5}, or {_target_: pkg.Net}",
            )
    method = METHODS.get(config.method)
    if method is None or not config.members:
        return
    if method.alone and len(config.members) > 1:
        refusals.add(
            "members",
            config.members,
            f"method={config.method} has one network, and {len(config.members)} are given; give "
            "one, or method=deep for several",
        )
    if method.equal and any(member != config.members[0] for member in config.members):
        refusals.add(
            "members",
            config.members,
            f"method={config.method} needs equal members, such as [resnet18,resnet18]",
        )


def _budget(config: SuperWeightConfig, refusals: Refusals) -> None:
    if config.budget is not None and not _BUDGET.fullmatch(config.budget):
        refusals.add(
            "budget", config.budget, "must be a number of weights, such as 18M, 500k, or 50%"
        )


def _stages(config: SuperWeightConfig, refusals: Refusals) -> None:
    settings, steps = config.superweight, config.train.steps
    if settings.unshare_step is not None and settings.unshare_step > steps:
        refusals.add(
            "superweight.unshare_step",
            settings.unshare_step,
            f"must be at most train.steps={steps}; 0 keeps shared coefficients to the end",
        )
    sharing = settings.sharing
    if sharing not in SHARINGS and not sharing.endswith(".json"):
        refusals.add(
            "superweight.sharing",
            sharing,
            f"choose one of {', '.join(SHARINGS)}, or give a file, such as runs/NAME/sharing.json",
        )
    if sharing == "learned" and settings.search_steps == 0:
        refusals.add(
            "superweight.search_steps",
            0,
            "what is shared is learned from trained weights; give some steps, or "
            "superweight.sharing=own",
        )


def _widths(config: SuperWeightConfig, refusals: Refusals) -> None:
    widths = config.peers.widths
    if not widths or any(not 0 < width <= 1 for width in widths):
        refusals.add("peers.widths", widths, "must be shares of the channels, each in (0, 1]")
    elif len(set(widths)) < len(widths):
        refusals.add("peers.widths", widths, "a width stands there twice; once is enough")
    elif config.method == "us" and 1.0 not in widths:
        refusals.add("peers.widths", widths, "the others learn from width 1, so it must be there")


SUPERWEIGHT_CHOICES = {
    "method": tuple(METHODS),
    "superweight.allocator": ("best", "greedy"),
    "superweight.nesting": ("chain", "union"),
    "superweight.initialization": ("fan_in", "official"),
    "superweight.join": ("all", "first"),
}

SUPERWEIGHT_RANGES: dict[str, Any] = {
    "ranks": COUNT,
    "evaluate.every": OR_NONE,
    "evaluate.batch_size": COUNT,
    "superweight.clusters": COUNT,
    "superweight.cap": COUNT,
    "superweight.search_steps": OR_NONE,
    "superweight.unshare_step": OR_NONE,
    "superweight.similarity_batches": COUNT,
    "superweight.tau": COSINE,
    "superweight.beta": COSINE,
    "superweight.cluster_groups": COUNT,
    "superweight.coefficient_groups": COUNT,
    "peers.deviation": OR_NONE,
    "peers.repetition": COUNT,
    "peers.equal": Range(low=0, high=1),
    "peers.drawn": Range(low=2),
}

LIMITS = Limits(
    # float16 is a value of the key, and refused with its reason.
    choices={**CHOICES, **SUPERWEIGHT_CHOICES},
    ranges={**RANGES, **SUPERWEIGHT_RANGES},
    relations=(_train, _members, _budget, _stages, _widths),
)
