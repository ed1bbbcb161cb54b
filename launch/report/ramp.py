"""A scale of colours for what has an order, such as layers."""

from __future__ import annotations

__all__ = ["ramp"]

# Blue, magenta, orange: for the colour-blind it goes from blue to yellow, and every colour of it
# has a contrast of at least 3 to the light and to the dark ground.
STOPS = ((0x2F, 0x6F, 0xDB), (0xB8, 0x46, 0xA0), (0xD8, 0x6B, 0x0A))


def ramp(share: float) -> str:
    """Return the colour at a share of the scale, as ``#rrggbb``.

    Args:
        share: From 0 to 1.
    """
    place = min(max(share, 0.0), 1.0) * (len(STOPS) - 1)
    index = min(int(place), len(STOPS) - 2)
    part = place - index
    mixed = zip(STOPS[index], STOPS[index + 1], strict=True)
    return "#" + "".join(f"{round(low + part * (high - low)):02x}" for low, high in mixed)
