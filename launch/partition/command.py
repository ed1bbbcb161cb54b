"""The command ``blockstep partition``."""

from __future__ import annotations

from collections.abc import Sequence

from ..run import run_command

__all__ = ["partition_command"]


def partition_command(overrides: Sequence[str]) -> int:
    """Run ``blockstep partition``.

    Returns:
        The exit status.
    """
    return run_command("partition", overrides)
