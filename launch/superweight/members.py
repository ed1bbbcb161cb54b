"""From a configuration to the members of an ensemble, by its method."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ...models import Network
from ...models.ensembles import (
    MIMO,
    BatchEnsemble,
    DeepEnsemble,
    Slimmable,
    Universal,
    shapeshifter,
)
from ...models.ensembles.trainable import (
    GeneratedMembers,
    JointMembers,
    SeparateMembers,
    Trainable,
)
from ...models.superweight import (
    Sharing,
    Use,
    by_layer,
    demands,
    minimum,
    parse_budget,
    superweights,
    uses_of,
)
from ...pipeline.seed import derive
from ..assembly import build_network, instantiate, seeded
from ..config import SetupConfig
from ..job import Objects, Task
from ..refusal import ConfigError
from .config import SuperWeightConfig
from .method import METHODS

__all__ = [
    "budget_of",
    "build_ensemble",
    "build_members",
    "first_sharing",
    "learns_sharing",
    "member_specs",
    "uses_of_members",
]


def member_specs(config: SuperWeightConfig) -> list[dict[str, Any]]:
    """Return each member as the keys of ``model`` would describe it."""
    members = config.members or [config.model]
    return [dict(one) if isinstance(one, Mapping) else {"name": one} for one in members]


def build_members(config: SuperWeightConfig, task: Task, *, phase: str = "main") -> list[Network]:
    """Make all members with initial weights of their own, on the CPU.

    Args:
        config: The configuration.
        task: What the data look like.
        phase: The first ensemble and the main one begin apart.

    Raises:
        ConfigError: A member is unknown or cannot be made; it is named with its number.
    """
    found = []
    for number, spec in enumerate(member_specs(config)):
        seed = derive(config.seed, "member", number, phase)
        try:
            found.append(_own(spec, seed, task) if "_target_" in spec else _known(spec, seed, task))
        except ConfigError as error:
            raise ConfigError(f"members: number {number + 1}: {error}") from error
    return found


def _known(spec: dict[str, Any], seed: int, task: Task) -> Network:
    return build_network(SetupConfig(model=spec, seed=seed), Objects(), task)


def _own(spec: dict[str, Any], seed: int, task: Task) -> Network:
    """Make a user's module; nothing cuts it, so it needs no layers."""
    with seeded(seed, "network"):
        module = instantiate(spec, "members", classes=task.classes, in_channels=task.shape[0])
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"_target_={spec['_target_']} made a {type(module).__name__}; it has to make a "
            "torch.nn.Module"
        )
    return Network(type(module).__name__, module, (module,), nn.Identity())


def uses_of_members(config: SuperWeightConfig, networks: Sequence[Network]) -> list[Use]:
    """Return the weights of all members that templates can replace.

    Raises:
        ConfigError: There is none.
    """
    uses = uses_of([network.module for network in networks], linear=config.superweight.linear)
    if not uses and METHODS[config.method].templates:
        raise ConfigError(
            "the members have no convolutions, which templates would replace; give members with "
            "some, or superweight.linear=true for their linear layers"
        )
    return uses


def budget_of(config: SuperWeightConfig, uses: Sequence[Use]) -> int:
    """Return the budget in weights.

    By default that of the largest member; for hard sharing, the least that there can be.

    Raises:
        ConfigError: It is no budget.
    """
    sizes: dict[int, int] = {}
    for use in uses:
        sizes[use.member] = sizes.get(use.member, 0) + use.numel
    if config.budget is None:
        if config.method == "hard_sharing":
            return minimum(demands(by_layer(uses), uses))
        return max(sizes.values(), default=0)
    try:
        return parse_budget(config.budget, sum(sizes.values()))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def learns_sharing(config: SuperWeightConfig, networks: Sequence[Network]) -> bool:
    """Whether the clusters are to be learned: by default, where members differ."""
    if config.method != "superweight":
        return False
    sharing = config.superweight.sharing
    if sharing == "auto":
        specs = member_specs(config)
        different = any(spec != specs[0] for spec in specs)
        return different and bool(config.superweight.search_steps)
    return sharing == "learned"


def first_sharing(config: SuperWeightConfig, uses: Sequence[Use]) -> Sharing | None:
    """Return what a method shares without having learned it; None: bins of depth."""
    if config.method == "hard_sharing":
        return by_layer(uses, nesting=config.superweight.nesting)
    return None


def build_ensemble(
    config: SuperWeightConfig,
    task: Task,
    *,
    budget: int,
    phase: str = "main",
    sharing: Sharing | None = None,
    remarks: list[str] | None = None,
) -> Trainable:
    """Make the members of a phase, and what they share, on the CPU.

    Args:
        config: The configuration, settled.
        task: What the data look like.
        budget: Weights of all templates.
        phase: ``first``: they are there to learn what is shared. ``main``.
        sharing: What they share; None: bins of depth.
        remarks: Takes what the allocation of the budget remarks.

    Raises:
        ConfigError: The members, the budget or an option do not go together.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            made = _made(config, task, budget, phase, sharing)
    except ConfigError:
        raise
    except ValueError as error:  # of the models: all are about what was asked for
        raise ConfigError(f"method={config.method}: {error}") from error
    if remarks is not None:
        remarks += [str(one.message) for one in caught if one.category is UserWarning]
    return made


def _made(
    config: SuperWeightConfig, task: Task, budget: int, phase: str, sharing: Sharing | None
) -> Trainable:
    settings, method = config.superweight, config.method
    if METHODS[method].joint:
        return _joint(config, task)
    networks = build_members(config, task, phase=phase)
    modules = [network.module for network in networks]
    if method in ("deep", "single"):
        return SeparateMembers(DeepEnsemble(modules))
    with seeded(config.seed, "templates", phase):
        if method == "ssn":
            cap = {} if settings.cap is None else {"cap": settings.cap}
            return GeneratedMembers(
                shapeshifter(
                    modules, budget, groups=settings.clusters, linear=settings.linear, **cap
                )
            )
        if sharing is None:
            sharing = first_sharing(config, uses_of_members(config, networks))
        return GeneratedMembers(
            superweights(
                modules,
                budget,
                clusters=settings.clusters,
                sharing=sharing,
                own_coefficients=phase == "main",
                allocator=settings.allocator,
                cap=settings.cap,
                nesting=settings.nesting,
                initialization=settings.initialization,
                linear=settings.linear,
            )
        )


def _joint(config: SuperWeightConfig, task: Task) -> Trainable:
    """Make one network that is all members."""
    peers, count = config.peers, len(member_specs(config))
    if config.method == "mimo":
        channels, *rest = task.shape
        task = dataclasses.replace(
            task, shape=(channels * count, *rest), classes=task.classes * count
        )
    module = _first(config, task)
    with seeded(config.seed, "peers"):
        if config.method == "mimo":
            return JointMembers(MIMO(module, count, repetition=peers.repetition, equal=peers.equal))
        if config.method == "batch_ensemble":
            return JointMembers(
                BatchEnsemble(module, count, own_norms=peers.own_norms, deviation=peers.deviation)
            )
        if config.method == "us":
            return JointMembers(Universal(module, peers.widths, drawn=peers.drawn))
        return JointMembers(Slimmable(module, peers.widths))


def _first(config: SuperWeightConfig, task: Task) -> nn.Module:
    one = dataclasses.replace(config, members=config.members[:1])
    return build_members(one, task)[0].module
