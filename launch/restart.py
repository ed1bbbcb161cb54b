"""Beginning again after a failure: ``restarts=N``, what ``--max-restarts`` is to torchrun.

    start --> failed at step 1234 --> start from the newest whole checkpoint --> ... --> finished

A run that fails twice in the same way at the same step would do so for ever: it is given up.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

from .config import RunConfig
from .outcome import Failure, Outcome, report_failure

__all__ = ["restarted"]


def restarted(start: Callable[[RunConfig], Outcome], config: RunConfig) -> Outcome:
    """Run a job, and again from its newest checkpoint while it fails.

    Args:
        start: Runs it once.
        config: Its configuration; ``restarts`` says how often it is begun again at most.

    Returns:
        How the last attempt ended.
    """
    outcome = start(config)
    for number in range(1, config.restarts + 1):
        failure = outcome.failure
        if failure is None:
            break
        report_failure(failure)
        folder = Path(outcome.folder)
        print(f"blockstep: restart {number} of {config.restarts}", file=sys.stderr, flush=True)
        again = dataclasses.replace(
            config, name=folder.name, runs=str(folder.parent), resume="auto"
        )
        outcome = start(again)
        if outcome.failure is not None and _same(failure, outcome.failure):
            print(
                "blockstep: it failed in the same way at the same step; it is not begun again",
                file=sys.stderr,
            )
            break
    return outcome


def _same(one: Failure, other: Failure) -> bool:
    return (one.where, one.step, one.text) == (other.where, other.step, other.text)
