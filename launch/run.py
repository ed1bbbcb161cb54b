"""Running a command from its configuration to its exit status, under either launcher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .compose import compose
from .config import RunConfig
from .folder import RunFolder
from .job import Objects
from .launcher import launch
from .membership import under_torchrun
from .outcome import Outcome, report_failure
from .preparation import Preparation
from .program import find_program
from .refusal import ConfigError
from .restart import restarted
from .torchrun import take_part
from .view import tell

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
            tell(program.announcement(preparation))

    def start(config: RunConfig) -> Outcome:
        preparation = program.prepare(command, config, objects, overrides=overrides)
        announce(preparation)
        return launch(preparation.job, objects)

    if under_torchrun():
        if config.restarts:
            raise ConfigError(
                f"restarts={config.restarts}: torchrun starts the ranks here, so it has to start "
                f"them again: torchrun --max-restarts {config.restarts} ...; leave restarts out"
            )
        outcome = take_part(command, config, objects, overrides=overrides, announce=announce)
    else:
        outcome = restarted(start, config)
    if outcome.summary is not None and config.log.view != "none":
        folder = RunFolder(Path(outcome.folder))
        tell(program.closing(outcome.summary, folder))
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
        report_failure(outcome.failure)
    return outcome.exit_code
