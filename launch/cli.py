"""``blockstep COMMAND [key=value ...]``."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence

from .importing import uncollected
from .refusal import ConfigError, closest

__all__ = ["main"]

HANDLERS: Mapping[str, str] = {
    "train": "train",
    "search": "search.command",
    "federate": "federate.command",
    "partition": "partition.command",
    "superweight": "superweight.command",
    "bench": "bench.command",
    "plan": "plan.command",
    "evaluate": "evaluate",
    "export": "export",
    "report": "report",
    "status": "status",
    "stop": "status",
    "dashboard": "dashboard.command",
    "doctor": "doctor.command",
}
"""The module whose ``COMMAND_command`` does it; imported when it is wanted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The words after ``blockstep``; by default those of this process.

    Returns:
        The exit status: 0, 1 for a run that failed, 2 for what was refused, 130 for Ctrl-C.
    """
    if arguments is None:
        # Python looks for garbage as it ends, among all that torch has made: 1.2 s for nothing.
        atexit.register(gc.freeze)
        arguments = sys.argv[1:]
    # A user's own modules (model._target_=...) are importable from the current folder.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return _dispatch(list(arguments))
    except (ValueError, RuntimeError) as error:
        if not isinstance(error, _refusals()):
            raise
        print(f"blockstep: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _refusals() -> tuple[type[Exception], ...]:
    """What is told in a message instead of a traceback; imported only when there is an error."""
    from ..pipeline.checkpoint import CheckpointError
    from ..search import DecouplingError, ProfileError
    from ..search.psifile import PsiError
    from ..search.sharing.file import SharingError
    from .data import DataError

    return (
        ConfigError,
        CheckpointError,
        DecouplingError,
        ProfileError,
        PsiError,
        SharingError,
        DataError,
    )


def _dispatch(words: list[str]) -> int:
    from . import help as texts

    if not words or words[0] in ("--help", "-h", "help"):
        print(texts.overview())
        return 0
    if words[0] == "--version":
        print(texts.version())
        return 0
    command, rest = words[0], words[1:]
    if command not in HANDLERS:
        raise ConfigError(
            f"unknown command {command!r}{closest(command, HANDLERS)}; the commands are "
            f"{', '.join(HANDLERS)} (see blockstep --help)"
        )
    if "--help" in rest or "-h" in rest:
        print(texts.command_help(command))
        return 0
    if rest[:2] == ["--cfg", "job"]:
        print(texts.composed(command, rest[2:]))
        return 0
    if rest[:1] in (["-m"], ["--multirun"]):
        return _sweep(command, rest[1:])
    return _handler(command)(rest)


def _handler(command: str) -> Callable[[Sequence[str]], int]:
    with uncollected():
        module = importlib.import_module(f".{HANDLERS[command]}", __package__)
    return getattr(module, f"{command}_command")


def _sweep(command: str, words: Sequence[str]) -> int:
    """Run one job after the other; the worst status counts."""
    from .sweep import expand

    worst = 0
    for job in expand(words):
        print(f"blockstep {command} {' '.join(job)}", flush=True)
        worst = max(worst, _handler(command)(job))
        if worst == 130:
            break
    return worst
