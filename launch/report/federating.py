"""What the page of a federation shows: accuracy, losses, hyperparameters and bytes over rounds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from .chart import Axis, Line, line_chart
from .history import History
from .markup import NOTHING, Markup, element
from .page import section
from .palette import INK, colour
from .records import PSI
from .scale import DASH, byte_unit, number_text, percent_text, seconds_text
from .series import Point, Series
from .table import Card, cards, table

__all__ = ["federation_sections"]

ROUND = Axis("round")
PERCENT = Axis("%", "%", limits=(0.0, 100.0))


def federation_sections(history: History) -> list[Markup]:
    """Return the key figures of a federation, its courses, and what its clients send."""
    return [
        cards(_key_figures(history)),
        section("Learning", _grid([*_accuracies(history), *_losses(history)])),
        section(
            "Hyperparameters",
            _grid(_hyperparameters(history)),
            _learned(history),
            note="1 and 2 are the lower and the upper end of a range; rotations are in radians.",
        ),
        section("Bytes", _grid(_bytes(history)), _chunks(history)),
        section("Rounds", _grid(_rounds(history))),
    ]


def _key_figures(history: History) -> list[Card]:
    figure = history.figure
    up, down = figure("bytes_up"), figure("bytes_down")
    count, drawn = _count(figure("averaged_evaluations")), _count(figure("clients_drawn"))
    nominal = percent_text(figure("upload_share_nominal"))
    return [
        Card("Test accuracy", percent_text(figure("test_accuracy")), "after the last round"),
        Card(
            "Averaged accuracy",
            percent_text(figure("averaged_accuracy")),
            f"over the last {count} evaluations",
        ),
        Card(
            "Upload",
            percent_text(figure("upload_share")),
            f"of federated averaging's weights; {nominal} by the shares alone",
        ),
        Card("Sent up", _size(up), "by all clients in all rounds"),
        Card("Sent down", _size(down), "to all clients in all rounds"),
        Card("Lost", _count(figure("clients_lost")), f"of {drawn} clients did not answer"),
        Card("A round", seconds_text(figure("seconds_per_round")), "on average, here"),
    ]


def _count(value: float | None) -> str:
    return DASH if value is None else f"{value:,.0f}"


def _size(count: float | None) -> str:
    if count is None:
        return DASH
    unit = byte_unit(count)
    return number_text(count / unit.size, unit.name)


def _accuracies(history: History) -> list[Markup]:
    """Return the accuracy of each split over rounds, and over what was sent until then."""
    lines, over_bytes = [], []
    sent = _sent(history)
    for place, (split, series) in enumerate(sorted(_evaluations(history).items()), start=1):
        points = [(x, 100 * y) for x, y in series.points("accuracy/1")]
        lines.append(Line(split, colour(place), points))
        over_bytes.append(Line(split, colour(place), sent.moved(points)))
    if not any(len(line.points) > 1 for line in lines):
        return []
    unit = sent.unit
    return [
        line_chart("Accuracy", "of the whole network", lines, x=ROUND, y=PERCENT),
        line_chart(
            "Accuracy by what was sent", "up and down together", over_bytes,
            x=Axis(unit, unit), y=PERCENT,
        ),
    ]  # fmt: skip


class _Sent:
    """Bytes that were sent until a round."""

    def __init__(self, points: Sequence[Point]) -> None:
        unit = byte_unit(points[-1][1] if points else 0.0)
        self.unit = unit.name
        self._rounds = [x for x, _ in points]
        self._totals = [y / unit.size for _, y in points]

    def moved(self, points: Sequence[Point]) -> list[Point]:
        """Put points at what was sent until their round."""
        found = []
        for x, y in points:
            place = bisect_right(self._rounds, x)
            if place:
                found.append((self._totals[place - 1], y))
        return found


def _sent(history: History) -> _Sent:
    series = history.recording.rounds
    return _Sent(series.points("total_bytes") if series is not None else [])


def _evaluations(history: History) -> dict[str, Series]:
    found = history.recording.evaluations
    return {split: series for split, series in found.items() if "accuracy/1" in series.names}


def _losses(history: History) -> list[Markup]:
    lines = [
        Line("clients, while they learn", INK, _course(history, "loss")),
        Line("that judges hyperparameters", colour(2), _course(history, "psi_loss")),
    ]
    lines += [
        Line(split, colour(place), series.points("loss/1"))
        for place, (split, series) in enumerate(_evaluations(history).items(), start=3)
        if "loss/1" in series.names and series.rows > 1
    ]
    return [line_chart("Loss", "means over clients", lines, x=ROUND, y=Axis("loss"))]


def _course(history: History, name: str) -> list[Point]:
    series = history.recording.rounds
    return series.points(name) if series is not None else []


def _hyperparameters(history: History) -> list[Markup]:
    """Return a chart for each module that learns some, with a line for each of its numbers."""
    series = history.recording.rounds
    modules: dict[str, list[Line]] = {}
    for key in series.names if series is not None else ():
        if key.startswith(PSI) and series is not None:
            number, _, place = key.removeprefix(PSI).rpartition("/")
            module, _, name = number.rpartition("/")
            lines = modules.setdefault(module, [])
            label = f"{name} {place}" if f"{PSI}{number}/2" in series.names else name
            lines.append(Line(label, colour(len(lines) + 1), series.points(key)))
    return [
        line_chart(module, "", lines, x=ROUND, y=Axis("value")) for module, lines in modules.items()
    ]


def _learned(history: History) -> Markup:
    """Return what was learned at the end, in the units of a reader."""
    psi = history.summary.get("psi")
    rows = []
    for name, parts in psi.items() if isinstance(psi, dict) else ():
        for key, values in parts.items() if isinstance(parts, dict) else ():
            numbers = values if isinstance(values, list) else [values]
            told = " to ".join(
                number_text(float(one)) for one in numbers if isinstance(one, int | float)
            )
            rows.append([name, key, told])
    return table(["module", "number", "learned"], rows, words=(0, 1)) if rows else NOTHING


def _bytes(history: History) -> list[Markup]:
    up, down = _course(history, "bytes_up"), _course(history, "bytes_down")
    unit = byte_unit(max((y for _, y in (*up, *down)), default=0.0))

    def scaled(points: Sequence[Point]) -> list[Point]:
        return [(x, y / unit.size) for x, y in points]

    lines = [Line("up", colour(1), scaled(up)), Line("down", colour(2), scaled(down))]
    every = history.setting("log.every") or "1"
    note = "by the clients of a round" if every == "1" else f"by the clients of {every} rounds"
    axis = Axis(unit.name, unit.name, zero=True)
    return [line_chart("Bytes", note, lines, x=ROUND, y=axis)]


def _chunks(history: History) -> Markup:
    """Return what a client of each chunk sends."""
    counts, sizes = history.summary.get("chunk_clients"), history.summary.get("client_bytes_up")
    if not (isinstance(counts, list) and isinstance(sizes, list) and len(counts) == len(sizes)):
        return NOTHING
    down = _size(history.figure("client_bytes_down"))
    rows = [
        [f"chunk {chunk}", str(count), _size(float(size)), down]
        for chunk, (count, size) in enumerate(zip(counts, sizes, strict=True), start=1)
        if isinstance(size, int | float)
    ]
    return table(["", "clients", "each sends", "each is sent"], rows)


def _rounds(history: History) -> list[Markup]:
    clients = [
        Line("drawn", INK, _course(history, "clients")),
        Line("lost", colour(2), _course(history, "lost")),
    ]
    seconds = [Line("seconds", INK, _course(history, "seconds"))]
    return [
        line_chart("Clients", "drawn, and without an answer", clients, x=ROUND,
                   y=Axis("clients", zero=True)),
        line_chart("Time of a round", "", seconds, x=ROUND, y=Axis("s", "s", zero=True)),
    ]  # fmt: skip


def _grid(charts: Sequence[Markup]) -> Markup:
    shown = [chart for chart in charts if chart]
    return element("div", *shown, class_="charts") if shown else NOTHING
