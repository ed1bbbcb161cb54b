"""Which values only a partitioned training has."""

from __future__ import annotations

import math
from typing import Any

from ...pipeline.optimization import OptimizationConfig
from ..limits import CHOICES, COUNT, OR_NONE, POSITIVE, RANGES, SHARE, Limits, Range, check
from ..refusal import Refusals, shown
from .config import PartitionConfig, PartitionsConfig, PsiConfig

__all__ = ["LIMITS", "METHODS", "PSI", "WHOLE", "check_partition", "infer_partition"]

PSI = ("affine", "affine_ranges", "augerino", "mask", "dropout", "layers", "none")
"""What can be learned; what each does is in models/hyperparameters/found.py."""

AUGMENTATIONS = PSI[:3]
MOST = 255
TOLERANCE = 1e-6

FIXED = {
    "loss": "L_ML is a likelihood, so the loss is the cross entropy",
    "metrics": "L_ML and the accuracy are reported",
    "precision": "L_ML is compared between steps and needs float32",
    "channels_last": "partitions are composed in the usual layout",
    "compile": "the weights are composed anew in each step",
    "chunk": "a batch is taken as a whole; lower train.batch_size",
}
"""Keys of ``train`` that are left at their defaults here, and why."""

METHODS = ("partitioned", "plain", "random", "augerino", "validation", "independent")

ALONE = {
    "finetune": "validation",
    "finetune_lr": "validation",
    "reward": "augerino",
    "safe": "augerino",
}
"""Keys of ``partition`` that only one method has."""

WHOLE = ("plain", "random", "augerino", "validation")
"""Methods with one partition, the whole network."""

OWN = {
    "samples": AUGMENTATIONS,
    "training_samples": AUGMENTATIONS,
    "initial": (*AUGMENTATIONS, "mask"),
    "rotation": AUGMENTATIONS,
    "symmetric": ("affine_ranges",),
    "temperature": ("mask", "dropout"),
    "layers": ("layers",),
}
"""Keys of ``psi`` that only some kinds have."""


def check_partition(config: PartitionConfig, refusals: Refusals) -> None:
    """Note every impossible value of a configuration whose types are right."""
    check(config, LIMITS, refusals)


def infer_partition(config: PartitionConfig, given: set[str]) -> None:
    """Settle the chunks that a method has if none were typed."""
    if "partition.chunks" not in given:
        if config.partition.method in ("plain", "augerino"):
            config.partition.chunks = [1.0]
        elif config.partition.method in ("validation", "random"):
            config.partition.chunks = [0.9, 0.1]


def _method(config: PartitionConfig, refusals: Refusals) -> None:
    own, defaults = config.partition, PartitionsConfig()
    for name, method in ALONE.items():
        value = getattr(own, name)
        if own.method != method and value != getattr(defaults, name):
            refusals.add(
                f"partition.{name}",
                value,
                f"is for partition.method={method}, not for {own.method}; leave it out",
            )
    if own.method in WHOLE:
        for name in ("parameters", "kind", "defaults"):
            value = getattr(own, name)
            if value != getattr(defaults, name):
                refusals.add(
                    f"partition.{name}",
                    value,
                    f"partition.method={own.method} does not divide the weights; leave it out",
                )
        _check_counts(own, refusals)
    if own.method == "augerino" and config.psi.name != "augerino":
        refusals.add("psi", config.psi.name, "partition.method=augerino needs psi=augerino")
    if own.method == "random" and config.psi.name not in ("affine", "affine_ranges"):
        refusals.add(
            "psi",
            config.psi.name,
            "partition.method=random draws ranges; choose psi=affine or affine_ranges",
        )
    if own.method == "validation" and own.finetune >= config.train.steps:
        refusals.add(
            "partition.finetune",
            own.finetune,
            f"nothing is left of train.steps={config.train.steps}; give fewer",
        )


def _check_counts(own: PartitionsConfig, refusals: Refusals) -> None:
    wanted = {"plain": (1,), "augerino": (1,), "validation": (2,), "random": (1, 2)}[own.method]
    if len(own.chunks) not in wanted:
        refusals.add(
            "partition.chunks",
            own.chunks,
            f"partition.method={own.method} has {' or '.join(map(str, wanted))}: "
            + ("all examples" if wanted == (1,) else "one to learn from, one that judges"),
        )


def _shares(config: PartitionConfig, refusals: Refusals) -> None:
    """Check the chunks, and the proportions of the weights where they have their own."""
    chunks, parameters = config.partition.chunks, config.partition.parameters
    if config.partition.method in WHOLE and chunks == [1.0]:
        return
    _check_shares("partition.chunks", chunks, refusals)
    if parameters is None:
        return
    _check_shares("partition.parameters", parameters, refusals)
    if len(parameters) != len(chunks):
        refusals.add(
            "partition.parameters",
            parameters,
            f"names {len(parameters)} partitions for the {len(chunks)} chunks of partition.chunks="
            f"{shown(chunks)}; partition k learns from chunks 1 to k, so give as many",
        )


def _check_shares(key: str, shares: list[float], refusals: Refusals) -> None:
    if not 2 <= len(shares) <= MOST:
        refusals.add(
            key,
            shares,
            f"has {len(shares)} entries; give 2 to {MOST}: the last judges, and the partition of a"
            " weight is one byte",
        )
    if any(share <= 0 for share in shares):
        refusals.add(key, shares, "each share has to be above 0, or nothing is in it")
    total = math.fsum(shares)
    if abs(total - 1) > TOLERANCE:
        refusals.add(
            key,
            shares,
            f"sums to {total:.6g}, not to 1; divide each by {total:.6g}, in full precision",
        )


def _ranks(config: PartitionConfig, refusals: Refusals) -> None:
    partitions, ranks = len(config.partition.chunks), config.ranks
    if problem := impossible_ranks(config, ranks or 1):
        refusals.add("ranks", ranks, problem)
    if config.partition.staleness and (ranks == 1 or config.partition.method != "partitioned"):
        refusals.add(
            "partition.staleness",
            config.partition.staleness,
            f"one process has no copies that could be old; give ranks={partitions}, or leave it"
            " out",
        )


def impossible_ranks(config: PartitionConfig, ranks: int) -> str:
    """Return why so many ranks cannot share the work; nothing if they can."""
    partitions = len(config.partition.chunks)
    method = config.partition.method
    if ranks == 1 or (ranks == partitions and method == "partitioned"):
        return ""
    if method != "partitioned":
        return f"partition.method={method} is one process; leave it out"
    return (
        f"{ranks} ranks for {partitions} partitions: each rank owns one; give {partitions} ranks "
        "(under torchrun --nproc-per-node), or 1"
    )


def _train(config: PartitionConfig, refusals: Refusals) -> None:
    defaults = OptimizationConfig()
    for name, reason in FIXED.items():
        value, default = getattr(config.train, name), getattr(defaults, name)
        if value != default:
            refusals.add(f"train.{name}", value, f"{reason}; leave it at {shown(default)}")


def _psi(config: PartitionConfig, refusals: Refusals) -> None:
    psi, defaults = config.psi, PsiConfig()
    for name, kinds in OWN.items():
        value = getattr(psi, name)
        if psi.name not in kinds and value != getattr(defaults, name):
            refusals.add(
                f"psi.{name}", value, f"is for psi={', '.join(kinds)}, not for psi={psi.name}"
            )
    if psi.name == "layers" and not psi.layers:
        refusals.add(
            "psi.layers",
            psi.layers,
            "psi=layers needs names of parameters or modules, such as [conv1,blocks.0]",
        )
    if psi.every > config.train.steps and psi.name != "none":
        refusals.add(
            "psi.every",
            psi.every,
            f"nothing is learned within train.steps={config.train.steps}; give a smaller number",
        )


def _classes(config: PartitionConfig, refusals: Refusals) -> None:
    if config.data.classes_per_batch is not None:
        refusals.add(
            "data.classes_per_batch",
            config.data.classes_per_batch,
            "batches are drawn from the chunks; leave it out",
        )


PARTITION_RANGES: dict[str, Any] = {
    "ranks": COUNT,
    "partition.staleness": OR_NONE,
    "partition.finetune": OR_NONE,
    "partition.finetune_lr": POSITIVE,
    "partition.reward": OR_NONE,
    "psi.samples": COUNT,
    "psi.training_samples": COUNT,
    "psi.temperature": POSITIVE,
    "psi.lr": POSITIVE,
    "psi.momentum": SHARE,
    "psi.clip": POSITIVE,
    "psi.batch_size": COUNT,
    "psi.every": COUNT,
    "psi.limit": POSITIVE,
    "pipeline.queue_messages": COUNT,
    "pipeline.queue_bytes": COUNT,
    "evaluate.every": OR_NONE,
    "evaluate.batch_size": COUNT,
    "psi.rotation": Range(low=-100, high=100),
}

LIMITS = Limits(
    choices={
        **CHOICES,
        "psi.name": PSI,
        "psi.optimizer": ("adam", "adamw", "sgd"),
        "psi.schedule": ("constant", "cosine"),
        "partition.method": METHODS,
        "partition.kind": ("random", "node"),
        "partition.defaults": ("initial", "zero", "seeded"),
        "partition.decay": ("reciprocal", "sqrt", "none"),
    },
    ranges={**RANGES, **PARTITION_RANGES},
    relations=(_method, _shares, _ranks, _train, _psi, _classes),
)
