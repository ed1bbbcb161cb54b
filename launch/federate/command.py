"""The command ``blockstep federate``."""

from __future__ import annotations

from collections.abc import Sequence

from ..run import run_command

__all__ = ["federate_command"]


def federate_command(overrides: Sequence[str]) -> int:
    """Run ``blockstep federate``.

    Returns:
        The exit status.
    """
    return run_command("federate", overrides)
