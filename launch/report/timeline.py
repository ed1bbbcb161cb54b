"""The timeline of a run: all of it in strips, and parts of it in detail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .gantt import gantt
from .history import History
from .markup import Markup
from .palette import colour
from .scale import Unit, seconds_text, span_unit
from .spans import STEP_KINDS, Span, occupancy, windows
from .strips import Strip, strip_figure

__all__ = ["timeline", "timeline_note"]

BINS = 280


def timeline(history: History) -> list[Markup]:
    """Return the overview of the whole run and the windows into it; nothing without spans."""
    trace = history.trace
    if trace is None:
        return []
    hosts = _hosts(history)
    if len(set(hosts.values())) > 1:
        trace = trace.aligned(hosts)
    seconds = trace.seconds
    if not seconds:
        return []
    unit, kinds = span_unit(seconds), trace.kinds
    overview = strip_figure(
        "The whole run",
        f"shares of each {seconds_text(seconds / BINS)}; blank where nothing is recorded",
        [_strip(stage, spans, kinds, seconds, unit) for stage, spans in trace.stages.items()],
        x_label=f"time ({unit.name})",
        kinds=kinds,
        stepped=True,
    )
    return [overview, *(gantt(trace, window) for window in windows(trace))]


def timeline_note(history: History) -> str:
    """Return how to read it, and where there is more."""
    notes = [
        "What every stage did when. trace.json in the folder of the run has all spans; it opens "
        "in Perfetto (ui.perfetto.dev)."
    ]
    if len(set(_hosts(history).values())) > 1:
        notes.append("Each machine's time begins at its own first span.")
    if "resume" in history.recording.events.newest:
        notes.append("It shows the last part of a run that was resumed.")
    return " ".join(notes)


def _hosts(history: History) -> Mapping[int, str]:
    return {block.index: str(block.figures.get("host")) for block in history.blocks()}


def _strip(
    stage: int, spans: Sequence[Span], kinds: Sequence[str], seconds: float, unit: Unit
) -> Strip:
    shares = occupancy(spans, seconds=seconds, bins=BINS, kinds=kinds)
    width = seconds / BINS / unit.size
    rows = [(place * width, share) for place, share in enumerate(shares)]
    rows.append((seconds / unit.size, shares[-1]))
    places = map(kinds.index, STEP_KINDS)
    totals = [sum(share[place] for share in shares) / BINS for place in places]
    return Strip(f"stage {stage}", colour(stage), rows, totals)
