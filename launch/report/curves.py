"""The charts of one run: how it learned, how fast it was, what it used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .chart import Axis, Line, line_chart
from .history import History
from .markup import NOTHING, Markup, element
from .palette import INK, colour
from .records import GPU, MAX_STAGES
from .scale import byte_unit
from .series import BUCKETS, Point, Series, number
from .spans import KINDS, STEP_KINDS
from .strips import Strip, strip_figure

__all__ = ["curve_note", "learning", "resources", "speed"]

PERCENT = (0.0, 100.0)
STEP = Axis("step")

FEW = 80
"""Lines of more records are drawn as means, with the single records faint behind them."""

MEANS = 40

POINTS = 5000
"""About so many points in a chart at most, so that many stages make no heavy page."""

Charts = list[Markup]


def learning(history: History) -> Markup:
    """Return the charts of losses, accuracies and learning rate; nothing without records."""
    charts = [
        _trained(history, "Training loss", "loss", Axis("loss")),
        _trained(history, "Training accuracy", "accuracy", Axis("%", "%", limits=PERCENT), 100),
    ]
    for split, series in sorted(history.recording.evaluations.items(), reverse=True):
        if series.rows > 1:
            name = split.capitalize()
            charts.append(_accuracies(f"{name} accuracy", series))
            charts.append(_losses(f"{name} loss", series))
    charts += _metrics(history)
    charts.append(_similarity(history))
    charts.append(_learning_rate(history))
    return _grid(charts)


def _similarity(history: History) -> Markup:
    """Return how far local gradients pointed where backpropagation points; see Figure 8."""
    lines: dict[str, list[Point]] = {}
    for entry in history.gradients:
        step, blocks = number(entry.get("step")), entry.get("blocks")
        named = {"all blocks": entry.get("overall")}
        if isinstance(blocks, list):
            named |= {f"block {index}": one for index, one in enumerate(blocks[:MAX_STAGES], 1)}
        for name, value in named.items():
            cosine = number(value)
            if step is not None and cosine is not None:
                lines.setdefault(name, []).append((step, cosine))
    looks = {f"block {index}": colour(index) for index in range(1, MAX_STAGES + 1)}
    return line_chart(
        "Gradient similarity",
        "cosine of the gradient of a block's own loss to that of backpropagation",
        [Line(name, looks.get(name, INK), sorted(points)) for name, points in lines.items()],
        x=STEP,
        y=Axis("cosine", limits=(-1.0, 1.0)),
    )


def speed(history: History) -> list[Markup]:
    """Return the strips of time shares and the charts of throughput and queues."""
    throughput = _trained(
        history,
        "Throughput",
        "images_per_second",
        Axis("images/s", "images/s", zero=True),
        note="training examples per second through each stage, waiting included",
    )
    queues = _queues(history) if len(history.recording.stages) > 1 else []
    return [_time_shares(history), _grid([throughput, *queues])]


def _queues(history: History) -> Charts:
    """Return how full the links were, and how far the stages were apart."""
    bound = history.setting("pipeline.queue_messages")
    when = "in the link into the stage, after it took its input"
    depth = f"messages {when}; it holds {bound} at most" if bound else f"messages {when}"
    ahead = "steps by which the stage before was ahead when an input was used"
    messages, steps = Axis("messages", zero=True), Axis("steps", "steps", zero=True)
    return [
        _trained(history, "Queue depth", "queue_depth", messages, note=depth),
        _bytes(history, "Link fill", "queue_bytes", when),
        _trained(history, "Staleness", "staleness", steps, note=ahead),
        *_replays(history),
    ]


def _replays(history: History) -> Charts:
    """Return how much stages learned again, and how old that was; nothing where none did."""
    if not any(series.mean("replayed") for series in history.recording.stages.values()):
        return []
    batches, steps = Axis("batches", zero=True), Axis("steps", "steps", zero=True)
    every = history.setting("log.every")
    count = "learned from again while the link into the stage was empty"
    count += f", in each {every} steps" if every else ""
    age = "mean of steps between the newest batch and the one that was learned from again"
    return [
        _trained(history, "Replayed batches", "replayed", batches, note=count),
        _trained(history, "Staleness of replayed batches", "replay_staleness", steps, note=age),
    ]


def resources(history: History) -> Markup:
    """Return the charts of memory and of what the GPUs told."""
    charts = [
        _bytes(history, "Memory", "memory_bytes", "resident memory of the stage's process"),
        _trained(
            history,
            "GPU utilization",
            f"gpu/{GPU[0]}",
            Axis("%", "%", zero=True, limits=PERCENT),
            note="share of time in which a kernel ran",
        ),
        _bytes(history, "GPU memory", f"gpu/{GPU[1]}", "in use by all processes"),
        _trained(history, "GPU power", f"gpu/{GPU[2]}", Axis("W", "W", zero=True)),
        _trained(history, "GPU temperature", f"gpu/{GPU[3]}", Axis("\u00b0C", "\u00b0C")),
    ]
    return _grid(charts)


def curve_note(history: History) -> str | None:
    """Return how to read the lines, where they are means."""
    rows = max((series.rows for series in history.recording.stages.values()), default=0)
    if rows <= FEW:
        return None
    return "Lines are means over neighbouring records, single records are faint behind them."


def _grid(charts: Sequence[Markup]) -> Markup:
    shown = [chart for chart in charts if chart]
    return element("div", *shown, class_="charts") if shown else NOTHING


def _stage_lines(history: History, name: str, factor: float) -> list[Line]:
    """Return a line per stage; of many records their means, and themselves behind."""

    def scaled(points: Sequence[Point]) -> list[Point]:
        return [(x, y * factor) for x, y in points]

    stages = history.recording.stages
    groups = min(BUCKETS, POINTS // (4 * max(1, len(stages))))
    lines = []
    for stage, series in sorted(stages.items()):
        points, faint = scaled(series.points(name, groups=groups)), []
        if series.rows > FEW:
            points, faint = scaled(series.means(name, groups=min(MEANS, groups))), points
        lines.append(Line(f"stage {stage}", colour(stage), points, faint))
    return lines


def _trained(
    history: History, title: str, name: str, y: Axis, factor: float = 1.0, *, note: str = ""
) -> Markup:
    """Return the chart of a quantity that stages report."""
    return line_chart(title, note, _stage_lines(history, name, factor), x=STEP, y=y)


def _bytes(history: History, title: str, name: str, note: str) -> Markup:
    stages = history.recording.stages.values()
    unit = byte_unit(max((y for series in stages for _, y in series.points(name)), default=0.0))
    axis = Axis(unit.name, unit.name, zero=True)
    return _trained(history, title, name, axis, 1 / unit.size, note=note)


def _learning_rate(history: History) -> Markup:
    """Return the learning rate: one line if all stages have the same."""
    lines = [
        Line(f"stage {stage}", colour(stage), series.points("lr"))
        for stage, series in sorted(history.recording.stages.items())
    ]
    if len({tuple(y for _, y in line.points) for line in lines}) == 1 and len(lines) > 1:
        lines = [Line("all stages", INK, lines[0].points)]
    note = "the same in all stages" if len(lines) == 1 else ""
    return line_chart("Learning rate", note, lines, x=STEP, y=Axis("learning rate", zero=True))


def _block_lines(series: Series, name: str, factor: float) -> list[Line]:
    blocks = [key for key in series.names if key.startswith(f"{name}/")]
    return [
        Line(f"block {block}", colour(block), [(x, y * factor) for x, y in series.points(key)])
        for block, key in enumerate(blocks, start=1)
    ]


def _accuracies(title: str, series: Series) -> Markup:
    lines = _block_lines(series, "accuracy", 100)
    votes = [(x, 100 * y) for x, y in series.points("ensemble")]
    note = "of each block's head"
    if votes:
        note += "; ensemble: the last two heads together"
        lines.append(Line("ensemble", f"{INK} d2", votes))
    return line_chart(title, note, lines, x=STEP, y=Axis("%", "%", limits=PERCENT))


def _losses(title: str, series: Series) -> Markup:
    lines = _block_lines(series, "loss", 1)
    return line_chart(title, "of each block's head", lines, x=STEP, y=Axis("loss"))


def _metrics(history: History) -> Charts:
    """Return a chart for each further metric: the last block's, a line per split."""
    found: dict[str, list[Line]] = {}
    for split, series in sorted(history.recording.evaluations.items(), reverse=True):
        for key in series.names:
            group, _, name = key.partition("/")
            if group == "metric" and series.rows > 1:
                place = len(found.setdefault(name, [])) + 1
                found[name].append(Line(split, colour(place), series.points(key)))
    note = "of the last block"
    return [line_chart(name, note, lines, x=STEP, y=Axis(name)) for name, lines in found.items()]


def _time_shares(history: History) -> Markup:
    """Return where each stage's time went, over steps."""
    stages = history.recording.stages
    again = any(series.mean("replay") for series in stages.values())
    kinds = [kind for kind in KINDS if kind in STEP_KINDS or (again and kind == "replay")]
    groups = min(BUCKETS, POINTS // max(1, len(stages)))
    strips = []
    for stage, series in sorted(stages.items()):
        rows = series.mean_rows(kinds, groups=groups)
        shares = [(x, _shares(dict(zip(kinds, values, strict=True)))) for x, values in rows]
        totals = _shares({kind: series.mean(kind) for kind in kinds})
        known = [(x, list(one.values())) for x, one in shares if one]
        told = [totals[kind] for kind in STEP_KINDS] if totals else ()
        strips.append(Strip(f"stage {stage}", colour(stage), known, told))
    return strip_figure(
        "Where each stage's time went",
        "shares of the time per step; a stage that is always busy sets the pace",
        strips,
        x_label="step",
        kinds=kinds,
        stepped=False,
    )


def _shares(seconds: Mapping[str, float | None]) -> dict[str, float]:
    """Return the parts of the sum; none if one that every stage has is missing, or all are 0."""
    known = {kind: max(0.0, value or 0.0) for kind, value in seconds.items()}
    total = sum(known.values())
    if not total or any(seconds[kind] is None for kind in STEP_KINDS):
        return {}
    return {kind: value / total for kind, value in known.items()}
