"""A federation's records in wandb."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..report.records import ROUND
from ..tracking import Figures

__all__ = ["FederateFigures"]


class FederateFigures(Figures):
    """Losses, bytes and hyperparameters over rounds, and the evaluations."""

    patterns = ("federation/*", "validation/*", "test/*")

    def values(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the numbers of a record, e.g. ``federation/loss``, ``federation/psi/...``."""
        if record["event"] == "round":
            values = {f"federation/{name}": record[name] for name in ROUND}
            for name, numbers in record["psi"].items():
                for place, value in enumerate(numbers, start=1):
                    values[f"federation/psi/{name}/{place}"] = value
        elif record["event"] == "evaluation":
            split = record["split"]
            values = {
                f"{split}/accuracy": record["accuracies"][-1],
                f"{split}/loss": record["losses"][-1],
            }
        else:
            return {}
        return {key: value for key, value in values.items() if value is not None}
