"""A search's records in wandb."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...search.discretization import cut_weights
from ..folder import RunFolder
from ..tracking import Figures, file_artifact
from .pictures import PICTURES

__all__ = ["SearchFigures"]


class SearchFigures(Figures):
    """Losses of both phases, softmaxed alpha_1 of each layer; at the end the decoupling.

    Args:
        folder: The run's folder.
    """

    patterns = ("pretrain/*", "search/*", "alpha/*")

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def values(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the numbers of a record, e.g. ``alpha/layer_03``."""
        event = record["event"]
        if event not in ("pretrain", "search"):
            return {}
        names = ("loss", "accuracy", "lr", "gradient_norm", "skipped", "seconds", "memory_bytes")
        values = {f"{event}/{name}": record[name] for name in names if record.get(name) is not None}
        if event == "search":
            for layer, weight in enumerate(cut_weights(record["alpha"]), start=1):
                values[f"alpha/layer_{layer:02d}"] = weight
        return values

    def end(self, wandb: Any, run: Any, summary: Mapping[str, Any]) -> None:
        """See :meth:`Figures.end`."""
        folder = self._folder
        if folder.decoupling.exists():
            run.log_artifact(file_artifact(wandb, run, "decoupling", folder.decoupling))
            run.summary["cuts"] = summary["cuts"]
        shown = [name for name in PICTURES.values() if folder.picture(name).exists()]
        pictures = {
            f"pictures/{name}": wandb.Html(folder.picture(name).read_text()) for name in shown
        }
        if pictures:
            run.log(pictures)
