"""Lists in lists, as JSON has tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["leaves"]


def leaves(value: Any) -> Iterator[Any]:
    """Yield what is in a list and in the lists of it, in order; what is no list is one itself."""
    if isinstance(value, list):
        for one in value:
            yield from leaves(one)
    else:
        yield value
