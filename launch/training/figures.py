"""A training's records in wandb."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..tracking import Figures, file_artifact

__all__ = ["REPLICAS", "TrainFigures"]

MIB = 1 << 20

REPLICAS = "replicas"
"""The table of all ranks at the end of a run: replicas of a stage one below the other."""

Place = tuple[Mapping[str, Any], int, Mapping[str, Any]]
"""A stage of the summary, the number of one of its replicas, and that replica."""

COLUMNS: Sequence[tuple[str, Callable[[Place], Any]]] = (
    ("stage", lambda place: place[0]["stage"]),
    ("replica", lambda place: place[1]),
    ("rank", lambda place: place[2]["rank"]),
    ("host", lambda place: place[2]["host"]),
    ("device", lambda place: place[2]["device"]),
    ("busy seconds per step", lambda place: place[2]["busy"]),
    ("peak MiB", lambda place: _mib(place[2]["peak_memory_bytes"])),
    ("MiB sent per step", lambda place: _mib(place[2]["bytes_per_step"])),
)


class TrainFigures(Figures):
    """The figures of each stage and each split, the speed-up, and the replicas at the end.

    Args:
        decoupling: The file of the decoupling, which becomes an artifact.
    """

    patterns = ("stage/*", "test/*", "validation/*", "speedup/*")

    def __init__(self, decoupling: Path) -> None:
        self._decoupling = decoupling
        self._measured: float | None = None

    def begin(self, wandb: Any, run: Any) -> None:
        """See :meth:`Figures.begin`."""
        if self._decoupling.exists():
            run.log_artifact(file_artifact(wandb, run, "decoupling", self._decoupling))

    def values(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the numbers of a record, e.g. ``stage/2/loss``."""
        event = record["event"]
        if event == "train":
            values = _stage_values(record)
            if self._measured:
                values["speedup/vs_backprop"] = record["images_per_second"] / self._measured
            return values
        if event == "evaluation":
            return _evaluation_values(record)
        if event == "measured":
            self._measured = record["backprop_images_per_second"]
            return {"speedup/backprop_images_per_second": self._measured}
        return {}

    def end(self, wandb: Any, run: Any, summary: Mapping[str, Any]) -> None:
        """See :meth:`Figures.end`."""
        if summary.get("speedup_vs_backprop") is not None:
            run.summary["speedup/vs_backprop"] = summary["speedup_vs_backprop"]
        run.log({REPLICAS: wandb.Table(columns=[name for name, _ in COLUMNS], data=_rows(summary))})


def _rows(summary: Mapping[str, Any]) -> list[list[Any]]:
    """Return a row for each replica of each stage."""
    places: list[Place] = [
        (stage, number, replica)
        for stage in summary["stages"]
        for number, replica in enumerate(stage["replicas"], start=1)
    ]
    return [[value(place) for _, value in COLUMNS] for place in places]


def _mib(nbytes: float | None) -> float | None:
    return None if nbytes is None else nbytes / MIB


def _stage_values(record: Mapping[str, Any]) -> dict[str, Any]:
    prefix = f"stage/{record['stage']}/"
    values = {
        prefix + key: value
        for key, value in record.items()
        if key not in ("event", "time", "step", "stage", "gpu") and value is not None
    }
    gpu = record.get("gpu") or {}
    return {**values, **{f"{prefix}gpu_{key}": value for key, value in gpu.items()}}


def _evaluation_values(record: Mapping[str, Any]) -> dict[str, Any]:
    split = record["split"]
    values = {f"{split}/loss": record["losses"][-1]}
    values[f"{split}/accuracy"] = record["accuracies"][-1]
    for stage, accuracy in enumerate(record["accuracies"], start=1):
        if accuracy is not None:
            values[f"{split}/stage_{stage}_accuracy"] = accuracy
    if record.get("ensemble_accuracy") is not None:
        values[f"{split}/ensemble_accuracy"] = record["ensemble_accuracy"]
    return values
