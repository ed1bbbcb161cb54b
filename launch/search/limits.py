"""Which values only a search has."""

from __future__ import annotations

from typing import Any

from ...pipeline.optimization import OptimizationConfig
from ...search.settings import BATCH_NORM_MODES, PREFERENCES
from ..limits import (
    CHOICES,
    COUNT,
    OR_NONE,
    POSITIVE,
    RANGES,
    SHARE,
    Limits,
    Range,
    check,
    check_heads,
)
from ..refusal import Refusals, shown
from .config import SearchConfig

__all__ = ["LIMITS", "check_search"]

FIXED = {
    "optimizer": "a search differentiates through its inner steps, which are SGD with momentum",
    "nesterov": "a search differentiates through its inner steps, which are SGD with momentum",
    "reset_momentum": "a search differentiates through its momentum",
    "clip": "a search differentiates through its inner steps, which clip nothing",
    "precision": "a search differentiates twice and needs float32",
    "channels_last": "a search computes in the usual layout",
    "compile": "a search differentiates twice, which torch.compile does not",
    "chunk": "a search takes a batch as a whole; lower train.batch_size",
    "metrics": "a search reports the validation loss and accuracy",
}
"""Keys of ``train`` that a search leaves at their defaults, and why."""


def check_search(config: SearchConfig, refusals: Refusals) -> None:
    """Note every impossible value of a configuration whose types are right."""
    check(config, LIMITS, refusals)


def _train(config: SearchConfig, refusals: Refusals) -> None:
    defaults = OptimizationConfig()
    for name, reason in FIXED.items():
        value, default = getattr(config.train, name), getattr(defaults, name)
        if value != default:
            refusals.add(f"train.{name}", value, f"{reason}; leave it at {shown(default)}")


def _heads(config: SearchConfig, refusals: Refusals) -> None:
    heads = config.search.heads
    hint = "{_target_: package.Head}"
    check_heads("search.heads", heads, heads, hint, refusals)
    if not heads:
        refusals.add("search.heads", heads, "needs at least one head to choose from, such as aux1")
    if "predsim" in heads:
        refusals.add(
            "search.heads",
            heads,
            "predsim learns from a similarity loss that a search does not have; leave it out",
        )
    twice = [head for place, head in enumerate(heads) if head in heads[:place]]
    if twice:
        refusals.add("search.heads", heads, f"{shown(twice[0])} stands there twice; once is enough")


def _memory(config: SearchConfig, refusals: Refusals) -> None:
    steps, every, memory = config.train.steps, config.search.pretrain_every, config.search.memory
    if steps == 0:
        if memory != 1:
            refusals.add(
                "search.memory",
                memory,
                "train.steps=0 means no pretraining, so there is one snapshot, the initial weights;"
                " give search.memory=1, or pretraining steps",
            )
    elif every > 0 and memory > steps // every:
        refusals.add(
            "search.memory",
            memory,
            f"the pretraining makes {steps // every} snapshots, one every search.pretrain_every="
            f"{every} of train.steps={steps}; give at most so many, or validate more often",
        )


def _inner(config: SearchConfig, refusals: Refusals) -> None:
    settings = config.search
    if settings.keep_graphs > settings.inner_steps:
        refusals.add(
            "search.keep_graphs",
            settings.keep_graphs,
            f"there are only search.inner_steps={settings.inner_steps} graphs to keep",
        )
    if len(settings.betas) != 2 or any(beta not in SHARE for beta in settings.betas):
        refusals.add("search.betas", settings.betas, f"must be two numbers, each {SHARE}")


def _ranks(config: SearchConfig, refusals: Refusals) -> None:
    problem = too_many_ranks(config, config.ranks or 1)
    if config.ranks is not None and problem:
        refusals.add("ranks", config.ranks, problem)


def too_many_ranks(config: SearchConfig, ranks: int) -> str:
    """Return why so many ranks have not enough to do; nothing if they have."""
    samples = config.search.samples
    if ranks <= samples:
        return ""
    return (
        f"{ranks} ranks share search.samples={samples} of each outer step, so "
        f"{ranks - samples} would have nothing to do; give at most {samples} ranks, or "
        f"search.samples={ranks}"
    )


def _validation(config: SearchConfig, refusals: Refusals) -> None:
    if config.data.validation == 0:
        refusals.add(
            "data.validation",
            config.data.validation,
            "a search learns from a validation part; give a share above 0, such as 0.4",
        )


def _best(config: SearchConfig, refusals: Refusals) -> None:
    if config.checkpoint.best:
        refusals.add(
            "checkpoint.best",
            True,
            "the last state of a search is its result; leave it at false",
        )


SEARCH_RANGES: dict[str, Any] = {
    "blocks": Range(low=2),
    "ranks": COUNT,
    "train.steps": OR_NONE,
    "search.steps": COUNT,
    "search.inner_steps": COUNT,
    "search.samples": COUNT,
    "search.memory": COUNT,
    "search.pretrain_every": COUNT,
    "search.lr": POSITIVE,
    "search.weight_decay": OR_NONE,
    "search.validation_batch": COUNT,
    "search.keep_graphs": OR_NONE,
}

LIMITS = Limits(
    choices={**CHOICES, "search.batch_norm": BATCH_NORM_MODES, "search.prefer": PREFERENCES},
    ranges={**RANGES, **SEARCH_RANGES},
    relations=(_train, _heads, _memory, _inner, _ranks, _validation, _best),
)
