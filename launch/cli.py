"""``blockstep COMMAND [key=value ...]``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from .refusal import ConfigError, closest

__all__ = ["main"]

Handler = Callable[[Sequence[str]], int]


def _train(words: Sequence[str]) -> int:
    from .train import train_command

    return train_command(words)


def _search(words: Sequence[str]) -> int:
    from .search.command import search_command

    return search_command(words)


def _federate(words: Sequence[str]) -> int:
    from .federate.command import federate_command

    return federate_command(words)


def _partition(words: Sequence[str]) -> int:
    from .partition.command import partition_command

    return partition_command(words)


def _superweight(words: Sequence[str]) -> int:
    from .superweight.command import superweight_command

    return superweight_command(words)


def _bench(words: Sequence[str]) -> int:
    from .bench.command import bench_command

    return bench_command(words)


def _plan(words: Sequence[str]) -> int:
    from .plan.command import plan_command

    return plan_command(words)


def _dashboard(words: Sequence[str]) -> int:
    from .dashboard.command import dashboard_command

    return dashboard_command(words)


def _doctor(words: Sequence[str]) -> int:
    from .doctor.command import doctor_command

    return doctor_command(words)


def _evaluate(words: Sequence[str]) -> int:
    from .evaluate import evaluate_command

    return evaluate_command(words)


def _export(words: Sequence[str]) -> int:
    from .export import export_command

    return export_command(words)


def _report(words: Sequence[str]) -> int:
    from .report import report_command

    return report_command(words)


def _status(words: Sequence[str]) -> int:
    from .status import status_command

    return status_command(words)


def _stop(words: Sequence[str]) -> int:
    from .status import stop_command

    return stop_command(words)


HANDLERS: dict[str, Handler] = {
    "train": _train,
    "search": _search,
    "federate": _federate,
    "partition": _partition,
    "superweight": _superweight,
    "bench": _bench,
    "plan": _plan,
    "evaluate": _evaluate,
    "export": _export,
    "report": _report,
    "status": _status,
    "stop": _stop,
    "dashboard": _dashboard,
    "doctor": _doctor,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The words after ``blockstep``; by default those of this process.

    Returns:
        The exit status: 0, 1 for a run that failed, 2 for what was refused, 130 for Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # A user's own modules (model._target_=...) are importable from the current folder.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return _dispatch(words)
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
    return HANDLERS[command](rest)


def _sweep(command: str, words: Sequence[str]) -> int:
    """Run one job after the other; the worst status counts."""
    from .sweep import expand

    worst = 0
    for job in expand(words):
        print(f"blockstep {command} {' '.join(job)}", flush=True)
        worst = max(worst, HANDLERS[command](job))
        if worst == 130:
            break
    return worst
