"""``metrics.jsonl`` line by line: series per stage and per split, and the events between them."""

from __future__ import annotations

import json
import operator
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .series import Series, number

__all__ = [
    "GPU",
    "MAX_STAGES",
    "PARTITION",
    "PSI",
    "REPLAY",
    "ROUND",
    "SEARCHING",
    "TRAINING",
    "Clock",
    "Events",
    "Recording",
    "read_recording",
]

TRAINING = (
    "loss",
    "accuracy",
    "lr",
    "images_per_second",
    "busy",
    "wait_in",
    "wait_out",
    "queue_depth",
    "queue_bytes",
    "staleness",
    "memory_bytes",
)
"""What every record of training has."""

REPLAY = ("replayed", "replay_staleness", "replay")
"""What it has if the stage could learn again: batches, their mean age, seconds per step."""

GPU = ("utilization", "memory_bytes", "power_watts", "temperature")
"""What it may have in ``gpu``; the series are called ``gpu/utilization`` and so on."""

SEARCHING = ("loss", "accuracy", "lr", "gradient_norm", "seconds", "memory_bytes")
"""What the records of a search may have, in both of its phases."""

ROUND = (
    "loss",
    "psi_loss",
    "clients",
    "lost",
    "bytes_up",
    "bytes_down",
    "total_bytes",
    "seconds",
    "memory_bytes",
)
"""What every record of a federation's rounds has."""

PSI = "psi/"
"""Before MODULE/NAME/PLACE of a hyperparameter's number, among these series."""
PARTITION = (
    "loss",
    "hyper_loss",
    "lr",
    "images_per_second",
    "busy",
    "wait_in",
    "weights_age",
    "psi_age",
    "memory_bytes",
)
"""What the records of each rank of a partitioned training may have."""

PHASES = ("pretrain", "search")
OUTER = ("event", "step", "loss", "accuracy", "alpha", "beta")

NO_GPU = (None,) * len(GPU)

_TRAINING = operator.itemgetter(*TRAINING)
_DECODE = json.JSONDecoder().decode

MAX_LINE = 16 << 20
MAX_STAGES = 1024
MAX_METRICS = 20
FIRST_EVENTS = 50
LAST_EVENTS = 250
MAX_CHECKPOINTS = 1000
MAX_KINDS = 100
MAX_OUTER = 1000
MAX_TABLE = 20_000
MAX_TEXT = 20_000
MAX_LIST = 64
MAX_PSI = 256


@dataclass
class Clock:
    """Seconds of training, without the time between the parts of a run that was resumed.

    It starts when the first part does: after backpropagation was timed, if it was. A resume goes
    on from where the checkpoint was, because the steps after it are done again; a run that had
    none starts again.
    """

    _base: float = 0.0
    _begin: float | None = None
    _now: float = 0.0
    _trained: bool = False
    _checkpoints: dict[float, float] = field(default_factory=dict)

    def seconds(self, record: Mapping[str, Any]) -> float:
        """Return the seconds at a record, after all records before it."""
        event, time = record["event"], record["time"]
        step = number(record.get("step")) or 0
        if event == "start":
            self._base, self._begin, self._trained = 0.0, time, False
        elif event == "resume":
            self._base, self._begin = self._checkpoints.get(step, self._now), time
        elif self._begin is None or (event == "measured" and not self._trained):
            self._begin = time
        self._trained = self._trained or event in ("train", "partition")
        self._now = self._base + max(0.0, time - self._begin)
        if event == "checkpoint":
            self._checkpoints[step] = self._now
            if len(self._checkpoints) > MAX_CHECKPOINTS:
                del self._checkpoints[next(iter(self._checkpoints))]
        return self._now


@dataclass
class Events:
    """What is not training: the first ones, the last ones, and how many lie between.

    Attributes:
        first: The first records, each with its second.
        last: The last ones.
        count: Of all.
        newest: The newest record of each event, training included.
    """

    first: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    last: deque[tuple[float, dict[str, Any]]] = field(
        default_factory=lambda: deque(maxlen=LAST_EVENTS)
    )
    count: int = 0
    newest: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, seconds: float, record: dict[str, Any]) -> None:
        """Take one; matrices and the like in it are not kept."""
        self.count += 1
        kept = {name: _short(value) for name, value in record.items() if _is_plain(value)}
        (self.first if len(self.first) < FIRST_EVENTS else self.last).append((seconds, kept))

    @property
    def left_out(self) -> int:
        """How many are not kept."""
        return self.count - len(self.first) - len(self.last)


@dataclass
class Recording:
    """All records of a run, thinned out.

    Attributes:
        stages: Per stage what it reported, over steps.
        evaluations: Per split the results, over steps; ``accuracy/2`` is block 2's, ``metric/x``
            the last block's; ``elapsed`` are the seconds of training before it.
        phases: Per phase of a search what it reported, over its steps.
        rounds: What the rounds of a federation told; ``psi/change/rotation/1`` is a hyperparameter.
        outer: Records of outer steps as they are, with alpha and beta: all, or evenly chosen.
        parties: Per rank of a partitioned training what it reported, over steps.
        objectives: Its evaluations with L_ML and psi, as they are: all, or evenly chosen.
        events: What else happened.
        lines: How many records were read.
        damaged: How many lines could not be read; the one being written counts too.
    """

    stages: dict[int, Series] = field(default_factory=dict)
    evaluations: dict[str, Series] = field(default_factory=dict)
    phases: dict[str, Series] = field(default_factory=dict)
    rounds: Series | None = None
    outer: list[dict[str, Any]] = field(default_factory=list)
    parties: dict[int, Series] = field(default_factory=dict)
    objectives: list[dict[str, Any]] = field(default_factory=list)
    events: Events = field(default_factory=Events)
    lines: int = 0
    damaged: int = 0
    _clock: Clock = field(default_factory=Clock)
    _every: int = 1
    _outer_count: int = 0

    def add(self, record: dict[str, Any]) -> None:
        """Take one record that has an event and a time."""
        event = record["event"]
        self.lines += 1
        if event in self.events.newest or len(self.events.newest) < MAX_KINDS:
            self.events.newest[event] = record
        seconds = self._clock.seconds(record)
        if event == "train":
            self._train(record)
            return
        if event in PHASES:
            self._search(record)
            return
        if event == "round":
            self._round(record)
            return
        if event == "partition":
            self._partition(record)
            return
        if event in ("start", "resume"):
            self._cut(number(record.get("step")) or 0)
        elif event == "evaluation":
            self._evaluation(record, seconds)
        elif event == "objective":
            self._objective(record)
        self.events.add(seconds, record)

    def _train(self, record: Mapping[str, Any]) -> None:
        stage, step = record.get("stage"), number(record.get("step"))
        if type(stage) is not int or not 1 <= stage <= MAX_STAGES or step is None:
            self.damaged += 1
            return
        series = self.stages.get(stage)
        if series is None:
            names = [*TRAINING, *REPLAY, *(f"gpu/{name}" for name in GPU)]
            series = self.stages[stage] = Series(names)
        try:
            values = _TRAINING(record)
        except KeyError:
            values = tuple(map(record.get, TRAINING))
        values += tuple(map(record.get, REPLAY))
        gpu = record.get("gpu")
        series.add(step, values + (tuple(map(gpu.get, GPU)) if isinstance(gpu, dict) else NO_GPU))

    def _round(self, record: Mapping[str, Any]) -> None:
        """Take a round of a federation; the first one says which hyperparameters there are."""
        step = number(record.get("step"))
        if step is None:
            self.damaged += 1
            return
        values = {name: number(record.get(name)) for name in ROUND} | _psi(record)
        if self.rounds is None:
            self.rounds = Series(list(values))
        self.rounds.cut(step - 0.5)
        self.rounds.add(step, [values.get(name) for name in self.rounds.names])

    def _search(self, record: dict[str, Any]) -> None:
        """Take a record of a phase; a resumed search tells some steps again."""
        step = number(record.get("step"))
        if step is None:
            self.damaged += 1
            return
        series = self.phases.setdefault(record["event"], Series(SEARCHING))
        series.cut(step - 0.5)
        series.add(step, [number(record.get(name)) for name in SEARCHING])
        if record["event"] == "search":
            self._keep_outer(step, {name: record.get(name) for name in OUTER})

    def _partition(self, record: Mapping[str, Any]) -> None:
        rank, step = record.get("rank"), number(record.get("step"))
        if type(rank) is not int or not 0 <= rank < MAX_STAGES or step is None:
            self.damaged += 1
            return
        series = self.parties.setdefault(rank, Series(PARTITION))
        series.add(step, tuple(map(record.get, PARTITION)))

    def _objective(self, record: dict[str, Any]) -> None:
        psi = record.get("psi")
        step = number(record.get("step"))
        if step is None or not isinstance(psi, dict) or sum(map(_size, psi.values())) > MAX_TABLE:
            self.damaged += 1
            return
        self.objectives = [one for one in self.objectives if one["step"] < step]
        self.objectives.append({**record, "step": step})
        if len(self.objectives) > MAX_OUTER:
            self.objectives = self.objectives[::2]

    def _keep_outer(self, step: float, record: dict[str, Any]) -> None:
        alpha, beta = record["alpha"], record["beta"]
        if max(_size(alpha), _size(beta)) > MAX_TABLE:
            self.damaged += 1
            return
        while self.outer and self.outer[-1]["step"] >= step:
            self.outer.pop()
        if self.outer and self._outer_count % self._every:
            self.outer.pop()  # only the newest may stand between two that are kept
        self.outer.append(record)
        self._outer_count += 1
        if len(self.outer) > MAX_OUTER:
            self.outer, self._every = self.outer[::2], 2 * self._every
            self._outer_count = 0

    def _evaluation(self, record: Mapping[str, Any], seconds: float) -> None:
        split, step = record.get("split"), number(record.get("step"))
        if not isinstance(split, str) or step is None:
            self.damaged += 1
            return
        values = _results(record)
        series = self.evaluations.setdefault(split, Series(["elapsed", *values]))
        row = {"elapsed": seconds, **values}
        series.add(step, [row.get(name) for name in series.names])

    def _cut(self, step: float) -> None:
        every = (*self.stages.values(), *self.evaluations.values(), *self.parties.values())
        for series in every:
            series.cut(step)
        self.objectives = [one for one in self.objectives if one["step"] <= step]


def read_recording(path: Path) -> Recording:
    """Read the records of a run, finished or not. A missing file is a run without records."""
    recording = Recording()
    if not path.is_file():
        return recording
    for line in _lines(path):
        try:
            record = _DECODE(line.decode(errors="replace"))
        except (ValueError, RecursionError):
            recording.damaged += 1
            continue
        if (
            isinstance(record, dict)
            and isinstance(record.get("event"), str)
            and number(record.get("time")) is not None
        ):
            recording.add(record)
        else:
            recording.damaged += 1
    return recording


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE):
            yield line


def _psi(record: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the numbers of the hyperparameters under the names of their series."""
    psi = record.get("psi")
    found: dict[str, float | None] = {}
    for name, values in psi.items() if isinstance(psi, dict) else ():
        for place, value in enumerate(values if isinstance(values, list) else [], start=1):
            if len(found) < MAX_PSI:
                found[f"{PSI}{name}/{place}"] = number(value)
    return found


def _is_plain(value: Any) -> bool:
    """Whether a value fits into a line of a table."""
    if isinstance(value, list):
        return len(value) <= MAX_LIST and all(
            item is None or number(item) is not None for item in value
        )
    return value is None or isinstance(value, str | bool) or number(value) is not None


def _size(table: Any) -> int:
    """Return how many values a list of lists has."""
    rows = table if isinstance(table, list) else []
    return sum(len(row) if isinstance(row, list) else 1 for row in rows)


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_TEXT:
        return f"{value[:MAX_TEXT]} ... ({len(value) - MAX_TEXT} more characters)"
    return value


def _results(record: Mapping[str, Any]) -> dict[str, float | None]:
    """Return an evaluation's numbers under the names of the series."""
    values: dict[str, float | None] = {}
    for name, key in (("accuracy", "accuracies"), ("loss", "losses")):
        given = record.get(key)
        for block, value in enumerate(given if isinstance(given, list) else [], start=1):
            values[f"{name}/{block}"] = number(value)
    values["ensemble"] = number(record.get("ensemble_accuracy"))
    metrics = record.get("metrics")
    last = metrics[-1] if isinstance(metrics, list) and metrics else {}
    scalars = last.items() if isinstance(last, dict) else ()
    for name, value in list(scalars)[:MAX_METRICS]:
        if number(value) is not None:
            values[f"metric/{name}"] = number(value)
    return values
