"""Which colour and dash a stage or a run has: the same one in every figure.

Six colours that keep apart for the three kinds of colour blindness (distances in CIELAB of at
least 15, simulated after Machado et al. 2009), in a light and a dark set in ``page.css``. From the
seventh on the colours come again, dashed and then dotted.
"""

from __future__ import annotations

__all__ = ["COLOURS", "INK", "colour"]

COLOURS = 6
DASHES = 3

INK = "ink"
"""The class of what belongs to no stage."""


def colour(index: int) -> str:
    """Return the classes of a stage's or run's lines.

    Args:
        index: From 1.
    """
    turn, place = divmod(index - 1, COLOURS)
    return f"c{place + 1} d{turn % DASHES + 1}"
