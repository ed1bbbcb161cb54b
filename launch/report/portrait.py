"""The page of one run."""

from __future__ import annotations

from collections.abc import Sequence

from .curves import learning, resources, speed
from .diagram import Box, diagram
from .events import event_table
from .gantt import gantt
from .history import Block, History
from .markup import NOTHING, Markup, element, join
from .page import banner, page, section
from .palette import colour
from .scale import (
    DASH,
    byte_unit,
    count_text,
    number_text,
    percent_text,
    seconds_text,
    span_unit,
)
from .spans import KINDS, occupancy, windows
from .strips import Strip, strip_figure
from .table import Card, cards, table

__all__ = ["portrait"]

BINS = 280
STATUS_LOOK = {"finished": "good", "failed": "bad", "gone": "bad", "running": "running"}
DOT = " \u00b7 "


def portrait(history: History) -> str:
    """Return the page of a run.

    Args:
        history: What its folder holds; the run may have ended, failed or still go on.
    """
    name = history.folder.name
    sections = [
        join(_banners(history)),
        cards(_key_figures(history)),
        section("Pipeline", _pipeline(history)),
        section("Learning", learning(history)),
        section("Speed", *speed(history)),
        section("Timeline", *_timeline(history), note=_timeline_note(history)),
        section("Blocks", _block_table(history), note=_block_note(history)),
        section("Memory and devices", resources(history)),
        section("Events", event_table(history.recording), note=_event_note(history)),
        section("Logs", *_logs(history), note="The last lines that each rank printed."),
        section("Configuration", _configuration(history)),
    ]
    return page(f"{name} \u2013 blockstep", _header(history), sections)


def _header(history: History) -> Markup:
    status = history.status
    look = STATUS_LOOK.get(status.kind, "plain")
    blocks = len(history.blocks())
    runtime = history.summary.get("runtime") or history.setting("runtime")
    device = history.summary.get("device") or history.setting("device")
    threads = history.setting("train.threads")
    facts = [
        f"{history.network} on {history.data}",
        f"method {history.method}",
        f"{blocks} block{'s' * (blocks != 1)}" if blocks else None,
        f"runtime {runtime}" if runtime else None,
        f"batches of {batch}" if (batch := history.setting("train.batch_size")) else None,
        f"seed {seed}" if (seed := history.setting("seed")) else None,
        f"device {device}" if device else None,
        f"{threads} thread{'s' * (threads != '1')} per process" if threads else None,
    ]
    return element(
        "header",
        element("p", "blockstep run", class_="kicker"),
        element("h1", history.folder.name, " ", element("span", status.kind, class_=f"tag {look}")),
        element("p", DOT.join(fact for fact in facts if fact), class_="facts"),
        element("p", status.text.partition("\n")[0], class_="note"),
    )


def _banners(history: History) -> list[Markup]:
    """Say what is wrong or missing."""
    status, found = history.status, []
    if status.kind == "failed":
        text = status.text.removeprefix("failed:").strip()
        found.append(banner("bad", "This run failed.", text))
    elif status.kind == "gone":
        text = "Its processes have ended without a result."
        found.append(banner("bad", "This run ended early.", text))
    elif not status.ended:
        text = f"What is known only at its end is missing. Later: blockstep report "
        found.append(banner("running", "This run has not ended.", f"{text}{history.folder.path}"))
    if not history.recording.lines:
        found.append(banner("plain", "There are no records yet.", "metrics.jsonl is empty."))
    if history.problems:
        found.append(banner("plain", "Some files could not be read.", "\n".join(history.problems)))
    return found


def _key_figures(history: History) -> list[Card]:
    figure = history.figure
    backprop = figure("backprop_images_per_second")
    newest = history.recording.events.newest.get("measured", {})
    if backprop is None:
        value = newest.get("backprop_images_per_second")
        backprop = value if isinstance(value, float | int) else None
    stage = figure("slowest_stage")
    slowest = f"stage {stage:.0f}, the" if stage is not None else "the"
    ratio = number_text(figure("speedup_vs_backprop"), digits=3)
    return [
        Card(
            "Test accuracy",
            percent_text(figure("test_accuracy")),
            "of the last block, on the test examples after the last step",
        ),
        Card(
            "Ensemble",
            percent_text(figure("ensemble_accuracy")),
            "test accuracy of the last two heads together",
        ),
        Card(
            "Throughput",
            number_text(figure("images_per_second"), "images/s"),
            "through the last stage, without warm-up, evaluations and checkpoints",
        ),
        Card(
            "Speed-up",
            ratio if ratio == DASH else f"{ratio}\u00d7",
            "over backpropagation through the whole network on one device"
            + (f": {number_text(backprop, 'images/s')}" if backprop else ""),
        ),
        Card(
            "Efficiency",
            percent_text(figure("efficiency"), digits=1),
            "throughput against that of the slowest stage if it never waited",
        ),
        Card(
            "Slowest stage alone",
            seconds_text(figure("slowest_alone")),
            f"per step of {slowest} slowest, with all others idle",
        ),
    ]


def _pipeline(history: History) -> Markup:
    blocks = history.blocks()
    if not blocks:
        return NOTHING
    batch = history.setting("train.batch_size")
    data = Box(history.data, [f"batches of {batch}"] if batch else [])
    bound = history.setting("pipeline.queue_messages")
    kind = history.setting("pipeline.link") or ""
    boxes = []
    for block in blocks:
        series = history.recording.stages.get(block.index)
        depth = series.mean("queue_depth") if series and block.index > 1 else None
        fill = "" if depth is None else f"{depth:.1f} of {bound}" if bound else f"{depth:.1f}"
        body, head = block.figure("params"), block.figure("head_params")
        lines = [
            block.layers or "",
            f"head {block.head}" if block.head != "classifier" else "classifier",
            f"{count_text(body)} + {count_text(head)} parameters" if body is not None else "",
            _place(block),
        ]
        boxes.append(
            Box(
                f"stage {block.index}",
                [line for line in lines if line and line != "head None"],
                _time_shares(history, block),
                (kind if block.index > 1 else "", fill),
            )
        )
    note = "In each stage: its layers, its head, the parameters of both, where it runs, and its "
    note += "shares of time. Under a link: how many messages it held on average."
    return element(
        "figure",
        element("figcaption", element("p", note)),
        element("div", diagram(data, boxes), class_="picture"),
        class_="chart wide",
    )


def _place(block: Block) -> str:
    device, rank = block.figures.get("device"), block.figures.get("rank")
    told = [str(device)] if device is not None else []
    return DOT.join(told + ([f"rank {rank}"] if rank is not None else []))


def _time_shares(history: History, block: Block) -> Sequence[float]:
    """Return a stage's shares of time: from the summary, else from the records."""
    times = _times(history, block)
    known = [max(0.0, time) for time in times if time is not None]
    total = sum(known)
    return [time / total for time in known] if len(known) == 3 and total else ()


def _times(history: History, block: Block) -> list[float | None]:
    """Return seconds per step of computing, waiting for input and waiting for room."""
    series = history.recording.stages.get(block.index)
    found = []
    for name in KINDS[:3]:
        value = block.figure(name)
        if value is None and series is not None and not history.status.ended:
            value = series.mean(name)
        found.append(value)
    return found


def _timeline(history: History) -> list[Markup]:
    """Return the overview of the whole run and the windows into it."""
    trace = history.trace
    if trace is None:
        return []
    hosts = {block.index: block.figures.get("host") for block in history.blocks()}
    if len(set(hosts.values())) > 1:
        trace = trace.aligned(hosts)
    seconds = trace.seconds
    if not seconds:
        return []
    unit = span_unit(seconds)
    strips = []
    for stage, spans in trace.stages.items():
        shares = occupancy(spans, seconds=seconds, bins=BINS)
        width = seconds / BINS / unit.size
        rows = [(place * width, share) for place, share in enumerate(shares)]
        rows.append((seconds / unit.size, shares[-1]))
        totals = [sum(share[kind] for share in shares) / BINS for kind in range(3)]
        strips.append(Strip(f"stage {stage}", colour(stage), rows, totals))
    overview = strip_figure(
        "The whole run",
        f"shares of each {seconds_text(seconds / BINS)}; blank where nothing is recorded",
        strips,
        x_label=f"time ({unit.name})",
        kinds=5,
        stepped=True,
    )
    return [overview, *(gantt(trace, window) for window in windows(trace))]


def _timeline_note(history: History) -> str:
    hosts = {block.figures.get("host") for block in history.blocks()}
    clocks = " Each machine\u2019s time begins at its own first span." if len(hosts) > 1 else ""
    resumed = " It shows the last part of a run that was resumed."
    return (
        "What every stage did when. trace.json in the folder of the run has all spans; it opens "
        f"in Perfetto (ui.perfetto.dev).{clocks}"
        f"{resumed if 'resume' in history.recording.events.newest else ''}"
    )


def _block_table(history: History) -> Markup:
    blocks = history.blocks()
    if not blocks:
        return NOTHING
    accuracies = history.summary.get("block_accuracy")
    tested = accuracies if isinstance(accuracies, list) else []
    rows = []
    for block in blocks:
        series = history.recording.stages.get(block.index)
        peak = block.figure("peak_memory_bytes")
        unit = byte_unit(peak or 0)
        times = [seconds_text(time) for time in _times(history, block)]
        place = block.index - 1
        rows.append(
            [
                _block_name(block),
                block.layers or DASH,
                block.head or DASH,
                _place(block) or DASH,
                count_text(block.figure("params")),
                count_text(block.figure("head_params")),
                *times,
                number_text(peak and peak / unit.size, unit.name, digits=3),
                number_text(series.last("loss") if series else None),
                percent_text(series.last("accuracy") if series else None, digits=1),
                percent_text(tested[place] if place < len(tested) else None),
            ]
        )
    heads = ["block", "layers", "head", "runs on", "parameters", "of the head", "busy", "input"]
    heads += ["room", "peak memory", "loss", "accuracy", "test accuracy"]
    return table(heads, rows, words=(0, 1, 2, 3))


def _block_name(block: Block) -> Markup:
    swatch = element(
        "rect", x=0, y=1, width=10, height=10, rx=2, class_=f"fill {colour(block.index)}"
    )
    picture = element("svg", swatch, viewBox="0 0 12 12", width=12, height=12, aria_hidden="true")
    return join([picture, f" {block.index}"])


def _block_note(history: History) -> str:
    times = "medians" if history.status.ended else "means"
    source = history.setting("decoupling")
    cut = f" Cut by decoupling={source}." if source else ""
    return (
        f"Busy: {times} of computing per step; input and room: means of waiting for them. Loss "
        f"and accuracy: the newest on training batches.{cut}"
    )


def _event_note(history: History) -> str:
    damaged = history.recording.damaged
    lines = f"{damaged} line{'s' * (damaged != 1)} of metrics.jsonl could not be read"
    note = "Time counts from the first training step, without the pauses between parts of a run."
    return f"{note} {lines} (cut short?)." if damaged else note


def _logs(history: History) -> list[Markup]:
    return [
        element("details", element("summary", name), element("pre", text))
        for name, text in history.logs.items()
    ]


def _configuration(history: History) -> Markup:
    if not history.config_text:
        return NOTHING
    title = element("summary", f"config.yaml ({len(history.config)} keys)")
    return element("details", title, element("pre", history.config_text))
