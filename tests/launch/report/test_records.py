"""Tests of `blockstep.launch.report.records`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blockstep.launch.report.records import GPU, TRAINING, Clock, read_recording

WriteRun = Callable[..., Path]


def train(step: int, stage: int = 1, **values: Any) -> dict[str, Any]:
    numbers = dict.fromkeys(TRAINING, 0.5)
    return {
        "event": "train",
        "time": float(step),
        "step": step,
        "stage": stage,
        **numbers,
        **values,
    }


def write(path: Path, records: list[Any], end: str = "\n") -> Path:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines) + end)
    return path


def test_every_stage_and_split_is_read(write_run: WriteRun):
    """All training records, evaluations and events of a run are there."""
    folder = write_run(blocks=3, steps=120, every=10, evaluate=40)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    recording = read_recording(folder / "metrics.jsonl")
    assert sorted(recording.stages) == [1, 2, 3]
    for stage, series in recording.stages.items():
        mine = [one for one in records if one["event"] == "train" and one["stage"] == stage]
        for name in TRAINING:
            assert series.points(name) == [(one["step"], one[name]) for one in mine]
        assert series.points(f"gpu/{GPU[0]}") == []
    checked = [one for one in records if one.get("split") == "validation"]
    assert recording.evaluations["validation"].points("accuracy/3") == [
        (one["step"], one["accuracies"][2]) for one in checked
    ]
    assert recording.evaluations["test"].rows == 1
    assert recording.events.count == sum(one["event"] != "train" for one in records)
    assert (recording.lines, recording.damaged) == (len(records), 0)


def test_readings_of_the_gpu_are_read(write_run: WriteRun):
    """What NVML told becomes series of its own."""
    recording = read_recording(write_run(gpu=True, blocks=2) / "metrics.jsonl")
    assert recording.stages[2].mean("gpu/utilization") == 80.0


@pytest.mark.parametrize(
    "bad",
    [
        '{"event": "train", "step": 5, "sta',
        "[1, 2]",
        "null",
        '{"time": 3}',
        '{"event": 7, "time": 3}',
        '{"event": "train", "time": "late"}',
        '{"event": "train", "time": 1, "step": 1, "stage": "x"}',
        '{"event": "train", "time": 1, "step": null, "stage": 1}',
        '{"event": "train", "time": 1, "step": 1, "stage": 99999999}',
        '{"event": "evaluation", "time": 1, "step": 1, "split": ["test"]}',
        "[" * 100_000,
        "\x00\xff",
    ],
)
def test_a_line_that_cannot_be_read_costs_only_itself(tmp_path: Path, bad: str):
    """The records before and after it are read, and it is counted."""
    recording = read_recording(write(tmp_path / "m", [train(1), bad, train(2)]))
    assert [x for x, _ in recording.stages[1].points("loss")] == [1, 2]
    assert recording.damaged == 1


def test_a_last_line_that_is_cut_is_counted(tmp_path: Path):
    """A run that is being written is read up to its last whole line."""
    recording = read_recording(write(tmp_path / "m", [train(1), json.dumps(train(2))[:40]], end=""))
    assert recording.stages[1].rows == 1
    assert recording.damaged == 1
    assert read_recording(tmp_path / "missing").lines == 0


def test_records_that_lack_a_number_leave_a_gap(tmp_path: Path):
    """A key that an older or newer version does not write is not measured, not zero."""
    short = train(2)
    del short["staleness"]
    recording = read_recording(write(tmp_path / "m", [train(1), short, train(3, loss=None)]))
    assert recording.stages[1].points("staleness") == [(1, 0.5), (3, 0.5)]
    assert recording.stages[1].points("loss") == [(1, 0.5), (2, 0.5)]


def test_a_resume_replaces_the_steps_after_it(tmp_path: Path):
    """Steps that were done twice are shown once, as they count."""
    records = [train(step, loss=1.0) for step in (10, 20, 30)]
    records += [{"event": "resume", "time": 100, "step": 20}, train(30, loss=9.0)]
    recording = read_recording(write(tmp_path / "m", records))
    assert recording.stages[1].points("loss") == [(10, 1.0), (20, 1.0), (30, 9.0)]


def test_a_second_start_replaces_the_first(tmp_path: Path):
    """A run that was killed before its first checkpoint begins at step 1 again."""
    start = {"event": "start", "step": 0}
    records = [
        {**start, "time": 0},
        train(10, loss=1.0),
        {**start, "time": 50},
        train(10, loss=2.0),
    ]
    recording = read_recording(write(tmp_path / "m", records))
    assert recording.stages[1].points("loss") == [(10, 2.0)]


def test_the_clock_leaves_out_measurements_and_pauses():
    """Seconds of training go on from the checkpoint that a resume begins with."""
    clock = Clock()
    events = [
        ("start", 100, 0, 0),
        ("measured", 110, None, 0),
        ("train", 115, 10, 5),
        ("checkpoint", 120, 20, 10),
        ("train", 125, 30, 15),
        ("resume", 1000, 20, 10),
        ("train", 1004, 30, 14),
        ("resume", 2000, 25, 14),
        ("start", 3000, 0, 0),
        ("train", 3001, 10, 1),
    ]
    for event, time, step, expected in events:
        assert clock.seconds({"event": event, "time": time, "step": step}) == expected


def test_events_are_bounded_and_none_is_hidden(tmp_path: Path):
    """Of thousands of events the first and the last are kept, and the others are counted."""
    records = [{"event": "warning", "time": i, "step": i, "text": f"w{i}"} for i in range(5000)]
    events = read_recording(write(tmp_path / "m", records)).events
    kept = [record["text"] for _, record in (*events.first, *events.last)]
    assert kept[0] == "w0"
    assert kept[-1] == "w4999"
    assert len(kept) + events.left_out == events.count == 5000


def test_long_texts_and_matrices_are_not_kept_whole(tmp_path: Path):
    """One event cannot fill the page."""
    record = {"event": "stacks", "time": 1, "rank": 0, "text": "x" * 1_000_000, "more": [[1] * 99]}
    ((_, kept),) = read_recording(write(tmp_path / "m", [record])).events.first
    assert len(kept["text"]) < 25_000
    assert "more characters" in kept["text"]
    assert "more" not in kept
