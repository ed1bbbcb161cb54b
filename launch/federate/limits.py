"""Which values only a federation has."""

from __future__ import annotations

import math
from typing import Any

from ...pipeline.optimization import OptimizationConfig
from ...search.federated.settings import ASSIGNMENTS, AUGMENTATIONS, METHODS, SERVERS, SKEWS
from ..limits import CHOICES, COUNT, OR_NONE, POSITIVE, RANGES, SHARE, Limits, check
from ..refusal import Refusals, shown
from .config import FederateConfig

__all__ = ["LIMITS", "check_federate", "too_many_ranks"]

MOST = 255
"""Partitions; see ``blockstep.models.partitioned.MAX_PARTITIONS``, which needs torch."""

FIXED = {
    "reset_momentum": "a client's momenta are new in every round",
    "precision": "the updates of clients are float32",
    "channels_last": "a federation computes in the usual layout",
    "compile": "a partitioned network is composed anew for each step and is not compiled",
    "chunk": "a client takes a batch as a whole; lower train.batch_size",
    "metrics": "a federation reports loss and accuracy",
}
"""Keys of ``train`` that a federation leaves at their defaults, and why."""


def check_federate(config: FederateConfig, refusals: Refusals) -> None:
    """Note every impossible value of a configuration whose types are right."""
    check(config, LIMITS, refusals)


def _train(config: FederateConfig, refusals: Refusals) -> None:
    defaults = OptimizationConfig()
    for name, reason in FIXED.items():
        value, default = getattr(config.train, name), getattr(defaults, name)
        if value != default:
            refusals.add(f"train.{name}", value, f"{reason}; leave it at {shown(default)}")


def _chunks(config: FederateConfig, refusals: Refusals) -> None:
    chunks = config.federate.chunks
    problem = _shares(chunks)
    if problem:
        refusals.add("federate.chunks", chunks, problem)
        return
    if config.federate.method != "partitioned":
        return
    if len(chunks) < 2:
        refusals.add(
            "federate.chunks",
            chunks,
            "one chunk alone judges no hyperparameters; give at least two, or"
            " federate.method=fedavg",
        )
    elif len(chunks) > config.federate.clients:
        refusals.add(
            "federate.chunks",
            chunks,
            f"{len(chunks)} chunks, but federate.clients={config.federate.clients}; each chunk"
            " needs a client",
        )


def _shares(chunks: list[float]) -> str:
    """Return what is wrong with shares; nothing if they sum to one."""
    if not 1 <= len(chunks) <= MOST:
        return f"{len(chunks)} chunks; give 1 to {MOST}, the partition of a weight is one byte"
    if not all(share > 0 for share in chunks):
        return "each share must be above 0: an empty chunk teaches nothing"
    total = math.fsum(chunks)
    if abs(total - 1) > 1e-6:
        return f"the shares sum to {total:.6g}, they must sum to 1; divide each by {total:.6g}"
    return ""


def _clients(config: FederateConfig, refusals: Refusals) -> None:
    settings = config.federate
    if settings.per_round is not None and settings.per_round > settings.clients:
        refusals.add(
            "federate.per_round",
            settings.per_round,
            f"must be at most federate.clients={settings.clients}; null draws all",
        )
    if config.data.classes_per_batch is not None:
        refusals.add(
            "data.classes_per_batch",
            config.data.classes_per_batch,
            "a client's batches hold what it has; make clients differ with federate.skew=labels and"
            " a smaller federate.alpha",
        )
    if config.data.rotate and settings.skew == "rotation":
        refusals.add(
            "data.rotate",
            True,
            "federate.skew=rotation turns the images already, each by its client's angles; leave"
            " one of them out",
        )
    examples = config.data.train_examples
    if examples is not None and examples < settings.clients:
        refusals.add(
            "data.train_examples",
            examples,
            f"gives federate.clients={settings.clients} clients less than one each",
        )


def _psi(config: FederateConfig, refusals: Refusals) -> None:
    settings = config.federate
    if settings.method == "augerino" and settings.augmentation == "none":
        refusals.add(
            "federate.augmentation",
            "none",
            "federate.method=augerino learns augmentation and has its own ranges; leave it out, or"
            " choose federate.method=fedavg",
        )
    learns = settings.augmentation != "none" or settings.learn_dropout
    if settings.method == "partitioned" and not learns:
        refusals.add(
            "federate.learn_dropout",
            False,
            "with federate.augmentation=none nothing is left that partitions could judge;"
            " learn one of them, or choose federate.method=fedavg",
        )


def _ranks(config: FederateConfig, refusals: Refusals) -> None:
    problem = too_many_ranks(config, config.ranks or 1)
    if config.ranks is not None and problem:
        refusals.add("ranks", config.ranks, problem)


def too_many_ranks(config: FederateConfig, ranks: int) -> str:
    """Return why so many ranks have not enough to do; nothing if they have."""
    settings = config.federate
    drawn = settings.clients if settings.per_round is None else settings.per_round
    if ranks <= drawn:
        return ""
    return (
        f"{ranks} ranks share the {drawn} clients of each round, so {ranks - drawn} would have "
        f"nothing to do; give at most {drawn} ranks, or federate.per_round={ranks}"
    )


def _best(config: FederateConfig, refusals: Refusals) -> None:
    if config.checkpoint.best:
        refusals.add(
            "checkpoint.best",
            True,
            "the last state of a federation is its result; leave it at false",
        )


FEDERATE_RANGES: dict[str, Any] = {
    "ranks": COUNT,
    "federate.clients": COUNT,
    "federate.per_round": COUNT,
    "federate.unreachable": SHARE,
    "federate.alpha": POSITIVE,
    "federate.bins": COUNT,
    "federate.epochs": COUNT,
    "federate.server_lr": POSITIVE,
    "federate.server_eps": OR_NONE,
    "federate.samples": COUNT,
    "federate.psi_lr": POSITIVE,
    "federate.psi_batch": COUNT,
    "federate.psi_limit": POSITIVE,
    "federate.strength": OR_NONE,
    "evaluate.every": OR_NONE,
    "evaluate.batch_size": COUNT,
}

LIMITS = Limits(
    choices={
        **CHOICES,
        "federate.method": METHODS,
        "federate.skew": SKEWS,
        "federate.assignment": ASSIGNMENTS,
        "federate.server": SERVERS,
        "federate.augmentation": AUGMENTATIONS,
    },
    ranges={**RANGES, **FEDERATE_RANGES},
    relations=(_train, _chunks, _clients, _psi, _ranks, _best),
)
