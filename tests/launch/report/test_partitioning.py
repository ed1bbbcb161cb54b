"""The page of a partitioned training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from blockstep.launch.compose import compose
from blockstep.launch.configfile import config_to_yaml
from blockstep.launch.report.command import write_report
from blockstep.launch.report.hyperparameters import mask_picture, samples_picture


def run(folder: Path, records: list[dict[str, Any]]) -> str:
    """Write a run's folder and return its page."""
    folder.mkdir()
    config = compose("partition", ["data=input_selection", "train.steps=20"])
    (folder / "config.yaml").write_text(config_to_yaml(config))
    stamped = [{"time": 1000.0 + place, **one} for place, one in enumerate(records)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in stamped))
    write_report([folder], folder / "report.html")
    return (folder / "report.html").read_text()


def objective(step: int, **changes: Any) -> dict[str, Any]:
    record = {
        "event": "objective", "step": step, "objective": -100.0 + step, "terms": [-60.0, -40.0],
        "splits": {"test": {"accuracy": 0.5, "loss": 1.0}},
        "psi": {"mask": [0.1 * step, -1.0], "scale": [0.5, 1.5]}, "seconds": 0.1,
    }  # fmt: skip
    return {**record, **changes}


def party(step: int, rank: int) -> dict[str, Any]:
    return {
        "event": "partition", "step": step, "rank": rank, "loss": 1.0, "hyper_loss": 2.0,
        "lr": 0.1, "images_per_second": 9.0, "busy": 0.1, "wait_in": 0.2, "psi_age": 0.5,
        "weights_age": 0.5, "memory_bytes": 10,
    }  # fmt: skip


def test_the_page_has_the_course_of_everything(tmp_path: Path):
    """L_ML, its terms, the accuracy, every number of psi, a heat map, ages of two ranks."""
    records = [{"event": "start", "step": 0}]
    records += [party(step, rank) for step in (5, 10) for rank in (0, 1)]
    records += [objective(5), objective(10)]
    page = run(tmp_path / "a", records)
    for title in (
        "L_ML", "Its terms", "Accuracy", "Course of every hyperparameter", "Learned mask",
        "Loss of the hyperparameters", "Age of psi",
    ):  # fmt: skip
        assert f"<h3>{title}</h3>" in page, title
    for name in ("mask 1", "mask 2", "scale 1", "chunk 3", "rank 1"):
        assert name in page, name
    assert "a partitioned training, psi=mask" in page
    assert "L_ML -90.00 nats" in page


def test_a_resumed_run_tells_its_steps_once(tmp_path: Path):
    """What lay after the checkpoint is done again."""
    records = [objective(5), objective(10), {"event": "resume", "step": 5}, objective(10)]
    page = run(tmp_path / "a", [{"event": "start", "step": 0}, *records])
    assert page.count("input 1: ") == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"psi": None},
        {"psi": {"mask": [[1], 2, "x"]}},
        {"psi": {"mask": [1] * 50_000}},
        {"terms": "x", "splits": [1]},
        {"objective": None, "terms": []},
        {"step": "x"},
    ],
)
def test_records_of_another_form_are_survived(tmp_path: Path, changes: dict[str, Any]):
    """The page is written from what can be read."""
    page = run(tmp_path / "a", [{"event": "start", "step": 0}, {**objective(5), **changes}])
    assert "blockstep run" in page


def test_a_mask_of_an_image_is_drawn_as_an_image():
    """Rows and columns are those of the image; channels are averaged."""
    picture = mask_picture([[[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]], [[0.0] * 3, [-9.0] * 3]])
    assert picture is not None
    assert picture.body.count('class="cell"') == 6
    assert "input 4: 0.500" in picture.body
    assert mask_picture(0.5) is None


def test_only_a_picture_is_shown_as_one(tmp_path: Path):
    """A file that is no PNG is left out."""
    path = tmp_path / "augmentation.png"
    assert samples_picture(path) is None
    path.write_text("<script>")
    assert samples_picture(path) is None
