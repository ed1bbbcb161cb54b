"""Tests of `blockstep.launch.report.ensemble` and of the picture of what members share."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from blockstep.launch.compose import compose
from blockstep.launch.configfile import config_to_yaml
from blockstep.launch.report import write_report
from blockstep.launch.report.sharing import sharing_picture
from blockstep.models.superweight import Sharing, Use
from blockstep.search.sharing.file import SharingFile

NAMES = ("wrn10-1", "net<2>")


def uses(layers: int = 5) -> list[Use]:
    """Convolutions of two members."""
    return [
        Use(member, f"layer{number}.weight", (4, 4, 3, 3), "3x3")
        for member in (0, 1)
        for number in range(layers)
    ]


def file(layers: int = 5) -> SharingFile:
    """Two clusters; in the first, both members' first layers share coefficients."""
    keys = [use.key for use in uses(layers)]
    first = [key for key in keys if key[1] in ("layer0.weight", "layer1.weight")]
    together = tuple(key for key in first if key[1] == "layer0.weight")
    rest = tuple((key,) for key in first if key not in together)
    other = tuple((key,) for key in keys if key not in first)
    sharing = Sharing(((together, *rest), other)).ordered(uses(layers))
    return SharingFile(NAMES, tuple(uses(layers)), sharing, tau=0.1)


def cells(text: str) -> list[str]:
    """Return what is told about each layer."""
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    titles = [rect.find(f"{space}title") for rect in root.iter(f"{space}rect")]
    return [str(title.text) for title in titles if title is not None]


def test_the_picture_names_clusters_and_coefficients():
    """A cell for each layer of each member; equal letters where coefficients are shared."""
    told = cells(sharing_picture(file()).file())
    assert len(told) == 10
    assert told[0] == "layer0.weight 3x3 (4, 4, 3, 3): cluster 1, coefficients a"
    assert told[5] == told[0]
    assert told[1].endswith("cluster 1, coefficients b")
    assert told[6].endswith("cluster 1, coefficients c")
    assert told[2].endswith("cluster 2, coefficients a")


def test_a_deep_network_has_narrow_cells_without_letters():
    """And letters go on after z."""
    picture = sharing_picture(file(layers=120))
    told = cells(picture.file())
    assert len(told) == 240
    assert any(one.endswith("coefficients aa") for one in told)
    assert "inside" not in str(picture.body)


def write_run(folder: Path, records: list[dict[str, Any]], summary: dict[str, Any] | None) -> None:
    """Write the files of a run that has ended, or not."""
    config = compose("superweight", ["members=[wrn10-1,wrn10-2]", "data=digits", "train.steps=20"])
    (folder / "config.yaml").write_text(config_to_yaml(config))
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in records))
    (folder / "ranks.json").write_text(json.dumps([{"rank": 0, "pid": 1, "host": "elsewhere"}]))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))


def records() -> list[dict[str, Any]]:
    """A search of two steps, and a training with two evaluations."""
    found: list[dict[str, Any]] = [{"event": "start", "time": 1.0, "step": 0}]
    for step in range(1, 23):
        for member in (1, 2):
            found.append(
                {
                    "event": "train", "time": 1.0 + step, "stage": member, "step": step,
                    "phase": "main", "loss": 2.0 / step, "accuracy": 0.5, "lr": 0.1,
                    "images_per_second": 9.0, "busy": 0.1, "wait_in": 0.0, "memory_bytes": 5,
                }
            )  # fmt: skip
        if step == 2:
            shared = {"event": "shared", "before": 3, "clusters": 2, "tau": 0.1}
            found.append({**shared, "time": 3.1, "step": 2})
        if step in (11, 22):
            found.append(
                {
                    "event": "evaluation", "time": 1.5 + step, "split": "test", "step": step,
                    "accuracies": [0.5, 0.6], "losses": [1.0, 0.9], "ensemble_accuracy": 0.7,
                    "nll": 0.8, "ece": 0.1, "diversity": {"disagreement": 0.2},
                }
            )  # fmt: skip
    return found


SUMMARY = {
    "command": "superweight", "method": "superweight", "network": "wrn10-1 + wrn10-2",
    "members": ["wrn10-1", "wrn10-2"], "data": "digits", "steps": 22, "learned": True,
    "parameters": {"templates": 1000, "coefficients": 5, "heads": 7, "norms": 9},
    "budget": 1010, "ensemble_accuracy": 0.7, "test_accuracy": 0.7, "test_nll": 0.8,
    "test_ece": 0.1, "diversity": {"by_member": 0.4}, "seconds": 9.0,
    "stages": [{"rank": rank, "members": [rank + 1], "busy": 0.1, "wait_in": 0.01}
               for rank in (0, 1)],
}  # fmt: skip


def test_the_page_of_an_ensemble(tmp_path: Path):
    """Key figures, sharing, a line for each member and for the ensemble, what ranks did."""
    write_run(tmp_path, [*records(), {"event": "end", "time": 99.0, "step": 22}], SUMMARY)
    file().save(tmp_path / "sharing.json")
    page = tmp_path / "page.html"
    write_report([tmp_path], page)
    text = page.read_text()
    for told in (
        "finished", "2 members", "member 2 wrn10-2", "What the members share", "70.0",
        "of a budget of 1,010", "coefficients 5, heads 7, norms 9",
        "After step 2, 3 clusters became 2 (tau 0.1).",
        "The first 2 steps learn what to share", "rank 1: members 2; 100.0 ms busy",
        "&lt;2&gt;",
    ):  # fmt: skip
        assert told in text, told


def test_the_page_of_an_ensemble_that_goes_on(tmp_path: Path):
    """Without a summary, and with a sharing that cannot be read: the page says so."""
    write_run(tmp_path, records(), None)
    (tmp_path / "sharing.json").write_text("{}")
    page = tmp_path / "page.html"
    write_report([tmp_path], page)
    text = page.read_text()
    assert "member 1" in text
    assert "Some files could not be read" in text
