"""Budgets as people write them: 18M, 36.5M, 50%."""

from __future__ import annotations

import re
from decimal import Decimal

__all__ = ["parse_budget"]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}


def parse_budget(budget: int | float | str, own: int) -> int:
    """Return a budget as a number of weights.

    Args:
        budget: A number, alone or with ``k``, ``M`` or ``G``, or a share of ``own`` with ``%``.
        own: The weights that templates replace.

    Raises:
        ValueError: It is none of these, or not positive.
    """
    found = re.fullmatch(
        r"\s*(\d+(?:\.\d*)?(?:[eE][+-]?\d{1,2})?)\s*([kKmMgGbB%]?)\s*", str(budget)
    )
    if found is not None and not isinstance(budget, bool):
        number, unit = Decimal(found[1]), found[2].lower()
        weights = int(number * own / 100 if unit == "%" else number * _UNITS[unit])
        if weights >= 1:
            return weights
    raise ValueError(
        f"budget={budget!r}: must be a number of weights such as 18M, 500k or 1200000, or a share "
        f"such as 50% of the {own:,} weights that templates replace"
    )
