"""A plan as a table, and as ``plan.json``."""

from __future__ import annotations

import dataclasses
import itertools
import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...pipeline.checkpoint import write_atomically
from ...search.prediction.advice import advise
from ...search.prediction.measurements import Measurements
from ...search.prediction.prediction import Prediction
from .config import PlanConfig

__all__ = ["Impossible", "Plan"]

FORMAT = 1
MIB = 1 << 20
WIDTH = 100


@dataclass(frozen=True)
class Impossible:
    """A method that cannot be had so.

    Attributes:
        method: Its word.
        blocks: Into how many blocks.
        reason: Why not.
    """

    method: str
    blocks: int
    reason: str


@dataclass(frozen=True)
class Plan:
    """All predictions for one cluster.

    Attributes:
        config: What was asked for.
        measurements: What is known of the network.
        predictions: One for each method and number of blocks that can be had.
        impossible: The others.
        outlook: What would change with another network; empty if nothing.
        notes: What the user should know.
    """

    config: PlanConfig
    measurements: Measurements
    predictions: tuple[Prediction, ...]
    impossible: tuple[Impossible, ...] = ()
    outlook: str = ""
    notes: tuple[str, ...] = ()

    @property
    def advice(self) -> str:
        """Which method to choose, with numbers."""
        gib = self.config.memory_gib
        first = advise(self.predictions, memory=None if gib is None else gib * (1 << 30))
        return f"{first} {self.outlook}".strip()

    def table(self) -> str:
        """Return the lines to print."""
        rows = [HEADINGS, *(_row(one) for one in self.predictions)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [_opening(self), *(f"  {note}" for note in self.notes), ""]
        for row in rows:
            cells = [row[0].ljust(widths[0])]
            cells += [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
            lines.append("  ".join(cells).rstrip())
        if self.impossible:
            lines.append("")
        lines += [f"{one.method}, {one.blocks} blocks: {one.reason}" for one in self.impossible]
        lines += self._stages()
        return "\n".join([*lines, "", *textwrap.wrap(self.advice, WIDTH)])

    def to_json(self) -> str:
        """Return the text of ``plan.json``."""
        return json.dumps(self._values(), indent=1, allow_nan=False)

    def save(self, path: Path | str) -> None:
        """Write ``plan.json`` atomically."""
        write_atomically(Path(path), self.to_json())

    def _stages(self) -> list[str]:
        """Return what each stage would have to do, for the fastest method that cuts the network."""
        cut = [one for one in self.predictions if one.cuts]
        if not cut:
            return []
        best = max(cut, key=lambda one: one.images_per_second)
        edges = [0, *best.cuts, self.measurements.largest.layers]
        bounds = [f"{first + 1}-{last}" for first, last in itertools.pairwise(edges)]
        lines = ["", f"{best.method} with {best.blocks} blocks, per stage"]
        for stage, (busy, memory) in enumerate(zip(best.busy, best.memory, strict=True)):
            replicas = best.replicas[stage]
            lines.append(
                f"  stage {stage + 1}: layers {', '.join(bounds[stage :: best.blocks])}"
                f"{f' on {replicas} devices' if replicas > 1 else ''}, busy {busy:.2f}"
                f"{'' if memory is None else f', {_mib(memory)} MiB per device'}"
                f"{_onward(best, stage)}"
            )
        return lines

    def _values(self) -> dict[str, Any]:
        config, largest = self.config, self.measurements.largest
        return {
            "format": FORMAT,
            "network": largest.network,
            "layers": largest.layers,
            "batch_size": config.train.batch_size,
            "contention": config.contention or self.measurements.contention,
            "measured": {
                "device": largest.device,
                "threads": largest.threads,
                "batch_sizes": list(self.measurements.batch_sizes),
            },
            "cluster": {
                "devices": config.devices,
                "scale": config.scale,
                "memory_gib": config.memory_gib,
                **dataclasses.asdict(config.network),
                **dataclasses.asdict(config.pipeline),
            },
            "predictions": [_fields(one) for one in self.predictions],
            "impossible": [dataclasses.asdict(one) for one in self.impossible],
            "notes": list(self.notes),
            "advice": self.advice,
        }


HEADINGS = (
    *("method", "blocks", "devices", "micro", "images/s", "speedup", "efficiency"),
    *("busy", "MiB/device", "MiB/step link", "all-reduce"),
)


def _row(one: Prediction) -> tuple[str, ...]:
    cut = len(one.cuts) > 0
    most = one.most_memory
    return (
        one.method,
        str(one.blocks) if cut else "-",
        _devices(one),
        "-" if one.microbatches is None else str(one.microbatches),
        f"{one.images_per_second:,.1f}",
        f"{one.speedup:.2f}",
        f"{one.efficiency:.2f}",
        f"{min(one.busy):.2f}-{max(one.busy):.2f}" if len(one.busy) > 1 else f"{max(one.busy):.2f}",
        "-" if most is None else _mib(most),
        _mib(max(one.traffic)) if one.traffic else "-",
        _mib(one.reduced) if one.reduced else "-",
    )


def _onward(one: Prediction, stage: int) -> str:
    """Return what crosses the boundaries behind a stage."""
    sizes = one.traffic[stage :: one.blocks]
    listed = " and ".join(map(_mib, sizes))
    return f", {listed} MiB per step to and from the next" if sizes else ""


def _devices(one: Prediction) -> str:
    """Return the devices, and how they are divided where that is not one for each block."""
    if len(one.replicas) < 2 or set(one.replicas) == {1}:
        return str(one.devices)
    if len(set(one.replicas)) == 1:
        return f"{one.devices} ({one.blocks}x{one.replicas[0]})"
    return f"{one.devices} ({'+'.join(map(str, one.replicas))})"


def _mib(nbytes: float) -> str:
    return f"{nbytes / MIB:,.1f}"


def _opening(plan: Plan) -> str:
    config, largest = plan.config, plan.measurements.largest
    sizes = ", ".join(map(str, plan.measurements.batch_sizes))
    speed = "" if config.scale == 1 else f" {config.scale:g} times as fast"
    gbit = "no limit" if config.network.gbit is None else f"{config.network.gbit:g} Gbit/s"
    return (
        f"{largest.network}, {largest.layers} layers, {config.train.batch_size} examples per step\n"
        f"  timed on {largest.device}, {largest.threads} thread(s), with {sizes} examples\n"
        f"  predicted for {config.devices} such device(s){speed}, network {gbit} and "
        f"{config.network.latency_us:g} us"
    )


def _fields(one: Prediction) -> dict[str, Any]:
    return {
        **dataclasses.asdict(one),
        "images_per_second": one.images_per_second,
        "speedup": one.speedup,
        "efficiency": one.efficiency,
        "max_memory": one.most_memory,
    }
