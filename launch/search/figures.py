"""A search's records in wandb."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...models import HeadSpec
from ...search.decoupling import head_name
from ...search.discretization import cut_weights, head_weights
from ..folder import RunFolder
from ..tracking import Figures, file_artifact
from .pictures import PICTURES

__all__ = ["SearchFigures"]


class SearchFigures(Figures):
    """Losses of both phases, softmaxed alpha_1 and beta of each layer; at the end the decoupling.

    Args:
        folder: The run's folder.
        heads: The pool, in the order of beta's columns.
    """

    patterns = ("pretrain/*", "search/*", "alpha/*", "beta/*")

    def __init__(self, folder: RunFolder, heads: Sequence[HeadSpec]) -> None:
        self._folder = folder
        self._heads = [head_name(head) for head in heads]

    def values(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the numbers of a record, e.g. ``alpha/layer_03``, ``beta/aux1/layer_03``."""
        event = record["event"]
        if event not in ("pretrain", "search"):
            return {}
        names = ("loss", "accuracy", "lr", "gradient_norm", "skipped", "seconds", "memory_bytes")
        values = {f"{event}/{name}": record[name] for name in names if record.get(name) is not None}
        if event == "search":
            for layer, weight in enumerate(cut_weights(record["alpha"]), start=1):
                values[f"alpha/layer_{layer:02d}"] = weight
            for layer, weights in enumerate(head_weights(record["beta"]), start=1):
                for head, weight in zip(self._heads, weights, strict=True):
                    values[f"beta/{head}/layer_{layer:02d}"] = weight
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
