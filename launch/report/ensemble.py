"""What the page of an ensemble shows besides what every run has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...search.sharing.file import SharingError, SharingFile
from .chart import Axis, Line, line_chart
from .history import History
from .markup import NOTHING, Markup, element
from .page import section
from .palette import INK, colour
from .scale import number_text, percent_text
from .series import Point, Series, number
from .table import Card, cards

__all__ = ["ensemble_sections"]

PERCENT = (0.0, 100.0)
STEP = Axis("step")
FEW, MEANS = 80, 40
"""Lines of more records are drawn as so many means, with the single records faint behind them."""


def ensemble_sections(history: History) -> list[Markup]:
    """Return the key figures of an ensemble, what it shares, and how its members learned."""
    return [
        cards(_key_figures(history)),
        section("Sharing", _sharing(history), note=_course(history)),
        section("Learning", _learning(history), note=_phases(history)),
        section("Ranks", _ranks(history)),
    ]


def _key_figures(history: History) -> list[Card]:
    """Return the figures of the summary, each with its definition."""
    figure = history.figure
    found = history.summary.get("parameters")
    parameters: dict[str, Any] = found if isinstance(found, dict) else {}
    counts = {name: number(count) for name, count in parameters.items()}
    others = {name: count or 0.0 for name, count in counts.items() if name != "templates"}
    told = ", ".join(f"{name} {count:,.0f}" for name, count in others.items())
    budget = figure("budget")
    ece = figure("test_ece")
    spread = history.summary.get("diversity")
    diversity = number(spread.get("by_member")) if isinstance(spread, dict) else None
    return [
        Card("Ensemble", percent_text(figure("ensemble_accuracy")), "test accuracy of all members"),
        Card("NLL", number_text(figure("test_nll"), digits=3), "mean of -log of the label"),
        Card("ECE", percent_text(ece, digits=1), "calibration error, 15 bins"),
        Card("Diversity", number_text(diversity, digits=2), "disagreement over a member's error"),
        Card(
            "Templates",
            number_text(counts.get("templates")),
            f"of a budget of {budget:,.0f}" if budget else "weights of all kernels",
        ),
        Card("Other parameters", number_text(sum(others.values()) if others else None), told),
    ]


def _sharing(history: History) -> Markup:
    """Return the picture of the clusters; nothing for methods without."""
    path = history.folder.path / "sharing.json"
    if not path.exists():
        return NOTHING
    from .sharing import sharing_picture

    try:
        return sharing_picture(SharingFile.load(path)).figure()
    except SharingError as error:
        history.problems.append(str(error))
        return NOTHING


def _course(history: History) -> str | None:
    """Return how the sharing came about."""
    newest = history.recording.events.newest
    told = []
    shared, unshared = newest.get("shared"), newest.get("unshared")
    if shared is not None:
        tau = number(shared.get("tau"))
        limit = "none could be divided" if tau is None else f"tau {tau:g}"
        told.append(
            f"After step {shared.get('step')}, {shared.get('before')} clusters became "
            f"{shared.get('clusters')} ({limit})."
        )
    if unshared is not None:
        told.append(
            f"After step {unshared.get('step')}, {unshared.get('weights')} weights got "
            f"{unshared.get('groups')} sets of coefficients."
        )
    return " ".join(told) or None


def _phases(history: History) -> str | None:
    shared = history.recording.events.newest.get("shared")
    if shared is None:
        return None
    return f"The first {shared.get('step')} steps learn what to share; then all begins anew."


def _learning(history: History) -> Markup:
    """Return the charts of members and ensemble."""
    names = _names(history)
    charts = [
        line_chart("Training loss", "", _members(history, "loss", 1.0, names), x=STEP,
                   y=Axis("loss")),
        line_chart("Training accuracy", "", _members(history, "accuracy", 100.0, names), x=STEP,
                   y=Axis("%", "%", limits=PERCENT)),
    ]  # fmt: skip
    for split, series in sorted(history.recording.evaluations.items(), reverse=True):
        if series.rows > 1:
            name = split.capitalize()
            charts.append(
                line_chart(
                    f"{name} accuracy", "of each member, and of the ensemble",
                    _evaluated(series, "accuracy", 100.0, names, whole="ensemble"), x=STEP,
                    y=Axis("%", "%", limits=PERCENT),
                )
            )  # fmt: skip
            charts.append(
                line_chart(
                    f"{name} loss", "of each member", _evaluated(series, "loss", 1.0, names),
                    x=STEP, y=Axis("loss"),
                )
            )  # fmt: skip
    charts.append(
        line_chart("Learning rate", "", _rate(history), x=STEP, y=Axis("learning rate", zero=True))
    )
    shown = [chart for chart in charts if chart]
    return element("div", *shown, class_="charts") if shown else NOTHING


def _names(history: History) -> dict[int, str]:
    members = history.summary.get("members")
    found = members if isinstance(members, list) else []
    return {number: f"member {number} {name}" for number, name in enumerate(found, start=1)}


def _members(history: History, name: str, factor: float, names: dict[int, str]) -> list[Line]:
    lines = []
    for member, series in sorted(history.recording.stages.items()):
        points: Sequence[Point] = _scaled(series.points(name), factor)
        faint: Sequence[Point] = []
        if series.rows > FEW:
            points, faint = _scaled(series.means(name, groups=MEANS), factor), points
        label = names.get(member, f"member {member}")
        lines.append(Line(label, colour(member), points, faint))
    return lines


def _evaluated(
    series: Series, name: str, factor: float, names: dict[int, str], *, whole: str = ""
) -> list[Line]:
    keys = [key for key in series.names if key.startswith(f"{name}/")]
    lines = [
        Line(names.get(member, f"member {member}"), colour(member),
             _scaled(series.points(key), factor))
        for member, key in enumerate(keys, start=1)
    ]  # fmt: skip
    if whole:
        lines.append(Line("ensemble", f"{INK} d2", _scaled(series.points(whole), factor)))
    return lines


def _rate(history: History) -> list[Line]:
    """Return the learning rate, which all members have."""
    stages = history.recording.stages
    if not stages:
        return []
    return [Line("all members", INK, stages[min(stages)].points("lr"))]


def _scaled(points: Sequence[Point], factor: float) -> list[Point]:
    return [(x, y * factor) for x, y in points]


def _ranks(history: History) -> Markup:
    """Return what each rank did per step, and how long it waited for the others."""
    entries = history.summary.get("stages")
    rows = [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []
    if len(rows) < 2:
        return NOTHING
    found = []
    for row in rows:
        busy, wait = number(row.get("busy")), number(row.get("wait_in"))
        members = row.get("members")
        own = ", ".join(map(str, members)) if isinstance(members, list) else "?"
        times = f"{1e3 * busy:.1f} ms busy, {1e3 * wait:.1f} ms waiting" if busy and wait else "-"
        found.append(element("li", f"rank {row.get('rank')}: members {own or 'none'}; {times}"))
    return element("ul", *found)
