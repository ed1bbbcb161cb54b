"""What the page of a search shows besides what every run has."""

from __future__ import annotations

from ...search.decoupling import Decoupling, DecouplingError
from ...search.frontfile import load_front
from ...search.pareto import Choice
from .chart import Axis, Line, line_chart
from .findings import search_section
from .history import History
from .markup import NOTHING, Markup, element
from .page import section
from .palette import INK
from .scale import number_text, percent_text, seconds_text
from .series import number
from .table import Card, cards

__all__ = ["search_sections"]


def search_sections(history: History) -> list[Markup]:
    """Return the key figures of a search, what it found, and how its weights were pretrained."""
    decoupling = _decoupling(history)
    return [
        cards(_key_figures(history, decoupling)),
        search_section(history.recording.outer, decoupling, _front(history)),
        section("Pretraining", _pretraining(history)),
    ]


def _decoupling(history: History) -> Decoupling | None:
    path = history.folder.decoupling
    try:
        return Decoupling.load(path) if path.exists() else None
    except DecouplingError as error:
        history.problems.append(str(error))
        return None


def _front(history: History) -> list[Choice]:
    path = history.folder.pareto
    try:
        return load_front(path) if path.exists() else []
    except DecouplingError as error:
        history.problems.append(str(error))
        return []


def _key_figures(history: History, decoupling: Decoupling | None) -> list[Card]:
    """Return the figures of the summary and of the last outer step, each with its definition."""
    series = history.recording.phases.get("search")
    points = series.points("accuracy") if series is not None else []
    wanted = history.setting("search.steps")
    steps = history.recording.outer[-1]["step"] if history.recording.outer else None
    skipped = history.figure("skipped")
    cuts = ", ".join(map(str, decoupling.cuts)) if decoupling is not None else ""
    blocks = history.setting("blocks") or "?"
    return [
        Card("Cuts", cuts or "\u2013", f"after these layers, for {blocks} blocks"),
        Card("Outer steps", number_text(number(steps)), f"of {wanted}"),
        Card(
            "Validation accuracy",
            percent_text(points[-1][1] if points else None),
            "after the inner steps of the last outer step",
        ),
        Card("An outer step", seconds_text(history.figure("outer_step_seconds")), "on average"),
        Card("Pretraining", seconds_text(history.figure("pretraining_seconds")), "all its steps"),
        Card("Skipped", number_text(skipped), "gradients of alpha and beta that were not finite"),
    ]


def _pretraining(history: History) -> Markup:
    """Return the charts of the pretraining; nothing without records."""
    series = history.recording.phases.get("pretrain")
    if series is None:
        return NOTHING
    step = Axis("pretraining step")
    accuracies = [(x, 100 * y) for x, y in series.points("accuracy")]
    charts = [
        line_chart(
            "Training loss", "of the classifier", [Line("loss", INK, series.points("loss"))],
            x=step, y=Axis("loss"),
        ),
        line_chart(
            "Validation accuracy", "of the classifier; the best weights are remembered",
            [Line("accuracy", INK, accuracies)], x=step, y=Axis("%", "%", limits=(0.0, 100.0)),
        ),
    ]  # fmt: skip
    shown = [chart for chart in charts if chart]
    return element("div", *shown, class_="charts") if shown else NOTHING
