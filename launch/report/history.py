"""Everything that the folder of a run tells, whatever state the run is in."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..folder import RunFolder
from ..refusal import ConfigError
from ..status import state_of
from .records import MAX_STAGES, Recording, read_recording
from .series import number
from .spans import Trace, read_trace

__all__ = ["Block", "History", "Status", "read_history"]

MAX_CONFIG_BYTES = 1 << 16
MAX_KEYS = 1000
MAX_DEPTH = 8
MAX_LOGS = 16
MAX_GRADIENTS = 10_000
MAX_LOG_BYTES = 4 << 10


@dataclass(frozen=True)
class Status:
    """What has become of a run.

    Attributes:
        kind: ``finished``, ``stopped``, ``failed``, ``running``, ``preparing``, ``gone`` or
            ``unknown``.
        text: The same in words.
    """

    kind: str
    text: str

    @property
    def ended(self) -> bool:
        """Whether the run came to its end by itself, so that its summary holds."""
        return self.kind in ("finished", "stopped")


@dataclass(frozen=True)
class Block:
    """A block, its stage, and what was measured of it; None where it is not known.

    Attributes:
        index: From 1.
        first: Its first layer.
        last: Its last layer.
        head: Its head in words.
        figures: The stage's entry in ``summary.json``: params, busy, device, rank, ...
        ranks: The ranks that share the stage.
    """

    index: int
    first: int | None
    last: int | None
    head: str | None
    figures: Mapping[str, Any]
    ranks: Sequence[int] = ()

    @property
    def layers(self) -> str | None:
        """Its layers in words."""
        if self.first is None or self.last is None:
            return None
        if self.first == self.last:
            return f"layer {self.first}"
        return f"layers {self.first}\u2013{self.last}"

    def figure(self, name: str) -> float | None:
        """Return one of its figures if it was measured."""
        return number(self.figures.get(name))


@dataclass
class History:
    """What a run's folder holds.

    Attributes:
        folder: The folder.
        status: What has become of the run.
        config_text: ``config.yaml`` as it is.
        config: Its keys, dotted, with their values as text.
        decoupling: ``decoupling.json``, or nothing.
        gradients: ``gradients.json``, or nothing.
        summary: ``summary.json`` of a run that has ended, or nothing.
        ranks: ``ranks.json``, or nothing.
        recording: Its records.
        trace: Its spans, or None.
        logs: The last lines of each rank, if the run did not end well.
        problems: What could not be read, in sentences.
    """

    folder: RunFolder
    status: Status = field(default_factory=lambda: Status("unknown", ""))
    config_text: str = ""
    config: dict[str, str] = field(default_factory=dict)
    decoupling: dict[str, Any] = field(default_factory=dict)
    gradients: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    ranks: list[dict[str, Any]] = field(default_factory=list)
    recording: Recording = field(default_factory=Recording)
    trace: Trace | None = None
    logs: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def figure(self, name: str) -> float | None:
        """Return a figure of the summary; None if it was not measured."""
        return number(self.summary.get(name))

    def setting(self, *names: str) -> str | None:
        """Return the first of some dotted keys that the configuration has."""
        return next((self.config[name] for name in names if name in self.config), None)

    @property
    def is_search(self) -> bool:
        """Whether the run is a search and not a training."""
        return self.setting("search.steps") is not None

    @property
    def is_federation(self) -> bool:
        """Whether the run is a federated training."""
        return self.setting("federate.method") is not None

    @property
    def is_partition(self) -> bool:
        """Whether it is a partitioned training."""
        return self.setting("partition.kind") is not None

    @property
    def is_ensemble(self) -> bool:
        """Whether the run trained an ensemble by ``blockstep superweight``."""
        return self.setting("superweight.sharing") is not None

    @property
    def steps_wanted(self) -> int | None:
        """The last step of the whole run."""
        keys = ("train.steps", "search.steps") if self.is_search else ("train.steps",)
        if self.summary.get("learned"):
            keys = ("train.steps", "superweight.search_steps")
        wanted = [self.setting(key) or "" for key in keys]
        return sum(map(int, wanted)) if all(map(str.isdigit, wanted)) else None

    @property
    def network(self) -> str:
        """Name of the network."""
        known = self.summary.get("network") or self.decoupling.get("network")
        return str(known or self.setting("model.name", "model._target_") or "?")

    @property
    def data(self) -> str:
        """Name of the data set."""
        return str(self.summary.get("data") or self.setting("data.name") or "?")

    @property
    def method(self) -> str:
        """The learning rule."""
        return str(self.summary.get("method") or self.setting("method", "federate.method") or "?")

    def blocks(self) -> list[Block]:
        """Return the blocks in their order, as far as the files tell of them."""
        cuts = [cut for cut in _list(self.decoupling.get("cuts")) if type(cut) is int]
        cuts = cuts[: MAX_STAGES - 1]
        layers = self.decoupling.get("layers")
        heads = [*map(_head, _list(self.decoupling.get("heads"))), "classifier"]
        known = bool(self.decoupling)
        count = len(cuts) + 1 if known else max(self.recording.stages, default=0)
        bounds = [0, *cuts, layers if type(layers) is int else None]
        figures: dict[Any, dict[str, Any]] = {}
        for entry in self._stages():
            figures.setdefault(entry.get("stage"), entry)
        return [
            Block(
                index,
                (bounds[index - 1] or 0) + 1 if known else None,
                bounds[index] if known else None,
                heads[index - 1] if known and index <= len(heads) else None,
                figures.get(index, {}),
                self._ranks_of(index, figures.get(index, {})),
            )
            for index in range(1, count + 1)
        ]

    def _ranks_of(self, stage: int, figures: Mapping[str, Any]) -> list[int]:
        """Return the ranks that share a stage: from the summary, else where they run."""
        entries = _list(figures.get("replicas")) or [
            rank for rank in self.ranks if rank.get("stage") == stage
        ]
        ranks = (entry.get("rank") for entry in entries if isinstance(entry, dict))
        return [rank for rank in ranks if type(rank) is int]

    def _stages(self) -> Iterator[dict[str, Any]]:
        """Tell of the stages: from the summary, else where they run."""
        entries = _list(self.summary.get("stages")) or self.ranks
        return (
            entry
            for entry in entries
            if isinstance(entry, dict) and type(entry.get("stage")) is int
        )


def read_history(
    path: Path, *, trace: bool = True, summary: dict[str, Any] | None = None
) -> History:
    """Read the folder of a run that has ended, failed, or still goes on.

    Args:
        path: The folder.
        trace: Whether to read the spans; they are the largest file but for the records.
        summary: What ``summary.json`` is going to be, where it is not written yet.
    """
    history = History(RunFolder(path))
    folder = history.folder
    _read_config(history)
    history.decoupling = _read(history, folder.decoupling, dict)
    gradients = _read(history, folder.gradients, list)
    history.gradients = [one for one in gradients[:MAX_GRADIENTS] if isinstance(one, dict)]
    history.summary = summary or _read(history, folder.summary, dict)
    history.ranks = [rank for rank in _read(history, folder.ranks, list) if isinstance(rank, dict)]
    try:
        history.recording = read_recording(folder.metrics)
    except OSError as error:
        history.problems.append(f"metrics.jsonl cannot be read: {error}")
    history.status = _status(history)
    if not history.status.ended:
        # A summary of an earlier part of the run says nothing about this one.
        history.summary = {}
        history.logs = dict(_logs(folder))
    if trace and folder.trace.exists():
        try:
            history.trace = read_trace(folder.read_json(folder.trace))
        except ConfigError as error:
            history.problems.append(str(error))
    return history


def _status(history: History) -> Status:
    """Put in words how the run ended, if it did."""
    try:
        text = state_of(history.folder, list(history.recording.events.newest.values()))
    except (ConfigError, LookupError, TypeError, ValueError, ArithmeticError, OSError) as error:
        return Status("unknown", f"unknown: {type(error).__name__}: {error}")
    kind = text.partition(" ")[0].rstrip(":")
    steps, wanted = history.figure("steps"), history.steps_wanted
    if kind == "finished" and steps is not None and wanted:
        if steps < wanted:
            return Status("stopped", f"stopped after step {steps:,.0f} of {wanted:,}")
        return Status(kind, f"finished all {steps:,.0f} steps")
    return Status(kind, text)


def _read(history: History, path: Path, kind: type) -> Any:
    """Read one of the JSON files; an empty one if it is missing or is something else."""
    if not path.exists():
        return kind()
    try:
        value = history.folder.read_json(path)
    except ConfigError as error:
        history.problems.append(str(error))
        return kind()
    if isinstance(value, kind):
        return value
    history.problems.append(f"{path.name} holds a {type(value).__name__}, not a {kind.__name__}")
    return kind()


def _read_config(history: History) -> None:
    path = history.folder.config
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            history.config_text = file.read(MAX_CONFIG_BYTES)
        _refuse_aliases(history.config_text)
        values = yaml.safe_load(history.config_text)
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        history.problems.append(f"config.yaml cannot be read: {error}")
        return
    history.config = dict(itertools.islice(_flat(values), MAX_KEYS))


def _refuse_aliases(text: str) -> None:
    """Refuse what a few lines could expand without bound; our files have none.

    Raises:
        ValueError: There is an alias.
    """
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"line {event.start_mark.line + 1} has an alias (*)")


def _flat(value: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Return dotted keys with their values as text."""
    if isinstance(value, Mapping) and value and depth < MAX_DEPTH:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key), depth + 1)
    elif isinstance(value, Mapping | list):
        yield prefix, json.dumps(value, default=str)[:200]
    else:
        yield prefix, "null" if value is None else str(value)


def _head(spec: Any) -> str:
    """Name a head: a registered one, or a user's class with its arguments."""
    if not isinstance(spec, dict):
        return str(spec)
    target = str(spec.get("_target_", "?")).rpartition(".")[2]
    arguments = ", ".join(f"{key}={value}" for key, value in spec.items() if key != "_target_")
    return f"{target}({arguments})"


def _logs(folder: RunFolder) -> Iterator[tuple[str, str]]:
    """Return the last lines that each rank printed."""
    for path in sorted(folder.path.glob("rank*.log"))[:MAX_LOGS]:
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - MAX_LOG_BYTES))
                text = file.read(MAX_LOG_BYTES).decode(errors="replace").strip()
        except OSError:
            continue
        if text:
            yield path.name, text


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
