"""``trace.json``: when each stage computed and when it waited."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .series import number

__all__ = ["KINDS", "STEP_KINDS", "Span", "Trace", "Window", "occupancy", "read_trace", "windows"]

STEP_KINDS = ("busy", "wait_in", "wait_out")
"""What a step has."""

KINDS = ("busy", "replay", "wait_in", "wait_out", "evaluate", "checkpoint")
"""What a stage may be doing, in the order in which they are stacked."""

FIRST_STEPS = 20
LATER_STEPS = 12
MAX_SPANS = 1600
"""At most so many spans in one window; with many stages it shows fewer steps."""

SLOW_START = 5.0
"""A first step that takes so many usual steps would squeeze the others: it is left out."""


@dataclass(frozen=True)
class Span:
    """What a stage did for a while.

    Attributes:
        kind: One of ``KINDS``.
        begin: Seconds since the first span of the run.
        seconds: How long.
        first: The step it did that for.
        last: The last one, where several steps were added up.
    """

    kind: str
    begin: float
    seconds: float
    first: int
    last: int

    @property
    def end(self) -> float:
        """Seconds since the first span of the run."""
        return self.begin + self.seconds

    @property
    def added_up(self) -> bool:
        """Whether it is the sum of several steps, so that its place is not exact."""
        return self.last > self.first


@dataclass(frozen=True)
class Trace:
    """The spans of every stage, in the order of time."""

    stages: Mapping[int, Sequence[Span]]

    @property
    def seconds(self) -> float:
        """The end of the last span."""
        return max((span.end for spans in self.stages.values() for span in spans), default=0.0)

    @property
    def kinds(self) -> Sequence[str]:
        """What the stages may have done, without learning again where none did."""
        again = any(span.kind == "replay" for spans in self.stages.values() for span in spans)
        return [kind for kind in KINDS if again or kind != "replay"]

    def aligned(self, hosts: Mapping[int, Any]) -> Trace:
        """Let every machine's clock begin at zero: theirs have nothing in common.

        Args:
            hosts: The machine of each stage.
        """
        begins: dict[Any, float] = {}
        for stage, spans in self.stages.items():
            host = hosts.get(stage)
            begins[host] = min(begins.get(host, spans[0].begin), spans[0].begin)
        return Trace(
            {
                stage: [
                    replace(span, begin=span.begin - begins[hosts.get(stage)]) for span in spans
                ]
                for stage, spans in self.stages.items()
            }
        )


@dataclass(frozen=True)
class Window:
    """A part of the timeline that is shown in detail.

    Attributes:
        title: Which steps.
        begin: Seconds.
        end: Seconds.
    """

    title: str
    begin: float
    end: float


def read_trace(value: Any) -> Trace | None:
    """Read the content of ``trace.json``; None if no span is in it.

    Of several replicas of a stage the first one is read: they work in step.
    """
    events = value.get("traceEvents") if isinstance(value, dict) else None
    found: dict[int, list[Span]] = {}
    for event in events if isinstance(events, list) else []:
        if isinstance(event, dict) and type(event.get("pid")) is int and not event.get("tid"):
            span = _span(event)
            if span is not None:
                found.setdefault(event["pid"], []).append(span)
    if not found:
        return None
    zero = min(span.begin for spans in found.values() for span in spans)
    return Trace(
        {
            stage: sorted(
                (replace(span, begin=span.begin - zero) for span in spans),
                key=lambda span: span.begin,
            )
            for stage, spans in sorted(found.items())
        }
    )


def windows(trace: Trace) -> list[Window]:
    """Choose what to show in detail: the first steps, and some of the later ones.

    The steps are counted at the last stage: those before it are ahead of them.
    """
    spans = trace.stages[max(trace.stages)]
    steps: dict[int, tuple[float, float]] = {}
    for span in spans:
        if span.kind in STEP_KINDS and not span.added_up:
            begin, end = steps.get(span.first, (span.begin, span.end))
            steps[span.first] = (min(begin, span.begin), max(end, span.end))
    if not steps:
        return []
    room = max(3, MAX_SPANS // (3 * len(trace.stages)))
    order = sorted(steps)
    first = order[: min(FIRST_STEPS, room)]
    chosen = [_first_window(trace, steps, first)]
    later = [step for step in order[len(first) :] if step > order[0] + 2 * FIRST_STEPS]
    if later:
        # Where the steps are kept without a gap: the middle of the last ones.
        middle = len(later) // 2
        later = later[middle : middle + min(LATER_STEPS, room)]
        title = f"Steps {later[0]:,}\u2013{later[-1]:,}"
        chosen.append(Window(title, steps[later[0]][0], steps[later[-1]][1]))
    return chosen


def occupancy(
    spans: Sequence[Span], *, seconds: float, bins: int, kinds: Sequence[str] = KINDS
) -> list[tuple[float, ...]]:
    """Return for equal parts of the run the share of time of each kind.

    Args:
        spans: Of one stage.
        seconds: Length of the run.
        bins: Number of parts.
        kinds: All that the spans are of.

    Returns:
        A tuple in the order of ``kinds`` for each part; sums up to 1 at most, less where the
        stage did nothing that is recorded.
    """
    shares = [[0.0] * len(kinds) for _ in range(bins)]
    width = seconds / bins
    for begin, end, kind, weight in _weighted(spans):
        place = kinds.index(kind)
        for index in range(int(begin / width), min(bins - 1, int(end / width)) + 1):
            overlap = min(end, (index + 1) * width) - max(begin, index * width)
            shares[index][place] += weight * max(0.0, overlap) / width
    return [_at_most_one(share) for share in shares]


def _span(event: Mapping[str, Any]) -> Span | None:
    begin, length, kind = number(event.get("ts")), number(event.get("dur")), event.get("name")
    if event.get("ph") != "X" or kind not in KINDS or begin is None or length is None:
        return None
    arguments = event.get("args")
    step = arguments.get("step") if isinstance(arguments, dict) else None
    first, _, last = str(step).partition("-")
    last = last or first
    if not (first.isdecimal() and last.isdecimal() and len(first) + len(last) < 32):
        return None
    return Span(kind, begin / 1e6, max(0.0, length / 1e6), int(first), int(last))


def _first_window(
    trace: Trace, steps: Mapping[int, tuple[float, float]], first: Sequence[int]
) -> Window:
    """Show the pipeline filling up; a first step that is far longer than the next is left out."""
    begin = min(spans[0].begin for spans in trace.stages.values())
    rest = sorted(steps[step][1] - steps[step][0] for step in first[1:])
    usual = rest[len(rest) // 2] if rest else 0.0
    if rest and steps[first[0]][1] - begin > SLOW_START * len(first) * usual:
        title = f"Steps {first[1]:,}\u2013{first[-1]:,} (step {first[0]:,} warmed up for "
        seconds = steps[first[0]][1] - begin
        return Window(f"{title}{seconds:.3g} s)", steps[first[1]][0], steps[first[-1]][1])
    title = f"Steps {first[0]:,}\u2013{first[-1]:,}"
    return Window(title, begin, steps[first[-1]][1])


def _weighted(spans: Sequence[Span]) -> Iterator[tuple[float, float, str, float]]:
    """Return each span with the share of its time that it fills.

    Sums over several steps are spread evenly until the next span that is not of the same steps.
    """
    begins = [span.begin for span in spans]
    sums: dict[tuple[int, int], list[Span]] = {}
    for span in spans:
        if span.added_up:
            sums.setdefault((span.first, span.last), []).append(span)
        else:
            yield span.begin, span.end, span.kind, 1.0
    ordered = sorted(sums.values(), key=lambda group: group[0].begin)
    for place, group in enumerate(ordered):
        begin, end = group[0].begin, group[-1].end
        following = ordered[place + 1][0].begin if place + 1 < len(ordered) else None
        if following is None:
            after = bisect.bisect_left(begins, end)
            following = begins[after] if after < len(begins) else end
        end = max(end, following)
        for span in group:
            yield begin, end, span.kind, span.seconds / (end - begin or 1.0)


def _at_most_one(shares: Sequence[float]) -> tuple[float, ...]:
    total = max(1.0, sum(shares))
    return tuple(share / total for share in shares)
