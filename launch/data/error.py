"""The error of this room."""

from __future__ import annotations

__all__ = ["DataError"]


class DataError(ValueError):
    """Data that cannot be used: missing, damaged, or not what was asked for.

    The message names the file or the key, what was expected, what was found, and what to do.
    """
