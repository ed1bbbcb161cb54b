"""Tests of the page of a federation: `blockstep.launch.report.federating` and its records."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from blockstep.launch.compose import compose
from blockstep.launch.configfile import config_to_yaml
from blockstep.launch.report import write_report
from blockstep.launch.report.records import read_recording

from tests.launch.report.reading import Page


def round_of(step: int, **values: Any) -> dict[str, Any]:
    """A record of a round, as rank 0 tells it."""
    psi = {"change/rotation": [-step / 10, step / 10], "network.drop/rate": [0.1]}
    common = {"event": "round", "time": 100.0 + step, "step": step, "steps": 40, "psi": psi}
    common |= {"loss": 2.0 / step, "psi_loss": None if step % 5 == 0 else 2.1 / step}
    common |= {"clients": 10, "lost": step % 3, "seconds": 0.5, "memory_bytes": 1 << 28}
    common |= {"bytes_up": 3 << 20, "bytes_down": 5 << 20, "total_bytes": step * (8 << 20)}
    return {**common, **values}


def evaluation(step: int) -> dict[str, Any]:
    return {"event": "evaluation", "time": 100.5 + step, "step": step, "split": "validation",
            "accuracies": [step / 50], "losses": [1.0], "ensemble_accuracy": None,
            "metrics": [{}], "seconds": 0.1}  # fmt: skip


def write(folder: Path, records: list[dict[str, Any]]) -> Path:
    """Make the folder of a federation that goes on."""
    config = compose("federate", ["train.steps=40", "federate.skew=rotation"])
    (folder / "config.yaml").write_text(config_to_yaml(config))
    lines = [{"event": "start", "time": 100.0, "step": 0}, *records]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def show(folder: Path) -> tuple[Page, str]:
    """Write the page and read it; and its words without tags."""
    path = folder / "report.html"
    write_report([folder], path)
    source = path.read_text(encoding="ascii")
    return Page(source), " ".join(re.sub(r"<[^>]*>", " ", source).split())


def test_a_federation_that_goes_on_shows_its_courses(tmp_path: Path) -> None:
    """Accuracy over rounds and over bytes, a line for each end of a range; no result yet."""
    records = [round_of(step) for step in range(1, 21)] + [evaluation(10), evaluation(20)]
    page, words = show(write(tmp_path, records))
    assert (page.unbalanced, page.open, page.loads()) == ([], [], [])
    for title in ("Accuracy", "Accuracy by what was sent", "Loss", "change", "network.drop",
                  "Bytes", "Clients", "Time of a round"):  # fmt: skip
        assert page.figure(title) is not None
    assert "rotation 1" in words
    assert "rotation 2" in words
    assert "method partitioned" in words
    assert "This run has not ended." in words


def test_what_was_sent_belongs_to_the_round_of_the_evaluation(tmp_path: Path) -> None:
    """The evaluations after rounds 10 and 20 stand at 80 and 160 MiB."""
    records = [round_of(step) for step in range(1, 21)] + [evaluation(10), evaluation(20)]
    page, _ = show(write(tmp_path, records))
    picture = page.figure("Accuracy by what was sent")
    drawn = " ".join(one.get("d") or one.get("points") or "" for one in picture.iter())
    assert "M80 20 160 40" in drawn


def test_rounds_that_are_told_again_after_a_resume_count_once(tmp_path: Path) -> None:
    """The newest record of a round counts; rounds are no events."""
    records = [round_of(step) for step in range(1, 8)]
    records += [round_of(step, loss=9.0) for step in range(5, 10)]
    recording = read_recording(write(tmp_path, records) / "metrics.jsonl")
    assert recording.rounds is not None
    assert recording.rounds.points("loss") == [
        *((step, 2.0 / step) for step in range(1, 5)),
        *((step, 9.0) for step in range(5, 10)),
    ]
    assert recording.rounds.points("psi/change/rotation/2")[-1] == (9, 0.9)
    assert recording.events.count == 1


def test_damaged_records_are_survived(tmp_path: Path) -> None:
    """What is not as expected is left out, and the page is written."""
    odd = [
        round_of(1, psi={"plain": [1.0], "change/rotation": "x"}),
        round_of(2, psi=None, loss="much"),
        {"event": "round", "time": 103.0},
        {**round_of(3), "step": None},
    ]
    page, words = show(write(tmp_path, odd))
    assert (page.unbalanced, page.open) == ([], [])
    assert "2 lines of metrics.jsonl could not be read" in words
    show(write(tmp_path, []))
