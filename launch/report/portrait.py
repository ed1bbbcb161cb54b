"""The page of one run."""

from __future__ import annotations

from .curves import curve_note, learning, resources, speed
from .ensemble import ensemble_sections
from .events import event_table
from .federating import federation_sections
from .history import History
from .markup import NOTHING, Markup, element, join
from .page import banner, page, section
from .partitioning import partition_sections
from .scale import day_text, number_text, percent_text, seconds_text
from .searching import search_sections
from .series import number
from .stages import block_note, block_table, pipeline
from .table import Card, cards
from .timeline import timeline, timeline_note

__all__ = ["portrait"]

STATUS_LOOK = {"finished": "good", "failed": "bad", "gone": "bad", "running": "running"}
DOT = " \u00b7 "


def portrait(history: History) -> str:
    """Return the page of a run.

    Args:
        history: What its folder holds; the run may have ended, failed or still go on.
    """
    name = history.folder.name
    # Before the banners: what cannot be read on the way is told there.
    own = _own_sections(history)
    sections = [
        join(_banners(history)),
        *own,
        section("Events", event_table(history.recording), note=_event_note(history)),
        section("Logs", *_logs(history), note="The last lines that each rank printed."),
        section("Configuration", _configuration(history)),
    ]
    return page(f"{name} \u2013 blockstep", _header(history), sections)


def _own_sections(history: History) -> list[Markup]:
    """Return what only the runs of its command have."""
    if history.is_search:
        return search_sections(history)
    if history.is_partition:
        return partition_sections(history)
    if history.is_federation:
        return federation_sections(history)
    if history.is_ensemble:
        return ensemble_sections(history)
    return _training(history)


def _training(history: History) -> list[Markup]:
    return [
        cards(_key_figures(history)),
        section("Pipeline", pipeline(history)),
        section("Blocks", block_table(history), note=block_note(history)),
        section("Learning", learning(history), note=curve_note(history)),
        section("Speed", *speed(history), note=curve_note(history)),
        section("Timeline", *timeline(history), note=timeline_note(history)),
        section("Memory and devices", resources(history)),
    ]


def _header(history: History) -> Markup:
    status = history.status
    look = STATUS_LOOK.get(status.kind, "plain")
    runtime = history.summary.get("runtime") or history.setting("runtime")
    device = history.summary.get("device") or history.setting("device")
    threads = history.setting("train.threads")
    facts = [
        f"{history.network} on {history.data}",
        _kind(history),
        _parts(history),
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
        element("p", DOT.join(_course(history)), class_="note"),
    )


def _kind(history: History) -> str:
    if history.is_search:
        return "a search"
    if history.is_partition:
        return f"a partitioned training, psi={history.setting('psi.name')}"
    if history.is_federation:
        return f"a federation, method {history.method}"
    return f"method {history.method}"


def _parts(history: History) -> str | None:
    """Return how many blocks or members the run has."""
    if history.is_partition:
        return None
    count = len(history.blocks())
    noun = "member" if history.is_ensemble else "block"
    return f"{count} {noun}{'s' * (count != 1)}" if count else None


def _course(history: History) -> list[str]:
    """Return how the run went, when it began and how long it took."""
    told = [history.status.text] if history.status.ended else []
    events = history.recording.events
    begun = next((record["time"] for _, record in events.first if record["event"] == "start"), None)
    if begun is not None and (day := day_text(begun)):
        told.append(f"begun {day}")
    seconds = history.figure("seconds")
    if seconds is not None:
        part = "its last part " if "resume" in events.newest else ""
        told.append(f"{part}took {seconds_text(seconds)}")
    return told


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
        text = "What is known only at its end is missing. Later: blockstep report "
        found.append(banner("running", "This run has not ended.", f"{text}{history.folder.path}"))
    if not history.recording.lines:
        found.append(banner("plain", "There are no records yet.", "metrics.jsonl is empty."))
    if history.problems:
        found.append(banner("plain", "Some files could not be read.", "\n".join(history.problems)))
    return found


def _key_figures(history: History) -> list[Card]:
    """Return the figures of the summary, each with its definition."""
    figure = history.figure
    measured = history.recording.events.newest.get("measured", {})
    backprop = number(measured.get("backprop_images_per_second"))
    reference = f": {number_text(backprop, 'images/s')}" if backprop else ""
    ratio = figure("speedup_vs_backprop")
    stage = figure("slowest_stage")
    which = "the slowest stage" if stage is None else f"stage {stage:.0f}, the slowest,"
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
            number_text(figure("images_per_second")),
            "through the last stage, without warm-up, evaluations and checkpoints",
            unit="images/s" if figure("images_per_second") is not None else "",
        ),
        Card(
            "Speed-up",
            number_text(ratio, digits=3) + ("" if ratio is None else "\u00d7"),
            f"over backpropagation through the whole network on one device{reference}",
        ),
        Card(
            "Efficiency",
            percent_text(figure("efficiency"), digits=1),
            "throughput against that of the slowest stage if it never waited",
        ),
        Card(
            "Slowest stage alone",
            seconds_text(figure("slowest_alone")),
            f"per step of {which} with all others idle",
        ),
    ]


def _event_note(history: History) -> str:
    damaged = history.recording.damaged
    lines = f"{damaged} line{'s' * (damaged != 1)} of metrics.jsonl could not be read"
    note = "Time counts from the first training step, without the pauses between parts of a run."
    return f"{note} {lines} (cut short?)." if damaged else note


def _logs(history: History) -> list[Markup]:
    return [
        element(
            "details",
            element("summary", name),
            element("pre", text),
            # The rank that failed first is what a reader looks for.
            open=f"({name.removesuffix('.log').replace('rank', 'rank ')})" in history.status.text,
        )
        for name, text in history.logs.items()
    ]


def _configuration(history: History) -> Markup:
    if not history.config_text:
        return NOTHING
    title = element("summary", f"config.yaml ({len(history.config)} keys)")
    return element("details", title, element("pre", history.config_text))
