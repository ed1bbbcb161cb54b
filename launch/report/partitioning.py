"""What the page of a partitioned training shows besides what every run has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..nested import leaves
from .chart import Axis, Line, line_chart
from .history import History
from .hyperparameters import psi_pictures
from .markup import NOTHING, Markup, element
from .page import section
from .palette import INK, colour
from .scale import count_text, number_text, percent_text, seconds_text
from .series import Point, number
from .table import Card, Cell, cards, table

__all__ = ["partition_sections"]

MOST_LINES = 36
"""More hyperparameters than that are no lines that can be told apart."""

STEP = Axis("step")
OBJECTIVE_NOTE = (
    "L_ML is the sum over chunks 2 to C of log p(chunk | subnetwork that has not seen it), in nats "
    "(Mlodozeniec et al., ICLR 2023, Eq. 2). It compares settings on the same chunks of the same "
    "data."
)


def partition_sections(history: History) -> list[Markup]:
    """Return key figures, L_ML and accuracy, the hyperparameters, what each rank did."""
    records = history.recording.objectives
    return [
        cards(_key_figures(history, records)),
        section("Objective", _charts(_objective(records)), note=OBJECTIVE_NOTE),
        section("Hyperparameters", *_hyperparameters(history, records)),
        section("Learning", _charts(_learning(history))),
        section("Ranks", _rank_table(history), _charts(_ages(history))),
    ]


def _key_figures(history: History, records: Sequence[dict[str, Any]]) -> list[Card]:
    last = records[-1] if records else {}
    best = max((number(one.get("objective")) or -1e30 for one in records), default=None)
    figure = history.figure
    age = history.summary.get("psi_age")
    mean = number(age.get("mean")) if isinstance(age, dict) else None
    objective = number(last.get("objective"))
    return [
        Card("L_ML", number_text(objective), "nats, at the last evaluation"),
        Card("Highest L_ML", number_text(best), "nats, of all evaluations"),
        Card(
            "Test accuracy",
            percent_text(figure("test_accuracy")),
            "of the final model, which has all partitions",
        ),
        Card(
            "Throughput",
            number_text(figure("images_per_second")),
            "of the weights' steps, without warm-up, evaluations and checkpoints",
            unit="images/s" if figure("images_per_second") is not None else "",
        ),
        Card("Age of psi", number_text(mean), "steps on average, where several ranks use it"),
    ]


def _charts(charts: Sequence[Markup]) -> Markup:
    shown = [chart for chart in charts if chart]
    return element("div", *shown, class_="charts") if shown else NOTHING


def _objective(records: Sequence[dict[str, Any]]) -> list[Markup]:
    terms = max((len(one["terms"]) for one in records if _is_list(one.get("terms"))), default=0)
    lines = [Line("L_ML", INK, _points(records, lambda one: one.get("objective")))]
    chunks = [
        Line(
            f"chunk {place + 2}", colour(place + 2),
            _points(records, lambda one, place=place: one["terms"][place]),
        )
        for place in range(min(terms, MOST_LINES))
    ]  # fmt: skip
    splits = sorted({split for one in records for split in _splits(one)})
    accuracy = [
        Line(
            split, colour(place),
            [(x, 100 * y) for x, y in _points(
                records, lambda one, split=split: one["splits"][split]["accuracy"]
            )],
        )
        for place, split in enumerate(splits, start=1)
    ]  # fmt: skip
    return [
        line_chart("L_ML", "higher is better", lines, x=STEP, y=Axis("nats")),
        line_chart("Its terms", "each chunk's own", chunks, x=STEP, y=Axis("nats")),
        line_chart(
            "Accuracy", "of the final model", accuracy, x=STEP,
            y=Axis("%", "%", limits=(0.0, 100.0)),
        ),
    ]  # fmt: skip


def _hyperparameters(history: History, records: Sequence[dict[str, Any]]) -> list[Markup]:
    """Return the pictures of what was found, and the course of every number."""
    last = records[-1]["psi"] if records else {}
    pictures = psi_pictures(last, history.folder.samples)
    courses: dict[str, list[Point]] = {}
    for one in records:
        for name, value in _named(one["psi"]):
            courses.setdefault(name, []).append((one["step"], value))
    left_out = max(0, len(courses) - MOST_LINES)
    lines = [
        Line(name, colour(place), points)
        for place, (name, points) in enumerate(list(courses.items())[:MOST_LINES], start=1)
    ]
    note = "as learned, over the steps" + (
        f"; {left_out} more are in metrics.jsonl" if left_out else ""
    )
    chart = line_chart("Course of every hyperparameter", note, lines, x=STEP, y=Axis("value"))
    return [*(picture.figure() for picture in pictures.values()), _charts([chart])]


def _learning(history: History) -> list[Markup]:
    parties = sorted(history.recording.parties.items())
    return [
        line_chart(
            title, note,
            [Line(f"rank {rank}", colour(rank + 1), one.points(name)) for rank, one in parties],
            x=STEP, y=Axis(label),
        )
        for title, note, name, label in (
            ("Loss of the weights", "mean since the report before", "loss", "loss"),
            ("Loss of the hyperparameters", "on chunks not learned from", "hyper_loss", "loss"),
            ("Throughput", "of all ranks together", "images_per_second", "images/s"),
        )
    ]  # fmt: skip


def _ages(history: History) -> list[Markup]:
    """Return how old what ranks use of each other is; nothing for one rank."""
    parties = sorted(history.recording.parties.items())
    if len(parties) < 2:
        return []
    return [
        line_chart(
            title, "mean since the start",
            [Line(f"rank {rank}", colour(rank + 1), one.points(name)) for rank, one in parties],
            x=STEP, y=Axis("steps", zero=True),
        )
        for title, name in (("Age of psi", "psi_age"), ("Age of the copies", "weights_age"))
    ]  # fmt: skip


def _rank_table(history: History) -> Markup:
    stages = history.summary.get("stages")
    rows = [one for one in stages if isinstance(one, dict)] if isinstance(stages, list) else []
    if not rows:
        return NOTHING
    heads = ["rank", "partitions", "parameters", "learned", "judged", "busy/step", "waits/step"]
    return table(
        heads,
        [
            [
                Cell(f"{one.get('rank')}"),
                Cell(_partitions(one.get("partitions"))),
                Cell(count_text(number(one.get("params")))),
                Cell(number_text(number(one.get("learned")))),
                Cell(number_text(number(one.get("judged")))),
                Cell(seconds_text(number(one.get("busy")))),
                Cell(seconds_text(number(one.get("wait_in")))),
            ]
            for one in rows
        ],
        words=(0, 1),
    )


def _partitions(numbers: Any) -> str:
    if not isinstance(numbers, list) or not numbers:
        return "\u2013"
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"


def _points(records: Sequence[dict[str, Any]], read: Any) -> list[Point]:
    """Return what a reader finds in the records; what is not there is left out."""
    points = []
    for one in records:
        try:
            value = number(read(one))
        except (KeyError, IndexError, TypeError):
            continue
        if value is not None:
            points.append((one["step"], value))
    return points


def _splits(record: dict[str, Any]) -> list[str]:
    splits = record.get("splits")
    return [split for split in splits if isinstance(split, str)] if isinstance(splits, dict) else []


def _named(psi: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield every number with a name of its own."""
    for name, value in psi.items():
        if not isinstance(value, list):
            if (one := number(value)) is not None:
                yield str(name), one
            continue
        for place, one in enumerate(leaves(value), start=1):
            if (found := number(one)) is not None:
                yield f"{name} {place}", found


def _is_list(value: Any) -> bool:
    return isinstance(value, list)
