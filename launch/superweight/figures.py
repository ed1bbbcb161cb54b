"""An ensemble's records in wandb."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..folder import RunFolder
from ..tracking import Figures, file_artifact
from .pictures import SHARING
from .preparation import sharing_path

__all__ = ["EnsembleFigures"]

TOLD = (
    "loss", "accuracy", "lr", "images_per_second", "seconds", "busy", "wait_in", "memory_bytes",
)  # fmt: skip
WHOLE = ("ensemble_accuracy", "nll", "ece")


class EnsembleFigures(Figures):
    """Losses and accuracies of members and of the ensemble; at the end what is shared.

    Args:
        folder: The run's folder.
    """

    patterns = ("member/*", "ensemble/*", "sharing/*")

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def values(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the numbers of a record, e.g. ``member/1/loss``, ``ensemble/test/nll``."""
        event = record["event"]
        if event == "train":
            place = f"member/{record['stage']}"
            return {f"{place}/{name}": record[name] for name in TOLD}
        if event == "evaluation":
            return _evaluation(record)
        if event == "shared":
            found = {"sharing/clusters": record["clusters"], "sharing/tau": record["tau"]}
            return {name: value for name, value in found.items() if value is not None}
        if event == "unshared":
            return {"sharing/coefficient_groups": record["groups"]}
        return {}

    def end(self, wandb: Any, run: Any, summary: Mapping[str, Any]) -> None:
        """See :meth:`Figures.end`."""
        for name, count in (summary["parameters"] or {}).items():
            run.summary[f"parameters/{name}"] = count
        path, picture = sharing_path(self._folder), self._folder.picture(SHARING)
        if path.exists():
            run.log_artifact(file_artifact(wandb, run, "sharing", path))
        if picture.exists():
            run.log({f"pictures/{SHARING}": wandb.Html(picture.read_text())})


def _evaluation(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of an evaluation under the name of its split."""
    place = f"ensemble/{record['split']}"
    found = {f"{place}/{name.removeprefix('ensemble_')}": record[name] for name in WHOLE}
    for name, value in record["diversity"].items():
        if value is not None:
            found[f"{place}/{name}"] = value
    rows = zip(record["accuracies"], record["losses"], strict=True)
    for member, (accuracy, loss) in enumerate(rows, start=1):
        found[f"{place}/member_{member}_accuracy"] = accuracy
        found[f"{place}/member_{member}_nll"] = loss
    return found
