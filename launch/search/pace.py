"""How long the steps of a search take."""

from __future__ import annotations

__all__ = ["Pace"]


class Pace:
    """Seconds of the steps of each phase."""

    def __init__(self) -> None:
        self._totals: dict[str, tuple[int, float]] = {}
        self._since = (0, 0.0)

    def add(self, phase: str, seconds: float) -> None:
        """Note a step."""
        self._totals[phase] = _sum(self._totals.get(phase, (0, 0.0)), seconds)
        self._since = _sum(self._since, seconds)

    def take(self) -> float | None:
        """Return the mean seconds per step since this was last asked; None if there was no step."""
        steps, seconds = self._since
        self._since = (0, 0.0)
        return seconds / steps if steps else None

    def totals(self) -> dict[str, dict[str, float]]:
        """Return the steps of each phase and their seconds."""
        return {
            phase: {"steps": steps, "seconds": seconds}
            for phase, (steps, seconds) in self._totals.items()
        }


def _sum(total: tuple[int, float], seconds: float) -> tuple[int, float]:
    return total[0] + 1, total[1] + seconds
