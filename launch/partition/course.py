"""What is recorded of hyperparameters over the steps: all numbers, or norms of large ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..nested import leaves

__all__ = ["LONGEST", "course_of", "flat_course"]

LONGEST = 4096
"""So many numbers of a hyperparameter are recorded; of larger ones the norm."""


def course_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record tells of hyperparameters.

    Args:
        values: As `blockstep.models.hyperparameters.found` returns them.

    Returns:
        By name a number, both ends of a range, or the numbers of a mask as they are nested.
    """
    found: dict[str, Any] = {}
    for kind, inner in values.items():
        named = inner.items() if isinstance(inner, Mapping) else [(kind, inner)]
        for name, value in named:
            numbers = [float(one) for one in leaves(value)]
            short = len(numbers) <= LONGEST and kind != "layers"
            found[name] = value if short else math.sqrt(math.fsum(one * one for one in numbers))
    return found


def flat_course(course: Mapping[str, Any]) -> dict[str, float]:
    """Return every number by a name of its own: ``rotation``, ``mask/12``, ``scale_x/1``."""
    found: dict[str, float] = {}
    for name, value in course.items():
        numbers = [float(one) for one in leaves(value)]
        if isinstance(value, list):
            digits = len(str(len(numbers)))
            for place, one in enumerate(numbers, start=1):
                found[f"{name}/{place:0{digits}d}"] = one
        else:
            found[name] = numbers[0]
    return found
