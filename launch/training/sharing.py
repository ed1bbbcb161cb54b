"""How many ranks share each stage: decided once, kept by every resume."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...models import Network
from ...search import Decoupling, best_replicas
from ...search.decoupling import NO_HEAD
from ..assembly import build_metrics
from ..config import TrainConfig
from ..data import Data
from ..devices import cores, device_kind
from ..measurement import measure_profile
from ..membership import Membership
from ..refusal import ConfigError, shown
from .placement import place, replicas_of
from .runtime import runtime_of

__all__ = [
    "begin_division",
    "block_seconds",
    "check_metrics",
    "check_ranks",
    "divide",
    "keep_replicas",
]


def check_ranks(config: TrainConfig, member: Membership) -> None:
    """Refuse a number of ranks that is not that of the stages' replicas.

    Raises:
        ConfigError: torchrun started others, with both numbers.
    """
    if config.resume is not None:
        return
    pipeline = config.pipeline
    if pipeline.replicas == "auto":
        if member.world < config.blocks:
            raise ConfigError(
                f"torchrun started {member.world} ranks, but blocks={config.blocks} needs one for "
                f"each; start more (--nproc-per-node) or give blocks={member.world}"
            )
        if pipeline.ranks not in (None, member.world):
            raise ConfigError(
                f"pipeline.ranks={pipeline.ranks}, but torchrun started {member.world}; leave "
                f"pipeline.ranks out, or start {pipeline.ranks} (--nproc-per-node)"
            )
        return
    ranks = place(config, local_ranks=member.local_world).ranks
    if ranks == member.world:
        return
    if pipeline.replicas is not None:
        raise ConfigError(
            f"torchrun started {member.world} ranks, but pipeline.replicas="
            f"{shown(pipeline.replicas)} with blocks={config.blocks} needs {ranks}; start {ranks} "
            "ranks (--nproc-per-node) or give pipeline.replicas=auto"
        )
    runtime = runtime_of(config)
    others = f"give blocks={member.world * runtime.chunks}"
    if runtime.schedule:
        others = f"or {others}"
    else:
        others += ", or pipeline.replicas=auto"
    raise ConfigError(
        f"torchrun started {member.world} ranks, but blocks={config.blocks} with "
        f"runtime={config.runtime} needs {ranks}; start {ranks} ranks "
        f"(--nproc-per-node), {others}"
    )


def begin_division(config: TrainConfig, member: Membership | None) -> int | None:
    """Write the replicas of each stage into the configuration, if only for a start.

    Args:
        config: Gets a list in the place of null, a number or ``auto``.
        member: This rank, when a launcher outside has started all of them.

    Returns:
        How many ranks are still to be divided by measured times, or None. Until then they are
        divided evenly, which settles all that depends on their number.
    """
    ranks = None
    if config.pipeline.replicas == "auto":
        ranks = _ranks_to_divide(config, member)
        config.pipeline.replicas = list(best_replicas([1.0] * config.blocks, ranks))
        config.pipeline.ranks = None
    config.pipeline.replicas = list(replicas_of(config))
    return ranks


def _ranks_to_divide(config: TrainConfig, member: Membership | None) -> int:
    """Return how many ranks ``pipeline.replicas=auto`` divides."""
    if config.pipeline.ranks is not None:
        return config.pipeline.ranks
    if member is not None:
        return member.world
    if config.pipeline.devices:
        return max(config.blocks, len(config.pipeline.devices))
    cuda = device_kind(config.device, ()) == "cuda"
    return max(config.blocks, torch.cuda.device_count() if cuda else cores())


def divide(config: TrainConfig, seconds: Sequence[float], ranks: int) -> list[int]:
    """Return the replicas of each stage that make the slowest one fastest.

    Args:
        config: The run's configuration.
        seconds: Of each block per step.
        ranks: How many there are.

    Raises:
        ConfigError: A stage would have more replicas than examples.
    """
    replicas = list(best_replicas(seconds, ranks))
    if max(replicas) > config.train.batch_size:
        raise ConfigError(
            f"pipeline.replicas=auto divides {ranks} ranks as {shown(replicas)}, but "
            f"train.batch_size={config.train.batch_size} has no example for each; give fewer "
            "pipeline.ranks or a larger batch"
        )
    return replicas


def block_seconds(
    config: TrainConfig, network: Network, data: Data, decoupling: Decoupling
) -> list[float]:
    """Measure here what each block of a decoupling takes per step."""
    if decoupling.blocks == 1:
        return [1.0]
    heads = [head for head in decoupling.heads if head != NO_HEAD]
    unlike = [head for number, head in enumerate(heads) if head not in heads[:number]]
    device = place(config).device(0, 0)
    profile = measure_profile(config, network, data, heads=unlike, device=device)
    feedback = NO_HEAD in decoupling.heads
    return [
        profile.block_seconds(
            first,
            last,
            None if head in (None, NO_HEAD) else profile.head_index(head),
            feedback=feedback,
        )
        for (first, last), head in zip(decoupling.bounds(), [*decoupling.heads, None], strict=True)
    ]


def check_metrics(config: TrainConfig, classes: int) -> None:
    """Refuse a metric that several replicas cannot put together from their parts."""
    if max(replicas_of(config)) == 1:
        return
    for name, metric in build_metrics(config.train, classes).items():
        parts = metric.modules() if isinstance(metric, torch.nn.Module) else [metric]
        if not any(hasattr(part, "distributed_available_fn") for part in parts):
            raise ConfigError(
                f"train.metrics: {name} is no torchmetrics.Metric, so it would see only the "
                f"examples of one of pipeline.replicas={shown(config.pipeline.replicas)}; derive "
                "it from torchmetrics.Metric, or leave pipeline.replicas out"
            )


def keep_replicas(before: TrainConfig, now: TrainConfig, member: Membership | None) -> None:
    """Let a resumed run have the replicas that it had: others would not end at the same weights.

    Raises:
        ConfigError: Others were asked for, or torchrun started others; with both numbers.
    """
    had = list(replicas_of(before))
    asked = had if now.pipeline.replicas == "auto" else list(replicas_of(now))
    if asked != had:
        raise ConfigError(
            f"pipeline.replicas={shown(now.pipeline.replicas)}, but the run has {shown(had)}; "
            "leave it out, or begin a new run with another name"
        )
    now.pipeline.replicas, now.pipeline.ranks = had, None
    ranks = place(now).ranks
    if member is not None and member.world != ranks:
        raise ConfigError(
            f"torchrun started {member.world} ranks, but the run has {ranks}; start {ranks} "
            "(--nproc-per-node)"
        )
