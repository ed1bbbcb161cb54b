"""What a federation has sent and reached so far; it outlives a resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...search.federated import Round

__all__ = ["AVERAGED", "Course"]

AVERAGED = 10
"""Evaluations whose mean is the result (Mlodozeniec et al., ICLR 2023, Table 4)."""

COUNTED = ("drawn", "answering", "bytes_up", "bytes_down")


class Course:
    """Sums over rounds, and the newest evaluations."""

    def __init__(self) -> None:
        self._total = dict.fromkeys(COUNTED, 0)
        self._told = dict.fromkeys(COUNTED, 0)
        self._accuracies: list[list[float]] = []

    def add(self, done: Round) -> None:
        """Take a round."""
        for name in COUNTED:
            self._total[name] += getattr(done, name)

    def take(self) -> dict[str, Any]:
        """Return the sums since this was last asked, and the bytes of all rounds."""
        since = {name: self._total[name] - self._told[name] for name in COUNTED}
        self._told = dict(self._total)
        return {
            "clients": since["drawn"],
            "lost": since["drawn"] - since["answering"],
            "bytes_up": since["bytes_up"],
            "bytes_down": since["bytes_down"],
            "total_bytes": self._total["bytes_up"] + self._total["bytes_down"],
        }

    def evaluated(self, number: int, accuracy: float) -> None:
        """Note an evaluation; one of the same round is replaced."""
        kept = [entry for entry in self._accuracies if entry[0] < number]
        self._accuracies = [*kept, [number, accuracy]][-AVERAGED:]

    def totals(self) -> dict[str, Any]:
        """Return the sums over all rounds, and the mean of the last evaluations."""
        accuracies = [accuracy for _, accuracy in self._accuracies]
        return {
            "clients_drawn": self._total["drawn"],
            "clients_lost": self._total["drawn"] - self._total["answering"],
            "bytes_up": self._total["bytes_up"],
            "bytes_down": self._total["bytes_down"],
            "averaged_accuracy": sum(accuracies) / len(accuracies) if accuracies else None,
            "averaged_evaluations": len(accuracies),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return everything."""
        return {"total": self._total, "told": self._told, "accuracies": self._accuracies}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self._total = dict(state["total"])
        self._told = dict(state["told"])
        self._accuracies = [list(entry) for entry in state["accuracies"]]
