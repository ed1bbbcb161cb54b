"""Federations from end to end, as a user starts them: stopped, continued, by other ranks."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.launch.cli import main
from blockstep.launch.dashboard.layout import FEDERATION
from blockstep.launch.federate.rank import STATE
from blockstep.models import make_network

from tests.launch.dashboard.recorded import empty, record_again, unseen
from tests.launch.report.reading import Page
from tests.launch.runs import blockstep, same, summary

ROUNDS = 12
WORDS = (
    "federate", "model.dropout=0.1", "model.width=0.2", f"train.steps={ROUNDS}", "train.threads=1",
    "federate.clients=20", "federate.per_round=6", "federate.unreachable=0.2",
    "federate.samples=2", "federate.skew=rotation", "evaluate.every=3", "checkpoint.every=4",
    "wandb.mode=disabled",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(project: Path) -> Path:
    """A federation of one rank that nothing happens to."""
    done = blockstep(*WORDS, "ranks=1", "name=whole", cwd=project)
    assert done.code == 0, done.output
    (project / "whole.txt").write_text(done.output)
    return project / "runs" / "whole"


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def last_state(folder: Path) -> Any:
    """Everything that a federation ended with."""
    path = folder / "checkpoints" / f"step-{ROUNDS}" / STATE
    return torch.load(path, weights_only=True)


def test_two_ranks_stopped_and_continued_end_where_one_ends(whole: Path, project: Path) -> None:
    """Weights, momenta, bytes, accuracies: bit for bit; `blockstep stop` leaves a checkpoint."""
    folder = project / "runs" / "torn"

    def stop_soon() -> None:
        for _ in range(1200):
            if (folder / "checkpoints" / "step-4" / "manifest.json").exists():
                (folder / "stop").touch()
                return
            time.sleep(0.01)

    stopper = threading.Thread(target=stop_soon)
    stopper.start()
    words = [word for word in WORDS if not word.startswith("train.steps")]
    words += ["train.steps=4000", "checkpoint.keep=1000"]
    done = blockstep(*words, "ranks=2", "name=torn", cwd=project)
    stopper.join()
    assert done.code == 0, done.output
    stopped = summary(folder)
    assert 4 <= stopped["steps"] < 4000
    assert stopped["test_accuracy"] is None
    for path in (folder / "checkpoints").glob("step-*"):
        if path.name != "step-4":
            path.rename(folder / f"aside-{path.name}")
    words = ("train.steps=12", "checkpoint.every=4", "ranks=2")
    done = blockstep("federate", "resume=runs/torn", *words, cwd=project)
    assert done.code == 0, done.output
    assert "continues after round 4" in done.output
    assert same(last_state(folder), last_state(whole))
    ours, theirs = summary(folder), summary(whole)
    differ = {"seconds", "seconds_per_round", "ranks"}
    assert {k: v for k, v in ours.items() if k not in differ} == {
        k: v for k, v in theirs.items() if k not in differ
    }


def test_what_a_run_leaves(whole: Path) -> None:
    """Figures that agree with each other, and a network that can be loaded."""
    told = summary(whole)
    rounds = [record for record in records(whole) if record["event"] == "round"]
    assert [record["step"] for record in rounds] == list(range(1, ROUNDS + 1))
    assert sum(record["clients"] for record in rounds) == told["clients_drawn"] == 6 * ROUNDS
    assert 0 < sum(record["lost"] for record in rounds) == told["clients_lost"]
    assert sum(record["bytes_up"] for record in rounds) == told["bytes_up"]
    assert sum(record["bytes_down"] for record in rounds) == told["bytes_down"]
    assert told["bytes_down"] == told["clients_drawn"] * told["client_bytes_down"]
    assert rounds[-1]["total_bytes"] == told["bytes_up"] + told["bytes_down"]
    answered = told["clients_drawn"] - told["clients_lost"]
    assert told["fedavg_bytes_up"] == answered * told["fedavg_client_bytes"] > told["bytes_up"]
    psi = {key: value for module, parts in told["psi"].items()
           for key, value in ((f"{module}/{name}", v) for name, v in parts.items())}  # fmt: skip
    assert rounds[-1]["psi"] == psi
    assert told["chunk_clients"] == [14, 4, 2]
    assert told["upload_share_nominal"] == pytest.approx(0.77)
    assert told["upload_share"] == pytest.approx(0.77, abs=0.003)
    assert told["upload_rounding"] == told["upload_share"] - told["upload_share_nominal"]
    assert set(told["psi"]) == {"change", *(f"network.hidden.{n}.{m}" for n, m in
                                            ((0, 3), (1, 3), (2, 3), (3, 2)))}  # fmt: skip
    evaluations = [
        record["accuracies"][0]
        for record in records(whole)
        if record["event"] == "evaluation" and record["split"] == "validation"
    ]
    assert told["averaged_evaluations"] == len(evaluations) == 4
    assert told["averaged_accuracy"] == pytest.approx(sum(evaluations) / 4)
    assert told["test_accuracy"] is not None
    network = make_network("mnist_cnn", classes=10, in_channels=1, size=8, width=0.2)
    network.module.load_state_dict(torch.load(whole / "model.pt", weights_only=True))


def test_what_the_terminal_tells(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At the start, at the end, and from another terminal."""
    printed = (whole.parents[1] / "whole.txt").read_text()
    assert "20 clients of 62-63 examples that differ in the angles of their images" in printed
    assert "6 clients; they upload 77." in printed
    assert re.search(r"round +1/12 \| loss \d", printed)
    assert "change: rotation -0.0" in printed
    assert f"{summary(whole)['clients_lost']} of 72 clients did not answer" in printed
    assert main(["status", f"run={whole}"]) == 0
    status = capsys.readouterr().out
    assert "finished after step 12" in status
    assert re.search(r"^change: rotation -0\.\d+ to 0\.\d+, scale_x 0\.9", status, re.MULTILINE)
    assert "round 12: test accuracy" in status


def test_the_page(whole: Path) -> None:
    """Accuracy, hyperparameters and bytes over rounds; nothing of a training's pipeline."""
    source = (whole / "report.html").read_text(encoding="ascii")
    page, words = Page(source), " ".join(re.sub(r"<[^>]*>", " ", source).split())
    assert (page.unbalanced, page.open, page.loads()) == ([], [], [])
    for title in ("Accuracy", "Accuracy by what was sent", "Loss", "change", "Bytes",
                  "Clients"):  # fmt: skip
        assert page.figure(title) is not None
    assert "a federation" in words
    assert "method partitioned" in words
    assert "chunk 3 2" in words
    assert "Throughput" not in words


def test_the_dashboard_shows_what_a_federation_records(whole: Path, tmp_path: Path) -> None:
    """Every key has a panel, and every panel of the section a key."""
    run = record_again(whole, tmp_path)
    assert unseen(run.logged) == set()
    assert empty([FEDERATION], [*run.logged, *run.summary]) == []
    assert "federation/psi/change/rotation/2" in run.logged


def test_other_clients_cannot_continue_it(whole: Path, project: Path) -> None:
    """What the updates depend on is fixed; the error has both values."""
    done = blockstep(
        "federate", "resume=runs/whole", "federate.alpha=5.0", "train.steps=14", cwd=project
    )
    assert done.code == 2
    assert "federate.alpha=0.1" in done.output
    assert "this run has federate.alpha=5.0" in done.output


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_commands_of_trainings_refuse_it(command: str, whole: Path, project: Path) -> None:
    """With the command that knows it; model.pt is there already."""
    done = blockstep(command, "run=runs/whole", cwd=project)
    assert done.code == 2
    assert "the configuration of `blockstep federate`" in done.output
