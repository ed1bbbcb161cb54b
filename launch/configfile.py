"""A configuration as YAML: what a run keeps in ``config.yaml`` and a resume reads back.

The file may come from someone else: it is bounded in size and depth, and nothing in it is
resolved, expanded or executed.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal, overload

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .commands import COMMANDS, find_command
from .config import TrainConfig
from .refusal import ConfigError, Refusals, one_line, shown
from .schema import DEEPEST, build
from .search.config import SearchConfig

__all__ = ["LARGEST", "command_of", "config_from_yaml", "config_to_yaml"]

LARGEST = 1 << 20
"""The longest text that is read, in bytes (1 MiB)."""

_DEEPEST = DEEPEST + 4  # the value, below sections in sections


def config_to_yaml(config: Any) -> str:
    """Return the configuration as YAML, in the order of its fields.

    Args:
        config: A command's dataclass, such as `TrainConfig`.
    """
    return OmegaConf.to_yaml(OmegaConf.create(asdict(config)))


@overload
def config_from_yaml(text: str, name: Literal["train"]) -> TrainConfig: ...
@overload
def config_from_yaml(text: str, name: Literal["search"]) -> SearchConfig: ...
@overload
def config_from_yaml(text: str, name: str) -> Any: ...
def config_from_yaml(text: str, name: str) -> Any:
    """Read what `config_to_yaml` wrote, strictly and checked like a composed configuration.

    Args:
        text: YAML. Keys that it lacks keep their defaults, so that older runs can be read.
        name: The command that wrote it.

    Raises:
        ConfigError: The text is too long, too deep, no YAML mapping, or holds tags, aliases or
            references such as ``${x}``; or a key or a value is refused, all with their names.
    """
    entry = find_command(name)
    values = _values(text)
    writer = _writer(values)
    if writer != name:
        raise ConfigError(
            f"this is the configuration of `blockstep {writer}`, not of `blockstep {name}`; "
            f"use blockstep {writer} for it"
        )
    refusals = Refusals()
    config = build(entry.config, values, refusals)
    entry.check(config, refusals)
    refusals.raise_any()
    return config


def command_of(text: str) -> str:
    """Return the command whose configuration a text is.

    Args:
        text: What `config_to_yaml` wrote.

    Raises:
        ConfigError: It cannot be read.
    """
    return _writer(_values(text))


def _writer(values: dict[Any, Any]) -> str:
    """Every command but ``train`` has a section of its own, called like it."""
    return next((name for name in COMMANDS if name != "train" and name in values), "train")


def _values(text: str) -> dict[Any, Any]:
    _inspect(text)
    try:
        values = OmegaConf.to_container(OmegaConf.create(text))
    except (OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError) as error:
        raise _unreadable(str(error)) from None
    if not isinstance(values, dict):
        raise _unreadable("expected keys and values")
    return values


def _inspect(text: str) -> None:
    """Walk over the text's events, before anything is built from it.

    Raises:
        ConfigError: Something is in it that plain data does not need.
    """
    size, depth = len(text.encode(errors="replace")), 0
    if size > LARGEST:
        raise _unreadable(f"{size} bytes are more than a configuration can have ({LARGEST})")
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            problem = _problem(event, depth)
            if problem:
                raise _unreadable(f"line {event.start_mark.line + 1}: {problem}")
    except yaml.YAMLError as error:
        raise _unreadable(str(error)) from None


def _problem(event: yaml.Event, depth: int) -> str | None:
    if depth > _DEEPEST:
        return f"nested deeper than {_DEEPEST}"
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        return "anchors (&) and aliases (*) are not used here"
    if getattr(event, "tag", None):
        return f"tags such as {shown(event.tag)} are not used here"  # pyright: ignore
    if isinstance(event, yaml.ScalarEvent) and depth == 0:
        return "expected keys and values"
    if isinstance(event, yaml.ScalarEvent) and "${" in event.value:
        return f"{shown(event.value)}: references such as ${{x}} are not read from a file"
    return None


def _unreadable(reason: str) -> ConfigError:
    return ConfigError(f"cannot read the configuration: {one_line(reason, 400)}")
