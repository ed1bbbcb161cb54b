"""What a search found, for the page of its run: while it goes on, and after it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...search.decoupling import Decoupling, head_name
from ...search.discretization import Tie, cut_weights, ranking, ties
from ...search.pareto import PREFERENCES, Choice, choose
from .chart import Axis, Line, line_chart
from .courses import POINTS, courses_picture, thinned
from .cuts import cuts_picture
from .layers import in_words
from .markup import NOTHING, Markup, element
from .mixture import mixture_picture
from .page import section
from .palette import INK
from .picture import Picture
from .scale import number_text, percent_text
from .series import number
from .table import Cell, table
from .tradeoff import Spot, tradeoff_picture

__all__ = ["Findings", "search_pictures", "search_section"]

Table = list[list[float]]


@dataclass(frozen=True)
class Findings:
    """What is known of a search.

    Attributes:
        records: Of its outer steps, those with an alpha; steps ascending.
        alpha: (L - 1, 2), the last known.
        beta: (L - 1, M), the last known.
        decoupling: Its result; None before it ends.
        front: The Pareto front for as many blocks; may be empty.
    """

    records: Sequence[Mapping[str, Any]]
    alpha: Sequence[Sequence[float]]
    beta: Sequence[Sequence[float]]
    decoupling: Decoupling | None
    front: Sequence[Choice]

    @classmethod
    def of(
        cls,
        records: Iterable[Mapping[str, Any]],
        decoupling: Decoupling | None,
        front: Sequence[Choice],
    ) -> Findings:
        """Read the records; what is damaged, of another event or of another network is left out."""
        readable = [one for one in records if one.get("event", "search") == "search"]
        steps = [one for one in readable if _is_table(one.get("alpha"), 2)]
        steps = [one for one in steps if number(one.get("step")) is not None]
        alpha: Sequence[Sequence[float]] = steps[-1]["alpha"] if steps else []
        beta = steps[-1].get("beta") if steps else None
        if decoupling is not None and decoupling.alpha is not None:
            alpha, beta = decoupling.alpha, decoupling.beta
        steps = [one for one in steps if len(one["alpha"]) == len(alpha)]
        steps.sort(key=lambda one: one["step"])
        known = beta if beta is not None and _is_table(beta, None) else []
        return cls(steps, alpha, known if len(known) == len(alpha) else [], decoupling, front)

    @property
    def tie(self) -> Tie | None:
        """Of the cuts that were chosen, if they are those of the ranking."""
        if self.decoupling is None or not self.alpha:
            return None
        count = len(self.decoupling.cuts)
        if set(self.decoupling.cuts) != set(ranking(self.alpha)[:count]):
            return None
        return ties(self.alpha).get(count + 1)


def search_section(
    records: Iterable[Mapping[str, Any]],
    decoupling: Decoupling | None,
    front: Sequence[Choice] = (),
) -> Markup:
    """Return the section of a search: its pictures, its ties, and what each choice costs.

    Args:
        records: Those with the event ``search``: one per outer step, or some of them.
        decoupling: The result; None while the search goes on.
        front: The Pareto front for as many blocks as the decoupling has; empty without one.

    Returns:
        Nothing if nothing is known.
    """
    findings = Findings.of(records, decoupling, front)
    pictures = search_pictures(findings)
    wide = [pictures[name].figure() for name in ("cuts", "course", "heads") if name in pictures]
    small = [pictures["tradeoff"].figure()] if "tradeoff" in pictures else []
    small += _outer(findings.records)
    return section(
        "Search",
        *wide,
        element("div", *small, class_="charts") if small else NOTHING,
        _front_table(findings),
        _other_ties(findings),
        note=_note(findings),
    )


def search_pictures(findings: Findings) -> dict[str, Picture]:
    """Return the pictures that there are data for: ``cuts, course, heads, tradeoff``.

    Each can be written to a file of its own: ``path.write_text(picture.file())``.
    """
    decoupling, tie = findings.decoupling, findings.tie
    cuts = decoupling.cuts if decoupling is not None else ()
    heads = [head_name(head) for head in decoupling.heads] if decoupling is not None else []
    found: dict[str, Picture | None] = {}
    if findings.alpha:
        tied = {*tie.cuts, *tie.rivals} if tie is not None else set()
        found["cuts"] = cuts_picture(cut_weights(findings.alpha), cuts, heads, tied=tied)
    rows = [(one["step"], one["alpha"]) for one in findings.records]
    courses = [(step, cut_weights(alpha)) for step, alpha in thinned(rows, POINTS)]
    found["course"] = courses_picture(courses, cuts)
    found["heads"] = mixture_picture(
        [_softmax(row) for row in findings.beta], _pool(findings), cuts
    )
    found["tradeoff"] = _tradeoff(findings)
    return {name: picture for name, picture in found.items() if picture is not None}


def _pool(findings: Findings) -> list[str]:
    """Return the names of beta's columns; numbers where the names are not known yet."""
    pool = findings.decoupling.pool if findings.decoupling is not None else None
    if pool is not None:
        return [head_name(head) for head in pool]
    count = len(findings.beta[0]) if findings.beta else 0
    return [f"head {place}" for place in range(1, count + 1)]


def _tradeoff(findings: Findings) -> Picture | None:
    if not findings.front:
        return None
    spots = [
        Spot(one.alpha, one.speedup, f"cuts {_listed(one.cuts)}: {one.speedup:.2f}\u00d7")
        for one in findings.front
    ]
    names = {place: ", ".join(words) for place, words in _names(findings.front).items()}
    return tradeoff_picture(spots, names=names, chosen=_chosen(findings))


def _names(front: Sequence[Choice]) -> dict[int, list[str]]:
    """Return what the choices are called that ``choose`` can return, by their place."""
    cuts = [one.cuts for one in front]
    found: dict[int, list[str]] = {}
    for prefer in PREFERENCES:
        found.setdefault(cuts.index(choose(front, prefer).cuts), []).append(prefer)
    return found


def _chosen(findings: Findings) -> int | None:
    cuts = [one.cuts for one in findings.front]
    taken = findings.decoupling.cuts if findings.decoupling is not None else None
    return cuts.index(taken) if taken in cuts else None


def _outer(records: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """Return the charts of the validation loss and accuracy that the search descended."""
    charts = []
    for key, title, factor, axis in (
        ("loss", "Validation loss", 1.0, Axis("loss")),
        ("accuracy", "Validation accuracy", 100.0, Axis("%", "%", limits=(0.0, 100.0))),
    ):
        known = [(one["step"], number(one.get(key))) for one in records]
        points = [(step, factor * value) for step, value in known if value is not None]
        note = "after the inner steps of each outer step"
        line = Line(title.lower(), INK, points)
        charts.append(line_chart(title, note, [line], x=Axis("outer step"), y=axis))
    return [chart for chart in charts if chart]


def _front_table(findings: Findings) -> Markup:
    """Return a row for each choice of the front."""
    if not findings.front:
        return NOTHING
    first, names, chosen = findings.front[0], _names(findings.front), _chosen(findings)
    rows = []
    for place, one in enumerate(findings.front):
        words = names.get(place, []) + ["chosen"] * (place == chosen)
        lost = first.alpha - one.alpha
        rows.append(
            (
                ", ".join(words),
                Cell(_listed(one.cuts), best=place == chosen),
                ", ".join(map(head_name, one.heads)),
                f"{one.alpha:.3f}",
                percent_text(lost / first.alpha if first.alpha else 0.0, digits=1),
                f"{one.speedup:.2f}\u00d7",
                percent_text(one.speedup / first.speedup - 1, digits=1),
                number_text(1e3 * one.slowest, "ms"),
            )
        )
    heads = ("", "cuts", "heads", "sum of alpha", "lost", "speedup", "gained", "slowest")
    return table(heads, rows, words=(0, 1, 2), class_="front")


def _note(findings: Findings) -> str | None:
    """Say first what a reader must not believe: that a tie is a finding."""
    if not findings.alpha:
        return None
    if findings.decoupling is None:
        return "The search goes on: what is shown is what it has learned so far."
    if findings.tie is not None:
        return f"{findings.tie}. Another seed may cut elsewhere."
    return None


def _other_ties(findings: Findings) -> Markup:
    """Return the numbers of blocks for which the search did not decide, to open."""
    found = ties(findings.alpha) if findings.alpha else {}
    if findings.decoupling is None or not found:
        return NOTHING
    head = element("summary", f"The cuts are a tie for {in_words(list(found))} blocks")
    return element("details", head, element("pre", "\n".join(map(str, found.values()))))


def _softmax(row: Sequence[float]) -> list[float]:
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def _is_table(value: Any, columns: int | None) -> bool:
    """Whether a value of a record is a list of lists of numbers, of equal lengths."""
    if not isinstance(value, list | tuple) or not value:
        return False
    rows = [row for row in value if isinstance(row, list | tuple) and row]
    lengths = {len(row) for row in rows}
    return (
        len(rows) == len(value)
        and lengths == {columns or len(rows[0])}
        and all(number(one) is not None for row in rows for one in row)
    )


def _listed(cuts: Sequence[int]) -> str:
    return ", ".join(map(str, cuts)) or "none"
