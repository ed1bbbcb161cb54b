"""Running a command from its configuration to its exit status, under either launcher."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .compose import compose
from .config import RunConfig
from .folder import RunFolder
from .job import Objects
from .launcher import launch
from .membership import under_torchrun
from .outcome import Outcome
from .preparation import Preparation
from .program import find_program
from .torchrun import take_part

__all__ = ["run", "run_command"]


def run(
    command: str, config: RunConfig, objects: Objects, *, overrides: Sequence[str] = ()
) -> Outcome:
    """Prepare and run a job here, or as one of torchrun's ranks.

    Args:
        command: One of the commands that have a program.
        config: Its composed configuration.
        objects: What a Python caller brought along.
        overrides: What the user typed; applied on top of the saved configuration on resume.

    Raises:
        ConfigError: The run cannot be as asked.
    """
    program = find_program(command)

    def announce(preparation: Preparation[Any]) -> None:
        if config.log.view != "none":
            print(program.announcement(preparation), flush=True)

    if under_torchrun():
        outcome = take_part(command, config, objects, overrides=overrides, announce=announce)
    else:
        preparation = program.prepare(command, config, objects, overrides=overrides)
        announce(preparation)
        outcome = launch(preparation.job, objects)
    if outcome.summary is not None and config.log.view != "none":
        folder = RunFolder(Path(outcome.folder))
        print(program.closing(outcome.summary, folder), flush=True)
    return outcome


def run_command(command: str, overrides: Sequence[str]) -> int:
    """Run ``blockstep COMMAND OVERRIDES``.

    Returns:
        The exit status.
    """
    config = compose(command, overrides)
    if config.dry_run:
        program = find_program(command)
        preparation = program.prepare(command, config, Objects(), overrides=overrides, create=False)
        print(program.forecast(preparation))
        return 0
    outcome = run(command, config, Objects(), overrides=overrides)
    if outcome.failure is not None:
        report_failure(outcome)
    return outcome.exit_code


def report_failure(outcome: Outcome) -> None:
    """Print why a run failed; the last line names the stage, the rank and the cause."""
    failure = outcome.failure
    assert failure is not None
    if failure.traceback:
        print(failure.traceback, file=sys.stderr)
    print(f"blockstep: failed at {failure}", file=sys.stderr, flush=True)
