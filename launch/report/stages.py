"""What the stages are and what they cost: a picture of the pipeline, and a table."""

from __future__ import annotations

from collections.abc import Sequence

from ...search.decoupling import NO_HEAD
from .diagram import Box, diagram
from .history import Block, History
from .markup import NOTHING, Markup, element, join
from .palette import colour
from .scale import DASH, byte_unit, count_text, number_text, percent_text, seconds_text
from .series import number
from .spans import STEP_KINDS
from .table import table

__all__ = ["block_note", "block_table", "pipeline"]

DOT = " \u00b7 "

REPLAYED = ("replayed", "their age")

COLUMNS = (
    "block",
    "layers",
    "head",
    "runs on",
    "parameters",
    "of the head",
    "busy",
    "input",
    "room",
    "peak memory",
    "loss",
    "accuracy",
    "test accuracy",
)


def pipeline(history: History) -> Markup:
    """Return the figure of the pipeline; nothing before anything is known of its blocks."""
    blocks = history.blocks()
    if not blocks:
        return NOTHING
    batch = history.setting("train.batch_size")
    data = Box(history.data, [f"batches of {batch}"] if batch else [])
    note = (
        "In each stage: its layers, its head, the parameters of both, where it runs, and its "
        "shares of time. Under a link: how many messages it held on average."
    )
    return element(
        "figure",
        element("figcaption", element("p", note)),
        element("div", diagram(data, [_box(history, block) for block in blocks]), class_="picture"),
        class_="chart wide",
    )


def block_table(history: History) -> Markup:
    """Return a row per block; nothing before anything is known of them."""
    blocks = history.blocks()
    if not blocks:
        return NOTHING
    heads, rows = COLUMNS, [_row(history, block) for block in blocks]
    if _learned_again(history):
        heads += REPLAYED
        rows = [row + _replayed(block) for row, block in zip(rows, blocks, strict=True)]
    return table(heads, rows, words=(0, 1, 2, 3), class_="blocks")


def block_note(history: History) -> str:
    """Return how to read the table."""
    times = "median of computing" if history.status.ended else "mean of computing"
    shared = any(len(block.ranks) > 1 for block in history.blocks())
    first = " Of a stage with replicas: the figures of the first." if shared else ""
    if _learned_again(history):
        first += (
            " Replayed: batches that were learned from again while the link was empty; their age:"
            " mean of steps behind the newest batch."
        )
    source = history.setting("decoupling")
    cut = f" Cut by decoupling={source}." if source else ""
    return (
        f"Busy: {times} per step; input and room: means of waiting for them. Loss and accuracy: "
        f"the newest on training batches.{first}{cut}"
    )


def _box(history: History, block: Block) -> Box:
    body, head = block.figure("params"), block.figure("head_params")
    lines = [
        block.layers,
        _head(history, block),
        f"{count_text(body)} + {count_text(head)} parameters" if body is not None else None,
        _place(block),
    ]
    return Box(
        f"stage {block.index}",
        [line for line in lines if line],
        _time_shares(history, block),
        _link(history, block) if block.index > 1 else ("", ""),
    )


def _head(history: History, block: Block) -> str | None:
    """Return what a block learns from."""
    if block.head in (None, "classifier"):
        return block.head
    if block.head == NO_HEAD:
        if history.setting("method") == "backprop":
            return "errors of the same step"
        delay = len(history.blocks()) - block.index
        return f"errors {delay} step{'s' * (delay > 1)} old"
    return f"head {block.head}"


def _link(history: History, block: Block) -> tuple[str, str]:
    """Return the kind of the link into a stage and how full it was."""
    series = history.recording.stages.get(block.index)
    depth = series.mean("queue_depth") if series else None
    bound = history.setting("pipeline.queue_messages")
    fill = "" if depth is None else f"{depth:.1f} of {bound}" if bound else f"{depth:.1f}"
    return history.setting("pipeline.link") or "", fill


def _place(block: Block) -> str:
    """Return the device and the rank of a block, or the ranks of its replicas."""
    device, rank = block.figures.get("device"), block.figures.get("rank")
    told = [str(device)] if device is not None else []
    if len(block.ranks) > 1:
        ranks = f"ranks {min(block.ranks)}\u2013{max(block.ranks)}"
        return DOT.join([*told, f"{len(block.ranks)} replicas", ranks])
    return DOT.join(told + ([f"rank {rank}"] if rank is not None else []))


def _time_shares(history: History, block: Block) -> Sequence[float]:
    """Return a stage's shares of time, in the order of KINDS; none unless all are known."""
    known = [max(0.0, time) for time in _times(history, block) if time is not None]
    series = history.recording.stages.get(block.index)
    again = (series.mean("replay") if series else None) or 0.0
    total = sum(known) + again
    if len(known) < len(STEP_KINDS) or not total:
        return ()
    busy, wait_in, wait_out = known
    return [time / total for time in (busy, again, wait_in, wait_out)]


def _times(history: History, block: Block) -> list[float | None]:
    """Return seconds per step of computing and waiting: from the summary, else the records."""
    if history.status.ended:
        return [block.figure(name) for name in STEP_KINDS]
    series = history.recording.stages.get(block.index)
    return [series.mean(name) if series else None for name in STEP_KINDS]


def _row(history: History, block: Block) -> list[object]:
    series = history.recording.stages.get(block.index)
    peak = block.figure("peak_memory_bytes")
    unit = byte_unit(peak or 0)
    found = history.summary.get("block_accuracy")
    tested = found[block.index - 1 : block.index] if isinstance(found, list) else []
    return [
        _name(block),
        block.layers or DASH,
        block.head or DASH,
        _place(block) or DASH,
        count_text(block.figure("params")),
        count_text(block.figure("head_params")),
        *(seconds_text(time) for time in _times(history, block)),
        number_text(peak and peak / unit.size, unit.name, digits=3),
        number_text(series.last("loss") if series else None),
        percent_text(series.last("accuracy") if series else None, digits=1),
        percent_text(number(tested[0]) if tested else None),
    ]


def _learned_again(history: History) -> bool:
    """Whether any stage did."""
    return any(block.figure("replayed") for block in history.blocks())


def _replayed(block: Block) -> list[object]:
    """Return the cells under `REPLAYED`."""
    age = block.figure("replay_staleness")
    return [count_text(block.figure("replayed")), number_text(age, "steps", digits=3)]


def _name(block: Block) -> Markup:
    """Return the number of a block behind its colour."""
    look = f"fill {colour(block.index)}"
    swatch = element("rect", x=0, y=1, width=10, height=10, rx=2, class_=look)
    picture = element("svg", swatch, viewBox="0 0 12 12", width=12, height=12, aria_hidden="true")
    return join([picture, f" {block.index}"])
