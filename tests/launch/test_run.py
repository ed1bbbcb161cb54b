"""Runs from end to end: what they leave behind, and that the way of running never matters."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from blockstep.launch.dashboard.layout import ACCURACY, COLUMNS, REPLICAS, SPEED, STAGES

from tests.launch import runs
from tests.launch.dashboard.recorded import empty, record_again, unseen
from tests.launch.runs import QUIET, blockstep, same, states, summary, torchrun, torchrun_cold

WORDS = (
    "train.steps=40",
    "evaluate.every=20",
    "checkpoint.every=20",
    "checkpoint.keep=10",
    "log.every=5",
    "train.threads=1",
    "decoupling=uniform",
)
OWN = (
    "model._target_=models.net.Small",
    "blocks=4",
    "heads=linear",
    "train.steps=12",
    "train.lr=0.02",
    "checkpoint.every=4",
    "checkpoint.keep=10",
    "data.augment.crop=1",
    "data.augment.flip=true",
    "log.every=2",
)


@pytest.fixture(scope="module")
def first(project: Path) -> Path:
    """A run with everything on: measured, tracked offline, evaluated, checkpointed."""
    done = blockstep("train", *WORDS, "name=first", cwd=project)
    assert done.code == 0, done.output
    (project / "first.txt").write_text(done.output)
    return project / "runs" / "first"


@pytest.fixture(scope="module")
def reference(project: Path) -> Path:
    """Four blocks in one process, in turns: what every other runtime must equal."""
    done = blockstep("train", *QUIET, *OWN, "runtime=sequential", "name=turns", cwd=project)
    assert done.code == 0, done.output
    return project / "runs" / "turns"


def test_run_leaves_the_files_of_the_design(first: Path) -> None:
    """A finished run has its configuration, records, logs, trace, checkpoints and page."""
    for name in (
        "config.yaml", "summary.json", "metrics.jsonl", "rank0.log", "rank1.log", "trace.json",
        "decoupling.json", "report.html", "ranks.json", "checkpoints/step-40/manifest.json",
    ):  # fmt: skip
        assert (first / name).is_file(), name
    ranks = json.loads((first / "ranks.json").read_text())
    assert [(rank["rank"], rank["stage"]) for rank in ranks] == [(0, 1), (1, 2)]
    assert all(rank["host"] == socket.gethostname() for rank in ranks)


def test_summary_has_every_key_measured(first: Path) -> None:
    """The summary's figures are there, and consistent with each other."""
    result = summary(first)
    assert (result["method"], result["runtime"], result["blocks"]) == ("decoupled", "pipeline", 2)
    assert (result["steps"], result["seed"], result["threads"]) == (40, 0, 1)
    assert result["cuts"] == [4]
    assert result["heads"] == ["aux1"]
    assert result["test_accuracy"] == result["block_accuracy"][-1]
    for key in ("ensemble_accuracy", "images_per_second", "seconds", "slowest_alone"):
        assert result[key] > 0, key
    batch = 64
    slowest = max(stage["busy"] for stage in result["stages"])
    assert result["efficiency"] == pytest.approx(result["images_per_second"] * slowest / batch)
    ratio = result["images_per_second"] / result["backprop_images_per_second"]
    assert result["speedup_vs_backprop"] == pytest.approx(ratio)
    for stage, rank in zip(result["stages"], runs.pids(first), strict=True):
        assert stage["pid"] == rank
        assert stage["params"] > 0
        assert stage["peak_memory_bytes"] > 1e7


def test_records_tell_training_evaluation_and_checkpoints(first: Path) -> None:
    """metrics.jsonl has each stage's reports, the evaluations and the checkpoints in order."""
    lines = [json.loads(line) for line in (first / "metrics.jsonl").read_text().splitlines()]
    train = [(one["stage"], one["step"]) for one in lines if one["event"] == "train"]
    assert sorted(train) == [(stage, step) for stage in (1, 2) for step in range(5, 41, 5)]
    evaluations = [(one["split"], one["step"]) for one in lines if one["event"] == "evaluation"]
    assert evaluations == [("validation", 20), ("validation", 40), ("test", 40)]
    checkpoints = [one["step"] for one in lines if one["event"] == "checkpoint"]
    assert checkpoints == [20, 40]
    assert lines[-1]["event"] == "end"


def test_trace_has_a_process_per_stage(first: Path) -> None:
    """trace.json names both stages and has their busy and waiting spans in microseconds."""
    events = json.loads((first / "trace.json").read_text())["traceEvents"]
    names = [event["args"]["name"] for event in events if event["ph"] == "M"]
    assert names == ["stage 1 (rank 0)", "stage 2 (rank 1)"]
    spans = [event for event in events if event["ph"] == "X"]
    assert {"busy", "wait_in", "evaluate", "checkpoint"} <= {span["name"] for span in spans}
    busy = [span["dur"] for span in spans if span["name"] == "busy" and span["pid"] == 1]
    assert len(busy) == 40
    assert 100 < sorted(busy)[15] < 10_000_000


def test_wandb_is_recorded_offline_in_the_folder(project: Path, first: Path) -> None:
    """One offline wandb run is written below the run's folder, to its end."""
    folders = list((first / "wandb").glob("offline-run-*"))
    assert len(folders) == 1
    assert list(folders[0].glob("*.wandb"))
    assert list(folders[0].glob("files/media/table/replicas_*.table.json"))
    assert "wandb stopped" not in (project / "first.txt").read_text()


def test_the_dashboard_shows_what_a_training_records(first: Path, tmp_path: Path) -> None:
    """Every key that is recorded has a panel, and every panel a key, but for methods of others."""
    run = record_again(first, tmp_path)
    assert unseen(run.logged) == set()
    panels = empty([SPEED, ACCURACY, STAGES, REPLICAS], {**run.logged, **run.summary})
    assert [panel.title for panel in panels] == ["delay of the error signal, steps"]
    assert set(COLUMNS) <= set(run.summary)
    table = run.logged["replicas"]
    assert [row[:3] for row in table.data] == [[1, 1, 0], [2, 1, 1]]
    assert all(len(row) == len(table.columns) and None not in row for row in table.data)


def test_terminal_tells_stages_accuracies_and_folder(project: Path, first: Path) -> None:
    """The output names the stages at the start and the accuracies and the folder at the end."""
    output = (project / "first.txt").read_text()
    assert "stage 1: layers 1-4, head aux1" in output
    assert "backpropagation on one device, measured" in output
    assert "ensemble of the last two heads" in output
    assert output.strip().splitlines()[-1] == "run: runs/first"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("pipeline.queue_messages=1",), id="processes-depth-1"),
        pytest.param(("pipeline.queue_messages=8", "pipeline.verify=true"), id="depth-8"),
    ],
)
def test_processes_equal_turns(project: Path, reference: Path, words: tuple[str, ...]) -> None:
    """K=4 processes give the sequential run's weights bit for bit at any depth, verified or not."""
    name = f"processes-{words[0][-1]}"
    done = blockstep("train", *QUIET, *OWN, *words, f"name={name}", cwd=project)
    assert done.code == 0, done.output
    for step in (4, 8, 12):
        assert same(states(project / "runs" / name, step), states(reference, step))


def test_channels_last_processes_equal_turns(project: Path) -> None:
    """The layout travels with the activations: channels-last is equal bit for bit as well."""
    words = (*QUIET, *OWN, "train.channels_last=true")
    for name, runtime in (("cl-turns", "sequential"), ("cl-processes", "pipeline")):
        done = blockstep("train", *words, f"runtime={runtime}", f"name={name}", cwd=project)
        assert done.code == 0, done.output
    assert same(
        states(project / "runs" / "cl-turns", 12), states(project / "runs" / "cl-processes", 12)
    )


def test_torchrun_equals_our_launcher(project: Path, first: Path) -> None:
    """The same words under torchrun give the same weights, summary and page."""
    words = ("train", *WORDS, "wandb.mode=disabled", "name=elastic")
    done = torchrun_cold(*words, cwd=project, flags=["--standalone", "--nproc-per-node", "2"])
    assert done.code == 0, done.output
    elastic = project / "runs" / "elastic"
    assert same(states(elastic, 40), states(first, 40))
    assert summary(elastic)["block_accuracy"] == summary(first)["block_accuracy"]
    assert (elastic / "report.html").is_file()


def test_two_nodes_equal_one(project: Path, first: Path) -> None:
    """Two torchrun agents of one rank each, on loopback, give the one-node run's weights."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    endpoint = ["--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "nodes"]
    words = ("train", *WORDS, "wandb.mode=disabled", "measure.backprop=0")
    agents = [
        runs.start_torchrun_cold(*words, cwd=project, flags=[*common, *endpoint]) for _ in range(2)
    ]
    for agent in agents:
        done = runs.finish(agent)
        assert done.code == 0, done.output
    assert same(states(project / "runs" / "nodes", 40), states(first, 40))


def test_ranks_that_are_not_the_blocks_are_refused(project: Path) -> None:
    """torchrun with three ranks for two blocks says both numbers and starts nothing."""
    flags = ["--standalone", "--nproc-per-node", "3"]
    done = torchrun("train", *QUIET, "name=three", cwd=project, flags=flags)
    assert done.code != 0
    assert "torchrun started 3 ranks, but blocks=2" in done.output
    assert not (project / "runs" / "three").exists()


def test_evaluate_and_export_give_what_the_run_reported(project: Path, first: Path) -> None:
    """evaluate repeats the run's test accuracy; export's file loads into a plain module."""
    done = blockstep("evaluate", "run=runs/first", cwd=project)
    assert done.code == 0, done.output
    result = json.loads((first / "evaluation-test.json").read_text())
    told = summary(first)
    assert [block["accuracy"] for block in result["blocks"]] == told["block_accuracy"]
    assert result["ensemble_accuracy"] == told["ensemble_accuracy"]
    done = blockstep("export", "run=runs/first", "checkpoint=best", cwd=project)
    assert done.code == 0, done.output
    from blockstep.models import make_network

    network = make_network("resnet18", classes=10, in_channels=1, size=8, width=0.25).module
    network.load_state_dict(torch.load(first / "model.pt", weights_only=True))
    assert not any("head" in key for key in network.state_dict())


SCRIPT = """
import torch
from torch import nn
import blockstep

class Double(nn.Module):
    def forward(self, x):
        return 2 * x

torch.manual_seed(0)
x = torch.randn(600, 12)
y = (x[:, :6].sum(1) > 0).long()
network = nn.Sequential(nn.Sequential(nn.Linear(12, 16), Double(), nn.ReLU()), nn.Linear(16, 2))
result = blockstep.train(
    network, data=((x[:500], y[:500]), (x[500:], y[500:])), cuts=[1], heads="linear",
    steps=80, batch_size=50, lr=0.05, name="scripted", overrides={overrides},
)
result.load_into(network)
network.eval()
accuracy = (network(x[500:]).argmax(1) == y[500:]).float().mean().item()
print("accuracies", accuracy, result.test_accuracy)
assert abs(accuracy - result.test_accuracy) < 1e-6 and accuracy > 0.8
"""


def test_unguarded_script_trains_its_own_network(tmp_path: Path) -> None:
    """A script without a __main__ guard, with a class of its own, trains and loads the result."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("{overrides}", repr(list(QUIET[:4]))))
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_notebook_cell_trains_its_own_network(tmp_path: Path) -> None:
    """Code without a file behind it, as in a notebook cell, trains as well."""
    code = SCRIPT.replace("{overrides}", repr(list(QUIET[:4])))
    done = subprocess.run(
        [sys.executable, "-"], input=code, cwd=tmp_path, capture_output=True, text=True,
        timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_sweep_runs_one_job_after_the_other(project: Path) -> None:
    """-m seed=0,1 makes two runs with different weights."""
    words = ("-m", *QUIET, "train.steps=3", "seed=0,1", "name=sweep-${seed}")
    done = blockstep("train", *words, cwd=project)
    assert done.code == 0, done.output
    left, right = (states(project / "runs" / f"sweep-{seed}", 3) for seed in (0, 1))
    assert not same(left, right)
