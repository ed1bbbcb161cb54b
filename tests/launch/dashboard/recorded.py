"""What the trackers of real runs record in wandb, with a stand-in for wandb."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from blockstep.launch.configfile import config_from_yaml
from blockstep.launch.dashboard.layout import LAYOUT
from blockstep.launch.dashboard.panel import Panel, Section
from blockstep.launch.federate.figures import FederateFigures
from blockstep.launch.folder import RunFolder
from blockstep.launch.partition.figures import PartitionFigures
from blockstep.launch.search.figures import SearchFigures
from blockstep.launch.superweight.figures import EnsembleFigures
from blockstep.launch.tracking import Figures, WandbTracker
from blockstep.launch.training.figures import TrainFigures

__all__ = ["FakeRun", "FakeWandb", "empty", "record_again", "unseen"]


@dataclass
class FakeTable:
    """Keeps its rows."""

    columns: list[str]
    data: list[list[Any]]


@dataclass
class FakeRun:
    """Keeps what is logged.

    Attributes:
        logged: The last value under each key.
        summary: What was set apart from that.
        metrics: Keys and patterns with an axis.
    """

    id: str = "abc"
    logged: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: list[str] = field(default_factory=list)

    def log(self, values: dict[str, Any]) -> None:
        """Keep the values."""
        self.logged |= values

    def define_metric(self, name: str, **options: Any) -> None:
        """Keep the name."""
        self.metrics.append(name)

    def log_artifact(self, artifact: Any) -> None:
        """Artifacts are in no panel."""

    def finish(self, **options: Any) -> None:
        """Nothing is sent."""


class FakeWandb:
    """The module, as the trackers use it."""

    Table = FakeTable
    Html = str
    Settings = SimpleNamespace

    class Artifact:
        """A file that is kept elsewhere."""

        def __init__(self, name: str, *, type: str) -> None:
            self.name, self.type = name, type

        def add_file(self, path: str) -> None:
            """The file is not read."""

    def __init__(self) -> None:
        self.run = FakeRun()

    def init(self, **options: Any) -> FakeRun:
        """Begin the only run."""
        return self.run


def record_again(folder: Path, place: Path) -> FakeRun:
    """Let the tracker of a run's command record all of the run once more.

    Args:
        folder: Of a run of any command that has ended.
        place: For the tracker's own files.
    """
    summary = json.loads((folder / "summary.json").read_text())
    config = config_from_yaml((folder / "config.yaml").read_text(), summary["command"])
    figures: Figures = TrainFigures(folder / "decoupling.json")
    if summary["command"] == "search":
        figures = SearchFigures(RunFolder(folder), config.search.heads)
    elif summary["command"] == "federate":
        figures = FederateFigures()
    elif summary["command"] == "partition":
        figures = PartitionFigures(RunFolder(folder))
    elif summary["command"] == "superweight":
        figures = EnsembleFigures(RunFolder(folder))
    wandb, job = FakeWandb(), SimpleNamespace(config=config, folder=RunFolder(place))
    tracker = WandbTracker(wandb, job, figures)  # pyright: ignore[reportArgumentType]
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        tracker.record(json.loads(line))
    tracker.finish(summary)
    return wandb.run


def unseen(keys: Iterable[str]) -> set[str]:
    """Return the keys that no panel shows."""
    panels = [panel for section in LAYOUT for panel in section.panels]
    known = {key for key in keys if any(panel.shows(key) for panel in panels)}
    return set(keys) - known - {"step"}


def empty(sections: Iterable[Section], keys: Iterable[str]) -> list[Panel]:
    """Return the panels that have nothing to show, or not all they name."""
    keys = set(keys)
    return [
        panel
        for section in sections
        for panel in section.panels
        if not (set(panel.keys) <= keys if panel.keys else any(map(panel.shows, keys)))
    ]
