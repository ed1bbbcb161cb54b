"""Tests of the page of one run: `blockstep.launch.report.portrait` and what it shows."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blockstep.launch.report import write_report
from blockstep.launch.report.curves import FEW
from blockstep.launch.report.records import TRAINING
from blockstep.launch.report.scale import DASH

from tests.launch.report.reading import Page

WriteRun = Callable[..., Path]

EVIL = (
    "<script>alert(1)</script>\"><img src=http://evil.example/x onerror='a()'>"
    "\x00\ud800&amp;]]>--><!-- </pre></svg>"
)


def show(folder: Path) -> Page:
    """Write the page of a run and read it."""
    path = folder / "report.html"
    write_report([folder], path)
    return Page(path.read_text(encoding="ascii"))


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def test_the_page_needs_nothing_but_itself(write_run: WriteRun):
    """Nothing is loaded from elsewhere, and the browser is told to refuse it."""
    page = show(write_run(gpu=True))
    assert page.loads() == []
    (policy,) = [a["content"] for tag, a in page.tags if a.get("http-equiv")]
    assert policy.startswith("default-src 'none'")
    assert (page.unbalanced, page.open) == ([], [])


def test_every_picture_is_valid(write_run: WriteRun):
    """Each SVG is XML; figures say in words what they show."""
    page = show(write_run(gpu=True))
    pictures = page.pictures()
    assert len(pictures) > 10
    for picture in pictures:
        assert picture.get("aria-label") or picture.get("aria-hidden")
    numbers = re.findall(r'(?:d|x|y|width|height|transform)="([^"]*)"', page.source)
    assert not [one for one in numbers if "nan" in one or "inf" in one or "None" in one]


def test_every_stage_is_in_every_chart(write_run: WriteRun):
    """Losses, accuracies, speed, queues and memory of all stages, with the recorded values."""
    folder = write_run(blocks=4, gpu=True)
    page = show(folder)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    stages = {f"stage {stage}" for stage in range(1, 5)}
    for title in (
        *("Training loss", "Training accuracy", "Throughput", "Queue depth", "Link fill"),
        *("Staleness", "Memory", "GPU utilization", "GPU memory", "GPU power", "GPU temperature"),
    ):
        assert set(page.lines(title)) == stages, title
    for stage in range(1, 5):
        mine = [r for r in records if r["event"] == "train" and r["stage"] == stage]
        shown = page.lines("Training loss")[f"stage {stage}"]
        assert shown == [(r["step"], pytest.approx(r["loss"], rel=1e-4)) for r in mine]
    assert set(page.lines("Validation accuracy")) == {
        *(f"block {block}" for block in range(1, 5)),
        "ensemble",
    }
    assert list(page.lines("Learning rate")) == ["all stages"]
    strips = page.figure("Where each stage's time went")
    assert {group.get("data-series") for group in strips.iter("g")} >= stages


def test_a_run_without_gpu_has_no_gpu_charts(write_run: WriteRun):
    """What was not measured is not shown."""
    page = show(write_run())
    assert page.has_figure("Memory")
    assert not page.has_figure("GPU memory")


def test_the_key_figures_are_those_of_the_summary(write_run: WriteRun):
    """Each in its unit."""
    figures = {
        "test_accuracy": 0.93171,
        "ensemble_accuracy": 0.94,
        "images_per_second": 1912.4,
        "speedup_vs_backprop": 2.321,
        "efficiency": 0.9871,
        "slowest_alone": 0.01552,
        "slowest_stage": 2,
    }
    page = show(write_run(summary=figures))
    assert page.cards() == {
        "Test accuracy": "93.17%",
        "Ensemble": "94.00%",
        "Throughput": "1,912 images/s",
        "Speed-up": "2.32\u00d7",
        "Efficiency": "98.7%",
        "Slowest stage alone": "15.5\u202fms",
    }
    assert "per step of stage 2, the slowest," in page.text


def test_what_was_not_measured_is_a_dash(write_run: WriteRun):
    """A null is never shown as zero."""
    keys = ("test_accuracy", "ensemble_accuracy", "images_per_second", "speedup_vs_backprop")
    nulls = dict.fromkeys([*keys, "efficiency", "slowest_alone", "slowest_stage"])
    page = show(write_run(summary=nulls))
    assert set(page.cards().values()) == {DASH}


def test_a_missing_figure_in_the_table_of_blocks_is_a_dash(write_run: WriteRun):
    """Too few steps to measure busy: the cell says so."""
    folder = write_run(blocks=2)
    summary = summary_of(folder)
    summary["stages"][1] |= {"busy": None, "peak_memory_bytes": None, "head_params": None}
    (folder / "summary.json").write_text(json.dumps(summary))
    row = show(folder).rows("blocks")[1]
    assert row[0:5] == ["2", "layers 3\u20135", "classifier", "cpu \u00b7 rank 1", "240\u202fk"]
    assert (row[5], row[6], row[9]) == (DASH, DASH, DASH)


def test_the_pipeline_shows_layers_heads_and_links(write_run: WriteRun):
    """One box per stage, in as many rows as it takes, and the data before them."""
    page = show(write_run(blocks=6))
    (figure,) = [p for p in page.pictures() if "diagram" in p.get("class", "")]
    words = [node.text for node in figure.iter("text")]
    assert [w for w in words if w and w.startswith("stage")] == [f"stage {k}" for k in range(1, 7)]
    assert {"digits", "batches of 32", "layers 1\u20132", "head aux1", "classifier"} <= set(words)
    assert sum(word == "gloo" for word in words) == 5
    _, _, width, height = map(float, figure.get("viewBox", "").split())
    for node in figure.iter("rect"):
        assert 0 <= float(node.get("x", 0)) <= width - float(node.get("width", 0))
        assert 0 <= float(node.get("y", 0)) <= height - float(node.get("height", 0))


def test_the_timeline_shows_the_first_and_later_steps(write_run: WriteRun):
    """Spans of all stages in distinct colours, with their steps and what they are."""
    page = show(write_run(steps=400, evaluate=10))
    first = page.figure("Steps 1\u201320")
    titles = [title.text or "" for title in first.iter("title")]
    assert any(re.fullmatch(r"stage 2, step 7: busy \d.*ms", title) for title in titles)
    assert any("waits for input" in title for title in titles)
    looks = {rect.get("class", "").split()[-1] for rect in first.iter("rect")}
    assert {"k-busy", "k-wait_in", "k-evaluate", "k-checkpoint"} <= looks
    windows = re.findall(r"<h3>(Steps [\d,]+&#8211;[\d,]+)", page.source)
    assert len(windows) == 2
    assert page.has_figure("The whole run")
    assert "Perfetto" in page.text


def test_events_are_told_in_words(write_run: WriteRun):
    """Evaluations, checkpoints, warnings and unknown events have their row."""
    folder = write_run(blocks=2)
    with (folder / "metrics.jsonl").open("a") as file:
        for event in (
            {"event": "warning", "time": 1.77e9, "step": 5, "text": "the disk is full"},
            {"event": "stacks", "time": 1.77e9, "rank": 1, "text": "File a.py\n  line 3"},
            {"event": "novelty", "time": 1.77e9, "colour": "blue"},
            {"event": "evaluation", "time": 1.77e9, "step": 6, "split": "x", "accuracies": "?"},
        ):
            file.write(json.dumps(event) + "\n")
    told = [row[-1] for row in show(folder).rows("events")]
    assert any(
        re.match(r"validation accuracy by block [\d.]+%, [\d.]+%; ensemble", t) for t in told
    )
    assert "checkpoints/step-40, 3.297\u202fMiB, the best so far" in told
    assert "the disk is full" in told
    assert 'colour "blue"' in told
    assert any("a.py" in text and "line 3" in text for text in told)
    assert any('"?"' in text for text in told)


def test_nothing_from_the_files_becomes_markup(write_run: WriteRun):
    """Names, texts, keys and values may contain anything: they stay text."""
    folder = write_run("run <b>&amp; co", failure=EVIL, until=70)
    (folder / "rank0.log").write_text(EVIL.encode(errors="replace").decode())
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("digits", "</pre><script>x</script>"))
    decoupling = json.loads((folder / "decoupling.json").read_text())
    decoupling |= {"network": EVIL, "heads": [{"_target_": f"a.{EVIL}", EVIL: EVIL}, EVIL]}
    (folder / "decoupling.json").write_text(json.dumps(decoupling))
    ranks = [{"rank": EVIL, "stage": 1, "pid": 1, "host": EVIL, "device": EVIL}]
    (folder / "ranks.json").write_text(json.dumps(ranks))
    with (folder / "metrics.jsonl").open("a") as file:
        for event in (EVIL, "warning", "evaluation", "checkpoint"):
            record = {"event": event, "time": 1.7e9, "step": 71, "text": EVIL, "path": EVIL}
            record |= {"split": EVIL, "accuracies": [0.5] * 3, "losses": [1, 1, 1], "bytes": 1}
            record |= {"seconds": 1, "metrics": [{EVIL: 0.5}], "best": True, EVIL: EVIL}
            file.write(json.dumps(record) + "\n" + json.dumps(record | {"step": 72}) + "\n")
    page = show(folder)
    assert [tag for tag, _ in page.tags if tag in ("script", "img", "b")] == ["script"]
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert (page.unbalanced, page.open) == ([], [])
    assert len(page.pictures()) > 5
    assert page.text.count("alert(1)") > 10


def test_a_run_in_progress_has_a_page_that_says_so(write_run: WriteRun):
    """What is known so far is shown, what is known at the end is a dash."""
    folder = write_run(ended=False, until=60)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"event": "train", "time": 17600')
    page = show(folder)
    assert "This run ended early." in page.text  # its processes are gone
    assert set(page.cards().values()) == {DASH}
    assert page.has_figure("Training loss")
    assert "1 line of metrics.jsonl could not be read" in page.text
    (folder / "ranks.json").write_text('[{"rank": 0, "stage": 1, "pid": 1, "host": "elsewhere"}]')
    page = show(folder)
    assert "This run has not ended." in page.text


def test_replicas_are_told_where_there_are_several(write_run: WriteRun):
    """While it goes on by ranks.json, afterwards by the summary; one rank is told as ever."""
    replicas = "2 replicas \u00b7 ranks 0\u20131"
    folder = write_run(ended=False, until=60)
    ranks = [
        {"rank": rank, "stage": max(1, rank), "replica": 1 + (rank == 1), "pid": 1, "host": "far"}
        for rank in range(4)
    ]
    (folder / "ranks.json").write_text(json.dumps(ranks))
    page = show(folder)
    assert replicas in page.text
    assert "rank 2" in page.text
    assert "Of a stage with replicas: the figures of the first." in page.text
    folder = write_run("ended")
    assert "2 replicas" not in show(folder).text
    summary = json.loads((folder / "summary.json").read_text())
    summary["stages"][0]["replicas"] = [{"rank": 0}, {"rank": 1}]
    (folder / "summary.json").write_text(json.dumps(summary))
    assert replicas in show(folder).text


def test_replays_are_shown_where_there_are_some(write_run: WriteRun):
    """Two columns, two charts and a share of time; in a run without replays none of it."""
    folder = write_run(blocks=2)
    page = show(folder)
    assert "learns again" not in page.text
    assert "eplayed" not in page.text
    path = folder / "metrics.jsonl"
    records = [json.loads(line) for line in path.open()]
    train = [one for one in records if one["event"] == "train" and one["stage"] == 2]
    for number, record in enumerate(train):
        age = number / 2 if number else None
        record |= {"replayed": number, "replay_staleness": age, "replay": record["busy"]}
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    summary = summary_of(folder)
    summary["stages"][1] |= {"replayed": 66, "replay_staleness": 2.75}
    (folder / "summary.json").write_text(json.dumps(summary))
    page = show(folder)
    counts = [(one["step"], one["replayed"]) for one in train]
    assert page.lines("Replayed batches") == {"stage 2": counts}
    ages = [(one["step"], one["replay_staleness"]) for one in train[1:]]
    assert page.lines("Staleness of replayed batches") == {"stage 2": ages}
    told = [row[-2:] for row in page.rows("blocks")]
    assert told == [[DASH, DASH], ["66", "2.75\u202fsteps"]]
    strips = page.figure("Where each stage's time went")
    kinds = [area.get("data-kind") for area in strips.iter("path")]
    assert kinds.count("learns again") == 2
    (figure,) = [one for one in page.pictures() if "diagram" in one.get("class", "")]
    words = [node.text or "" for node in figure.iter("text")]
    assert [" again " in word for word in words if word.startswith("busy")] == [False, True]


def test_a_run_that_failed_tells_why(write_run: WriteRun):
    """The cause, and the last lines of every rank."""
    folder = write_run(failure="stage 2 (rank 1), step 70: ValueError: no", until=70)
    (folder / "rank1.log").write_text("x" * 100_000 + "\nTraceback: ValueError: no\n")
    page = show(folder)
    assert "This run failed." in page.text
    assert "stage 2 (rank 1), step 70: ValueError: no" in page.text
    assert "Traceback: ValueError: no" in page.text
    assert sum(tag == "details" and "open" in a for tag, a in page.tags) == 1
    assert len(page.source) < 300_000
    assert page.has_figure("Training loss")


def test_a_stopped_run_says_where(write_run: WriteRun):
    """A run that was asked to stop has figures, and fewer steps than it was to have."""
    page = show(write_run(steps=200, until=120))
    assert "stopped after step 120 of 200" in page.text
    assert page.cards()["Test accuracy"] != DASH


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "summary.json", "trace.json", "decoupling.json", "ranks.json"]
)
@pytest.mark.parametrize("content", [None, "", "{", "[[[]]]", "null", '{"stages": 3}', "\udc80"])
def test_a_missing_or_damaged_file_still_gives_a_page(
    write_run: WriteRun, name: str, content: str | None
):
    """Each file may be missing, cut, or hold something else."""
    folder = write_run(steps=40, blocks=2)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content, errors="surrogateescape")
    page = show(folder)
    assert (page.unbalanced, page.open) == ([], [])
    assert "config.yaml" in page.text
    page.pictures()


def test_random_values_never_break_the_page(write_run: WriteRun):
    """Files in which any value is replaced by any other still give a page."""
    folder = write_run(steps=40, blocks=2)
    rng = random.Random(5)
    odd = [None, -1, 0, 10**30, 1e308, "x", True, [], {}, [1, "x"], {"a": [1]}, [[]], "9-3"]

    def spoil(value: Any) -> Any:
        if rng.random() < 0.12:
            return rng.choice(odd)
        if isinstance(value, dict):
            return {key: spoil(item) for key, item in value.items()}
        return [spoil(item) for item in value] if isinstance(value, list) else value

    names = ("summary.json", "trace.json", "decoupling.json", "ranks.json")
    whole = {name: json.loads((folder / name).read_text()) for name in names}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    for _ in range(40):
        for name, value in whole.items():
            (folder / name).write_text(json.dumps(spoil(value)))
        text = "".join(json.dumps(spoil(line)) + "\n" for line in lines)
        (folder / "metrics.jsonl").write_text(text)
        page = show(folder)
        assert (page.unbalanced, page.open) == ([], [])
        page.pictures()


def test_an_alias_bomb_in_the_configuration_is_refused(write_run: WriteRun):
    """A few lines of YAML cannot fill the memory."""
    folder = write_run(steps=40, blocks=2)
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for one, two in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{two}: &{two} [{', '.join([f'*{one}'] * 9)}]\n"
    (folder / "config.yaml").write_text(bomb)
    page = show(folder)
    assert "has an alias" in page.text
    assert len(page.source) < 300_000


def test_many_records_become_means_with_their_extremes_behind(write_run: WriteRun):
    """Long lines are smooth; a single outlier stays visible."""
    folder = write_run(steps=4000, blocks=2, every=10, evaluate=1000)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if '"step": 2000, "stage": 1' in line)
    lines[place] = json.dumps({**json.loads(lines[place]), "loss": 77.0})
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    page = show(folder)
    chart = page.figure("Training loss")
    faint = [p.get("d", "") for p in chart.iter("path") if "faint" in p.get("class", "")]
    assert any("2000 77 " in commands for commands in faint)
    assert len(page.lines("Training loss")["stage 1"]) < FEW
    assert "Lines are means" in page.text


def test_300_000_records_stay_a_small_page(write_run: WriteRun):
    """300,000 records, less than 3 MB."""
    folder = write_run(blocks=4, steps=400, gpu=True)
    rng = random.Random(0)
    begin = "".join((folder / "metrics.jsonl").read_text().splitlines(keepends=True)[:2])
    with (folder / "metrics.jsonl").open("w") as file:
        file.write(begin)
        numbers = ", ".join(f'"{name}": %f' for name in TRAINING)
        gpu = '"gpu": {"utilization": %f, "memory_bytes": %f}'
        line = f'{{"event": "train", "time": %d, "step": %d, "stage": %d, {numbers}, {gpu}}}\n'
        for step in range(10, 750_001, 10):
            values = [rng.random() for _ in range(13)]
            for stage in (1, 2, 3, 4):
                file.write(line % (1.76e9 + step, step, stage, *values))
    page = show(folder)
    assert len(page.source) < 3_000_000
    assert len(page.lines("Throughput")) == 4
