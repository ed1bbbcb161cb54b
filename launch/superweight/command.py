"""The command ``blockstep superweight``."""

from __future__ import annotations

from collections.abc import Sequence

from ..run import run_command

__all__ = ["superweight_command"]


def superweight_command(overrides: Sequence[str]) -> int:
    """Run ``blockstep superweight``.

    Returns:
        The exit status.
    """
    return run_command("superweight", overrides)
