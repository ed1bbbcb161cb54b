"""The command ``blockstep search``."""

from __future__ import annotations

from collections.abc import Sequence

from ..run import run_command

__all__ = ["search_command"]


def search_command(overrides: Sequence[str]) -> int:
    """Run ``blockstep search``.

    Returns:
        The exit status.
    """
    return run_command("search", overrides)
