"""What a command runs: the parts that the launchers put together, whatever the command does.

    blockstep COMMAND --> find_program(COMMAND)
        leader        prepare --> Preparation --> announcement, Job
        every rank    Job --> rank(job, ...).run()
        beside them   Job --> monitor.of(job, ...).poll() ... .conclude() --> summary --> closing

A further command adds a package with a ``PROGRAM``, and its name here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .folder import RunFolder
from .job import Job
from .membership import Membership
from .monitor import Monitor
from .preparation import Preparation
from .rank import Rank

__all__ = ["PROGRAMS", "Program", "find_program"]

PROGRAMS: Mapping[str, str] = {
    "train": "training",
    "search": "search",
    "federate": "federate",
    "partition": "partition",
    "superweight": "superweight",
}
"""Where the program of each command is; imported when it is wanted."""


@dataclass(frozen=True)
class Program:
    """The parts of a command that starts a run.

    Attributes:
        prepare: Decides a run: ``prepare(command, config, objects, overrides=, member=, create=)``.
        check_ranks: Refuses what torchrun started if the configuration does not fit that.
        job: What every rank is told.
        rank: What one process does.
        monitor: Follows the run, and concludes it.
        announcement: The lines that open a run.
        forecast: The lines of ``dry_run=true``.
        closing: The lines that close a run, from its summary.
        progress: The lines of ``blockstep status``, from the configuration and the records.
        evaluate: What ``blockstep evaluate`` does with its runs, with the words that were typed;
            None: what it does with a training's.
        export: What ``blockstep export`` does with its runs, likewise.
    """

    prepare: Callable[..., Preparation[Any]]
    check_ranks: Callable[[Any, Membership], None]
    job: type[Job]
    rank: Callable[..., Rank[Any]]
    monitor: type[Monitor[Any]]
    announcement: Callable[[Any], str]
    forecast: Callable[[Any], str]
    closing: Callable[[dict[str, Any], RunFolder], str]
    progress: Callable[[Any, Sequence[Mapping[str, Any]]], list[str]]
    evaluate: Callable[[Sequence[str]], int] | None = None
    export: Callable[[Sequence[str]], int] | None = None


def find_program(command: str) -> Program:
    """Return the program of one of the commands in ``PROGRAMS``."""
    return importlib.import_module(f".{PROGRAMS[command]}.program", __package__).PROGRAM
