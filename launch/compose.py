"""From the words of a command line to a checked configuration, before anything is started.

Hydra's files and grammar, without ``hydra.main``: no output folder, no logging, and no global
state is left behind. Hydra composes the files that were chosen; the keys that were typed are then
set here, one by one, so that every problem is named with its key and all are reported together.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from typing import Any, Literal, TypeVar, overload

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from hydra.version import VersionBase
from omegaconf import OmegaConf
from omegaconf.basecontainer import BaseContainer

from .commands import BROUGHT, COMMANDS, CONF, PRESET, Command, choices, conf_text, find_command
from .config import TrainConfig
from .configfile import config_from_yaml, config_to_yaml
from .keys import TARGET, Keys, flatten
from .overrides import Assignment, read
from .partition.config import PartitionConfig
from .plan.config import PlanConfig
from .refusal import ConfigError, Refusals, closest
from .schema import build, sections
from .search.config import SearchConfig
from .superweight.config import SuperWeightConfig

__all__ = [
    "COMMANDS",
    "Command",
    "ConfigError",
    "apply_overrides",
    "compose",
    "config_from_yaml",
    "config_to_yaml",
    "hydra_session",
    "validate",
]

T = TypeVar("T")

_LOCK = threading.Lock()


@overload
def compose(name: Literal["train"], overrides: Sequence[str]) -> TrainConfig: ...
@overload
def compose(name: Literal["search"], overrides: Sequence[str]) -> SearchConfig: ...
@overload
def compose(name: Literal["partition"], overrides: Sequence[str]) -> PartitionConfig: ...
@overload
def compose(name: Literal["superweight"], overrides: Sequence[str]) -> SuperWeightConfig: ...
@overload
def compose(name: Literal["plan"], overrides: Sequence[str]) -> PlanConfig: ...
@overload
def compose(name: str, overrides: Sequence[str]) -> Any: ...
def compose(name: str, overrides: Sequence[str]) -> Any:
    """Make the configuration of one run.

    Args:
        name: A command of `COMMANDS`.
        overrides: What follows the command, e.g. ``["model=resnet50", "train.lr=0.05"]``.

    Returns:
        The command's dataclass, complete and checked.

    Raises:
        ConfigError: One line for each problem, with the key, the value and what would be valid.
    """
    entry, refusals = find_command(name), Refusals()
    chosen, settings = _read(entry, overrides, refusals)
    replaced = {group for group in entry.groups if _has_target(group, settings)}
    made = _choose(entry, chosen, replaced, refusals)
    base = dict(_files(name, tuple(made.items())))
    if entry.presets in made:
        base[PRESET] = made[entry.presets]
    # The keys of a refused choice are unknown: nothing is said about them.
    refused = {group for group in entry.groups if group not in replaced | set(made)}
    settings = [one for one in settings if one.key.partition(".")[0] not in refused]
    return _settle(entry, base, settings, replaced, refusals)


def apply_overrides(config: T, overrides: Sequence[str]) -> T:
    """Change a configuration that was read back, e.g. on resume; it stays as it is.

    Args:
        config: A command's dataclass. Files are not composed again, so a recipe that has changed
            since does not matter.
        overrides: What was typed now. ``model=NAME`` and ``data=NAME`` may repeat what the
            configuration has, and not change it.

    Raises:
        ConfigError: One line for each problem.
    """
    entry, refusals = _entry_of(config), Refusals()
    base = asdict(config)  # pyright: ignore[reportArgumentType]
    chosen, settings = _read(entry, overrides, refusals)
    current = {group: _current(base[group]) for group in entry.groups}
    if entry.has_presets:
        current[PRESET] = str(base[PRESET] or "null")
    for group, one in chosen.items():
        if one.word != current[group]:
            refusals.add(group, one.text, _fixed(group, current[group]))
    for group, fixed in current.items():
        for one in [one for one in settings if one.key == f"{group}.{TARGET}"]:
            settings.remove(one)
            if one.word != fixed:
                refusals.add(one.key, one.text, _fixed(group, fixed))
    replaced = {group for group in entry.groups if _class_of(base[group])}
    return _settle(entry, base, settings, replaced, refusals)


def validate(config: T) -> T:
    """Check a configuration that was not composed, such as one built in Python.

    Returns:
        A copy with every value in the type of its key, such as ``lr=1`` as 1.0.

    Raises:
        ConfigError: One line for each problem, with the key, the value and what would be valid.
    """
    refusals = Refusals()
    typed = build(type(config), asdict(config), refusals)  # pyright: ignore[reportArgumentType]
    refusals.raise_any()
    _entry_of(config).check(typed, refusals)
    refusals.raise_any()
    return typed


@contextmanager
def hydra_session() -> Iterator[None]:
    """Start Hydra with our files as its search path; put its global state back afterwards.

    A caller may be inside ``hydra.main`` or a session of its own: Hydra allows one at a time.
    """
    with _LOCK:
        instances, resolvers = Singleton._instances, BaseContainer._resolvers
        session = (GlobalHydra, JobRuntime, VersionBase)
        Singleton._instances = {k: v for k, v in instances.items() if k not in session}
        BaseContainer._resolvers = dict(resolvers)
        try:
            with hydra.initialize_config_module(CONF, version_base="1.3"):
                yield
        finally:
            # What Hydra registered on import, or found installed, belongs to no session.
            new = {k: v for k, v in Singleton._instances.items() if k not in session}
            instances.update(new)
            Singleton._instances, BaseContainer._resolvers = instances, resolvers


def _read(
    entry: Command, overrides: Sequence[str], refusals: Refusals
) -> tuple[dict[str, Assignment], list[Assignment]]:
    """Separate choices of files (the last one of each group counts) from settings of keys."""
    inner = sections(entry.config) | set(entry.groups)
    typed = flatten(read(overrides, refusals), inner)
    files = {*entry.groups, *([PRESET] if entry.has_presets else ())}
    chosen = {one.key: one for one in typed if one.key in files}
    return chosen, [one for one in typed if one.key not in files]


def _has_target(group: str, settings: Sequence[Assignment]) -> bool:
    return any(one.key == f"{group}.{TARGET}" for one in settings)


def _choose(
    entry: Command, chosen: Mapping[str, Assignment], replaced: set[str], refusals: Refusals
) -> dict[str, str]:
    """Return the file of every group that has one; a refused choice has none."""
    preset = _choose_preset(entry, chosen, refusals)
    made = {}
    for group, default in {**_defaults(entry, chosen), **_groups_of(preset)}.items():
        known = choices(group)
        if group not in chosen:
            made |= {} if group in replaced else {group: default}
        elif group in replaced:
            reason = f"cannot be combined with {group}.{TARGET}; give one of them"
            refusals.add(group, chosen[group].text, reason)
        elif chosen[group].word in known:
            made[group] = chosen[group].word
        else:
            refusals.add(
                group,
                chosen[group].text,
                f"there is no such choice; choose one of {', '.join(known)}, or your own class by"
                f" {group}.{TARGET}=package.Class{closest(chosen[group].word, known)}",
            )
    return made | preset


def _defaults(entry: Command, chosen: Mapping[str, Assignment]) -> dict[str, str]:
    """Return the file of every group of which none is typed, by what is typed of others."""
    defaults = dict(entry.groups)
    for (group, word), brought in BROUGHT.items():
        if group in chosen and chosen[group].word == word:
            defaults |= {name: one for name, one in brought.items() if name in defaults}
    return defaults


def _choose_preset(
    entry: Command, chosen: Mapping[str, Assignment], refusals: Refusals
) -> dict[str, str]:
    """Return the command's preset if one was chosen that exists."""
    one = chosen.get(PRESET)
    if one is None or one.value is None:
        return {}
    known = choices(entry.presets)
    if one.word in known:
        return {entry.presets: one.word}
    hint = f"choose one of {', '.join(known)}, or null{closest(one.word, known)}"
    refusals.add(PRESET, one.text, f"there is no such choice; {hint}")
    return {}


def _groups_of(preset: Mapping[str, str]) -> dict[str, str]:
    """Return the files of other groups that a preset chooses: ``- override /GROUP: NAME``."""
    found = {}
    for folder, name in preset.items():
        for line in yaml.safe_load(conf_text(f"{folder}/{name}")).get("defaults", []):
            found |= {group.removeprefix("override /"): choice for group, choice in line.items()}
    return found


@lru_cache(maxsize=64)
def _files(name: str, chosen: tuple[tuple[str, str], ...]) -> Mapping[str, Any]:
    """Return the defaults with the chosen files over them, as plain data that nobody may change.

    After the primary file comes the recipe of the pair, such as ``recipe/resnet18-digits.yaml``
    (of other commands than train ``recipe/COMMAND/...``), and last of all the preset.
    """
    entry, made = COMMANDS[name], dict(chosen)
    defaults = asdict(entry.config())
    for group in set(entry.groups) - sections(entry.config):
        del defaults[group]  # a free mapping: its keys are those of the chosen file
    overrides = [f"{g}={made[g]}" if g in made else f"~{g}" for g in entry.groups]
    pair = "-".join(made.get(group, "") for group in ("model", "data"))
    recipes = "recipe" if entry.primary == "train" else f"recipe/{entry.primary}"
    if pair in choices(recipes):
        overrides.append(f"+{recipes}={pair}")
    if entry.presets in made:
        overrides.append(f"+{entry.presets}={made[entry.presets]}")
    with hydra_session():
        composed = OmegaConf.merge(defaults, hydra.compose(entry.primary, overrides))
    values = OmegaConf.to_container(composed)
    assert isinstance(values, dict)
    for group in set(entry.groups) - sections(entry.config) - set(made):
        values.pop(group, None)  # a preset's keys are for its own choice, not for a user's class
    return {str(key): value for key, value in values.items()}


def _settle(
    entry: Command,
    base: Mapping[str, Any],
    settings: Sequence[Assignment],
    replaced: set[str],
    refusals: Refusals,
) -> Any:
    """Apply the settings to the base, and check the whole.

    Raises:
        ConfigError: Anything was refused, here or before.
    """
    keys = Keys(entry.config, entry.groups, base, replaced)
    values, given = keys.assign(base, settings, refusals)
    for group in replaced & sections(entry.config):
        # A section without a file is called after the user's class.
        target = (values[group].get("target") or {}).get(TARGET)
        if f"{group}.target.{TARGET}" in given and f"{group}.name" not in given:
            values[group]["name"] = str(target).rpartition(".")[2]
    config = build(entry.config, values, refusals)
    entry.infer(config, given)
    entry.check(config, refusals)
    refusals.raise_any()
    return config


def _entry_of(config: Any) -> Command:
    return next(entry for entry in COMMANDS.values() if entry.config is type(config))


def _class_of(group: Mapping[str, Any]) -> str | None:
    """Return the user's class in the values of a group, be it a free mapping or a section."""
    return group.get(TARGET) or (group.get("target") or {}).get(TARGET)


def _current(group: Mapping[str, Any]) -> str:
    return _class_of(group) or str(group.get("name"))


def _fixed(group: str, current: str) -> str:
    return f"this run has {group}={current}, which cannot change; begin a new run with another name"
