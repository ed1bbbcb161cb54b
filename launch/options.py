"""The few ``key=value`` words of commands that look at a run instead of starting one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .folder import RunFolder
from .refusal import ConfigError, closest

if TYPE_CHECKING:
    import torch

    from .program import Program

__all__ = ["EVALUATION", "read_options", "run_folder", "run_program", "wanted_device"]

EVALUATION: Mapping[str, Sequence[str] | None] = {
    "run": None,
    "checkpoint": ("last", "best"),
    "split": ("test", "validation", "train"),
    "data.root": None,
    "device": ("auto", "cpu", "cuda"),
}
"""What ``evaluate`` can be told of any run."""


def read_options(
    command: str, words: Sequence[str], known: Mapping[str, Sequence[str] | None]
) -> dict[str, str]:
    """Read ``key=value`` words.

    Args:
        command: The command, for errors.
        words: What was typed.
        known: Valid keys with their valid values, or None where any value is valid.

    Raises:
        ConfigError: A word has no ``=``, an unknown key, or an impossible value.
    """
    options: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"{command}: {word!r} is not key=value; e.g. run=runs/NAME")
        if key not in known:
            raise ConfigError(
                f"{command}: unknown key {key}={value}{closest(key, known)}; "
                f"valid are {', '.join(known)}"
            )
        choices = known[key]
        if choices is not None and value not in choices:
            raise ConfigError(f"{command}: {key}={value}; valid are {', '.join(choices)}")
        options[key] = value
    return options


def run_folder(command: str, options: Mapping[str, str]) -> RunFolder:
    """Return the folder that ``run=DIR`` names.

    Raises:
        ConfigError: There is no ``run=``, or it is not the folder of a run.
    """
    if "run" not in options:
        raise ConfigError(f"{command}: which run? Add run=runs/NAME")
    folder = RunFolder(Path(options["run"]))
    if not folder.config.exists():
        raise ConfigError(
            f"{command}: run={options['run']} is not the folder of a run: it has no config.yaml"
        )
    return folder


def wanted_device(options: Mapping[str, str]) -> torch.device:
    """Return the device that ``device=`` names; by default a GPU if there is one.

    Raises:
        ConfigError: A GPU was asked for and there is none.
    """
    import torch

    from .devices import device_kind

    return torch.device(device_kind(options.get("device", "auto"), ()))


def run_program(words: Sequence[str]) -> Program:
    """Return the program of the command that made the run which ``run=DIR`` names.

    A word that names no run yet is refused where the words are read; until then it is a training.
    """
    from .configfile import command_of
    from .program import find_program

    path = next((word[4:] for word in reversed(words) if word.startswith("run=")), None)
    config = RunFolder(Path(path)).config if path else None
    if config is None or not config.is_file():
        return find_program("train")
    return find_program(command_of(config.read_text()))
