"""Which values only a plan has, and what follows from a saved profile."""

from __future__ import annotations

from contextlib import suppress

from ...pipeline.optimization import OptimizationConfig
from ..limits import (
    CHOICES,
    COUNT,
    OR_NONE,
    POSITIVE,
    RANGES,
    SETUP_RELATIONS,
    Limits,
    Range,
    check_heads,
    check_values,
)
from ..refusal import Refusals, closest, shown
from .config import PlanConfig
from .words import WORDS

__all__ = ["LIMITS", "check_plan", "infer_plan"]

CUTS = ("balanced", "uniform")

FIXED = {
    "compile": "layers are timed one by one, without torch.compile",
    "chunk": "batches are timed as a whole; lower train.batch_size",
}
"""Keys of ``train`` that a plan leaves at their defaults, and why."""

TEXTS = ("profile", "save", "output", "data.name", "data.root")


def infer_plan(config: PlanConfig, given: set[str]) -> None:
    """Settle what follows from other keys and was not typed.

    The numbers of blocks are those for which there are devices; the batch of a saved profile is
    its largest.
    """
    if "blocks" not in given:
        config.blocks = [count for count in config.blocks if count <= config.devices] or [2]
    if config.profile is None or "train.batch_size" in given:
        return
    # Imported here: everything else is checked without loading torch.
    from ...search.prediction.measurements import Measurements
    from ...search.profile import ProfileError

    # A file that cannot be read is refused later, with its reason.
    with suppress(ProfileError):
        config.train.batch_size = Measurements.load(config.profile).largest.batch_size


def check_plan(config: PlanConfig, refusals: Refusals) -> None:
    """Note every impossible value of a configuration whose types are right."""
    check_values(config, LIMITS, TEXTS, refusals)
    for relation in (*SETUP_RELATIONS, *LIMITS.relations):
        relation(config, refusals)


def _methods(config: PlanConfig, refusals: Refusals) -> None:
    for word in config.methods:
        if word not in WORDS:
            refusals.add(
                "methods",
                config.methods,
                f"{shown(word)} is no way to train; choose of {', '.join(WORDS)}"
                f"{closest(word, WORDS)}",
            )
    if not config.methods:
        refusals.add("methods", [], "needs at least one, such as [ddp,sedona]")


def _blocks(config: PlanConfig, refusals: Refusals) -> None:
    if not config.blocks or any(count < 2 for count in config.blocks):
        refusals.add("blocks", config.blocks, "must be numbers of blocks of at least 2, as [2,4]")
    for count in config.blocks:
        if count > config.devices:
            refusals.add(
                "blocks",
                config.blocks,
                f"{count} blocks need as many devices, but there are devices={config.devices}",
            )


def _heads(config: PlanConfig, refusals: Refusals) -> None:
    if config.heads is not None:
        hint = "heads._target_=package.Head"
        check_heads("heads", config.heads, [config.heads], hint, refusals)


def _cuts(config: PlanConfig, refusals: Refusals) -> None:
    if config.decoupling is not None and config.decoupling not in CUTS:
        refusals.add(
            "decoupling",
            config.decoupling,
            f"choose one of {', '.join(CUTS)}, or null for what each method does",
        )


def _train(config: PlanConfig, refusals: Refusals) -> None:
    defaults = OptimizationConfig()
    for name, reason in FIXED.items():
        value, default = getattr(config.train, name), getattr(defaults, name)
        if value != default:
            refusals.add(f"train.{name}", value, f"{reason}; leave it at {shown(default)}")


def _files(config: PlanConfig, refusals: Refusals) -> None:
    if config.profile is not None and config.save is not None:
        refusals.add(
            "save",
            config.save,
            f"profile={config.profile} is read, so nothing is measured to be saved; give one",
        )


PLAN_RANGES = {
    "devices": COUNT,
    "scale": POSITIVE,
    "contention": Range(low=1),
    "memory_gib": POSITIVE,
    "microbatches": COUNT,
    "network.gbit": POSITIVE,
    "network.latency_us": OR_NONE,
    "network.overlap": Range(low=0, high=1),
    "pipeline.queue_messages": COUNT,
    "pipeline.queue_bytes": COUNT,
    "measure.repeats": COUNT,
    "measure.beside": OR_NONE,
    "measure.seconds": POSITIVE,
}

SHARED = ("seed", "data.", "train.", "device")


def _shared(table: dict) -> dict:
    """Return the entries of keys that a plan has too."""
    return {key: value for key, value in table.items() if key.startswith(SHARED)}


LIMITS = Limits(
    choices=_shared(dict(CHOICES)),
    ranges={**_shared(dict(RANGES)), **PLAN_RANGES},
    relations=(_methods, _blocks, _heads, _cuts, _train, _files),
)
