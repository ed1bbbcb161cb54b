"""What happened in a run besides training, as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .markup import NOTHING, Markup, element
from .records import Recording
from .scale import byte_unit, clock_text, day_text, number_text, percent_text, seconds_text
from .series import number
from .table import Cell, table

__all__ = ["event_table"]

BRIEF = 120.0
"""A run of fewer seconds shows tenths of them."""

COMMON = ("event", "time", "step")


def event_table(recording: Recording) -> Markup:
    """Return the table of events, or nothing if there was none."""
    events = recording.events
    if not events.count:
        return NOTHING
    end = (events.last or events.first)[-1][0]
    brief = end < BRIEF
    rows = [_row(seconds, record, brief) for seconds, record in events.first]
    if events.left_out:
        told = f"{events.left_out:,} events are left out here; metrics.jsonl has them"
        rows.append([Cell(""), Cell(""), Cell("\u2026"), Cell(told)])
    rows += [_row(seconds, record, brief) for seconds, record in events.last]
    return table(["time", "step", "event", ""], rows, words=(2, 3), class_="events")


def _row(seconds: float, record: Mapping[str, Any], brief: bool) -> list[Cell]:
    step = number(record.get("step"))
    kind = record["event"]
    look = "bad" if kind == "failed" else "warn" if kind == "warning" else None
    return [
        Cell(clock_text(seconds, tenths=brief), note=day_text(record["time"])),
        Cell("" if step is None else f"{step:,.0f}"),
        Cell(element("span", kind, class_=f"tag {look}" if look else "tag")),
        Cell(_told(record)),
    ]


def _told(record: Mapping[str, Any]) -> object:
    """Put a record in words; one that is not as expected is shown as it is."""
    try:
        return _sentence(record)
    except (KeyError, TypeError, ValueError):
        return _rest(record)


def _sentence(record: Mapping[str, Any]) -> object:
    event = record["event"]
    if event == "evaluation":
        blocks = ", ".join(percent_text(accuracy) for accuracy in record["accuracies"])
        vote = record.get("ensemble_accuracy")
        together = f"; ensemble {percent_text(vote)}" if vote is not None else ""
        told = f"{record['split']} accuracy by block {blocks}{together}"
        return f"{told} (took {seconds_text(record['seconds'])})"
    if event == "objective":
        objective = number(record["objective"])
        told = "evaluated" if objective is None else f"L_ML {objective:,.2f} nats"
        return f"{told} (took {seconds_text(record['seconds'])})"
    if event == "checkpoint":
        unit = byte_unit(record["bytes"])
        size = number_text(record["bytes"] / unit.size, unit.name)
        return f"{record['path']}, {size}{', the best so far' if record['best'] else ''}"
    if event == "measured":
        speed = number_text(number(record["backprop_images_per_second"]), "images/s")
        return f"backpropagation through the whole network on one device: {speed}"
    if event == "profiled":
        return f"layers and heads timed: {seconds_text(record['seconds'])} per step of all layers"
    if event in ("start", "resume", "end"):
        return {
            "start": "all ranks are ready",
            "resume": "continues after this step",
            "end": "the last step is done",
        }[event]
    return _text(record["text"]) if set(record) <= {*COMMON, "text", "rank"} else _rest(record)


def _text(text: object) -> object:
    """Keep the lines of a longer text, folded."""
    first, _, more = str(text).partition("\n")
    if not more:
        return first
    return element("details", element("summary", first), element("pre", str(text)))


def _rest(record: Mapping[str, Any]) -> object:
    rest = {name: value for name, value in record.items() if name not in COMMON}
    return _text(", ".join(f"{name} {json.dumps(value)}" for name, value in rest.items()))
