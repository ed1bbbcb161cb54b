"""Importing quickly."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["uncollected"]


@contextmanager
def uncollected() -> Iterator[None]:
    """Import without looking for garbage meanwhile.

    What an import makes lasts. Looking through it again and again took a quarter of the time in
    which ``torch`` and ``torch._dynamo`` are imported (2.9 s became 2.2 s).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
