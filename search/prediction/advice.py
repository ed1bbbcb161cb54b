"""Which method to choose, in words with numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .prediction import Prediction

__all__ = ["FASTEST", "SLOWEST", "advise", "turning_point"]

GIB = 1 << 30
WHOLE = ("backprop", "ddp")
SLOWEST, FASTEST = 1e6 / 8, 1e13 / 8
"""Bytes per second of 1 Mbit/s and of 10 Tbit/s: where a turning point is looked for."""


def advise(predictions: Sequence[Prediction], *, memory: float | None = None) -> str:
    """Return a sentence on the fastest method, and one on what it is compared with.

    Data parallelism is what everything else is measured against: where it is the fastest, the
    sentence says so and how far behind the best method is that cuts the network.

    Args:
        predictions: Of all methods; at least one.
        memory: Bytes of a device; what needs more is left out. None: any amount.
    """
    fitting = [one for one in predictions if _fits(one, memory)]
    if not fitting:
        least = min((one for one in predictions), key=lambda one: one.most_memory or 0)
        return (
            f"Nothing fits into {(memory or 0) / GIB:.3g} GiB per device; {_named(least)} needs "
            f"least, {_gib(least)}."
        )
    best = max(fitting, key=lambda one: one.images_per_second)
    words = (
        f"Fastest: {_named(best)}, {best.images_per_second:,.1f} images/s, "
        f"{best.speedup:.2f}x one device{_with_memory(best)}."
    )
    ddp = next((one for one in predictions if one.method == "ddp"), None)
    return f"{words} {_comparison(best, fitting, ddp)}".strip()


def turning_point(ahead: Callable[[float], bool], *, low: float, high: float) -> float | None:
    """Return the bandwidth at which the better of two methods changes, to 1 %.

    Args:
        ahead: Whether the first of them is the faster one at a bandwidth in bytes per second.
        low, high: Between which the turning point is looked for.

    Returns:
        Bytes per second; None if the same one is ahead at both ends.
    """
    first = ahead(low)
    if ahead(high) == first:
        return None
    while high > low * 1.01:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if ahead(middle) == first else (low, middle)
    return math.sqrt(low * high)


def _comparison(best: Prediction, fitting: Sequence[Prediction], ddp: Prediction | None) -> str:
    """Compare the best with data parallelism, or data parallelism with the best of the others."""
    others = [one for one in fitting if one.method not in WHOLE]
    if best.method not in WHOLE:
        if ddp is None:
            return ""
        if ddp not in fitting:
            return f"ddp does not fit into a device: it needs {_gib(ddp)}."
        gain = best.images_per_second / ddp.images_per_second
        return (
            f"That is {gain:.2f}x ddp on {ddp.devices} devices "
            f"({ddp.images_per_second:,.1f} images/s{_with_memory(ddp)})."
        )
    if not others:
        return ""
    second = max(others, key=lambda one: one.images_per_second)
    behind = 1 - second.images_per_second / best.images_per_second
    return (
        "Cutting the network gains no speed here: the best that does, "
        f"{_named(second)}, is {behind:.1%} slower{_with_memory(second)}."
    )


def _fits(one: Prediction, memory: float | None) -> bool:
    return memory is None or (one.most_memory or 0) <= memory


def _named(one: Prediction) -> str:
    blocks = f" with {one.blocks} blocks" if one.method not in WHOLE else ""
    devices = "1 device" if one.devices == 1 else f"{one.devices} devices"
    return f"{one.method}{blocks} on {devices}"


def _with_memory(one: Prediction) -> str:
    return "" if one.most_memory is None else f", at most {_gib(one)} per device"


def _gib(one: Prediction) -> str:
    return f"{(one.most_memory or 0) / GIB:.2f} GiB"
