"""Real runs with replicas: what they leave behind, how they end, and what a resume makes of it."""

from __future__ import annotations

import html
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.launch import runs
from tests.launch.runs import QUIET, blockstep, finish, same, states, summary, torchrun
from tests.launch.test_faults import GONE_SECONDS, LONG, all_gone, begin

NETWORK = ("model._target_=models.net.Small", "heads=linear", "train.batch_size=64")
SHARED = ("pipeline.replicas=[2,1]", *NETWORK)
WORDS = (
    *SHARED,
    "train.steps=30",
    "evaluate.every=15",
    "checkpoint.every=15",
    "log.every=5",
    "train.threads=1",
    "decoupling=uniform",
    "measure.backprop=2",
    "measure.alone=2",
    "wandb.mode=disabled",
)
END = 120
TOGETHER = (*LONG, *SHARED, f"train.steps={END}")
TORCHRUN = ("--standalone", "--nproc-per-node", "3")


@pytest.fixture(scope="module")
def first(project: Path) -> Path:
    """A run of two stages, the first with two replicas; everything is measured."""
    done = blockstep("train", *WORDS, "name=first", cwd=project)
    assert done.code == 0, done.output
    (project / "first.txt").write_text(done.output)
    return project / "runs" / "first"


@pytest.fixture(scope="module")
def undisturbed(project: Path) -> Path:
    """A run with replicas that nothing happens to."""
    done = blockstep("train", *TOGETHER, "name=undisturbed", cwd=project)
    assert done.code == 0, done.output
    return project / "runs" / "undisturbed"


def records(folder: Path, event: str) -> list[dict[str, Any]]:
    """Return the records of one kind."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["event"] == event]


def test_every_rank_is_told_with_its_stage_and_replica(project: Path, first: Path) -> None:
    """ranks.json, the summary, the trace and the terminal name each replica."""
    ranks = json.loads((first / "ranks.json").read_text())
    places = [(rank["rank"], rank["stage"], rank["replica"]) for rank in ranks]
    assert places == [(0, 1, 1), (1, 1, 2), (2, 2, 1)]
    assert len({rank["pid"] for rank in ranks}) == 3
    stages = summary(first)["stages"]
    told = [[one["rank"] for one in stage["replicas"]] for stage in stages]
    assert told == [[0, 1], [2]]
    for one, rank in zip([*stages[0]["replicas"], *stages[1]["replicas"]], ranks, strict=True):
        assert (one["pid"], one["host"], one["device"]) == (rank["pid"], rank["host"], "cpu")
        assert one["busy"] > 0
        assert one["peak_memory_bytes"] > 1e7
    events = json.loads((first / "trace.json").read_text())["traceEvents"]
    names = [event["args"]["name"] for event in events if event["ph"] == "M"]
    assert names == ["stage 1 (ranks 0, 1)", "stage 2 (rank 2)"]
    spans = {(event["pid"], event["tid"]) for event in events if event["ph"] == "X"}
    assert spans == {(1, 0), (1, 1), (2, 0)}
    output = (project / "first.txt").read_text()
    assert "2 replicas (ranks 0-1) with 32 examples of each batch" in output
    assert "| stage 1 (2 replicas) |" in output
    page = html.unescape((first / "report.html").read_text())
    assert "2 replicas \u00b7 ranks 0\u20131" in page


def test_the_figures_are_those_of_a_stage(first: Path) -> None:
    """One record per stage and interval, one evaluation, one shard; all is measured."""
    train = [(one["stage"], one["step"]) for one in records(first, "train")]
    assert sorted(train) == [(stage, step) for stage in (1, 2) for step in range(5, 31, 5)]
    evaluations = [(one["split"], one["step"]) for one in records(first, "evaluation")]
    assert evaluations == [("validation", 15), ("validation", 30), ("test", 30)]
    shards = {path.name for path in (first / "checkpoints" / "step-30").glob("*.pt")}
    assert shards == {"stage-1.pt", "stage-2.pt"}
    result = summary(first)
    for key in ("slowest_alone", "speedup_vs_backprop", "efficiency", "images_per_second"):
        assert result[key] > 0, key
    batch, slowest = 64, max(stage["busy"] for stage in result["stages"])
    assert result["efficiency"] == pytest.approx(result["images_per_second"] * slowest / batch)


def test_what_ranks_send_is_counted(first: Path) -> None:
    """Activations, labels and shares of gradients; nothing of what evaluations need.

    Stage 1 of the small network on digits yields 8 channels of 8 x 8; two replicas halve a batch of
    64, and a ring of two sends each rank's gradients once.
    """
    one, two = summary(first)["stages"]
    gradients = 4 * (one["params"] + one["head_params"])
    for replica in one["replicas"]:
        assert replica["bytes_per_step"] == 32 * (8 * 8 * 8 * 4 + 8) + gradients
    assert two["replicas"][0]["bytes_per_step"] == 0
    every = [replica["bytes_per_step"] for replica in one["replicas"]]
    assert summary(first)["bytes_per_step"] == sum(every)


def test_evaluate_gives_what_the_replicas_reported(project: Path, first: Path) -> None:
    """What the replicas evaluated in parts is what one process makes of the checkpoint."""
    done = blockstep("evaluate", "run=runs/first", cwd=project)
    assert done.code == 0, done.output
    result = json.loads((first / "evaluation-test.json").read_text())
    told = summary(first)
    assert [block["accuracy"] for block in result["blocks"]] == told["block_accuracy"]
    assert result["ensemble_accuracy"] == told["ensemble_accuracy"]


def test_torchrun_equals_our_launcher(project: Path, first: Path) -> None:
    """The same words under torchrun with three ranks give the same weights and evaluations."""
    done = torchrun("train", *WORDS, "name=elastic", cwd=project, flags=TORCHRUN)
    assert done.code == 0, done.output
    elastic = project / "runs" / "elastic"
    assert same(states(elastic, 30), states(first, 30))
    assert summary(elastic)["block_accuracy"] == summary(first)["block_accuracy"]


def test_auto_divides_the_ranks_of_torchrun(project: Path) -> None:
    """Three ranks for two blocks: one stage gets two, and the run keeps that when it goes on."""
    words = (*QUIET, *NETWORK, "pipeline.replicas=auto", "blocks=2", "name=auto")
    done = torchrun("train", *words, "train.steps=4", cwd=project, flags=TORCHRUN)
    assert done.code == 0, done.output
    ranks = json.loads((project / "runs" / "auto" / "ranks.json").read_text())
    had = [(rank["stage"], rank["replica"]) for rank in ranks]
    assert sorted(had) in ([(1, 1), (1, 2), (2, 1)], [(1, 1), (2, 1), (2, 2)])
    done = blockstep("train", "name=auto", "resume=auto", "train.steps=6", cwd=project)
    assert done.code == 0, done.output
    assert "continues after step 4" in done.output
    ranks = json.loads((project / "runs" / "auto" / "ranks.json").read_text())
    assert [(rank["stage"], rank["replica"]) for rank in ranks] == had


def test_other_ranks_of_torchrun_are_refused(project: Path) -> None:
    """torchrun with three ranks for four says both numbers and starts nothing."""
    words = ("train", *QUIET, "pipeline.replicas=[3,1]", "name=three")
    done = runs.refused_rank(*words, cwd=project, world=3)
    assert done.code == 2
    assert "torchrun started 3 ranks, but pipeline.replicas=[3,1]" in done.output
    assert "needs 4" in done.output
    assert not (project / "runs" / "three").exists()


def test_killed_replica_is_named_and_resume_ends_where_the_undisturbed_run_ends(
    project: Path, undisturbed: Path
) -> None:
    """SIGKILL of a replica ends all, is named, and the resumed run is bit-identical."""
    folder = project / "runs" / "killed"
    process = begin(project, "killed", *SHARED, f"train.steps={END}")
    pids = runs.pids(folder)
    os.kill(pids[1], signal.SIGKILL)
    all_gone(pids)
    done = finish(process, GONE_SECONDS)
    assert done.code == 1
    assert done.last_line.startswith("blockstep: failed at stage 1 replica 2 (rank 1), step ")
    assert "SIGKILL" in done.last_line
    done = blockstep("train", "name=killed", "resume=auto", cwd=project)
    assert done.code == 0, done.output
    assert "continues after step" in done.output
    assert same(states(folder, END), states(undisturbed, END))


def test_ctrl_c_ends_all_replicas_at_one_step_and_the_resumed_run_is_identical(
    project: Path, undisturbed: Path
) -> None:
    """Ctrl-C ends the run with a checkpoint of one step and code 130; resume ends the same."""
    folder = project / "runs" / "interrupted"
    process = begin(project, "interrupted", *SHARED, f"train.steps={END}")
    pids = runs.pids(folder)
    process.send_signal(signal.SIGINT)
    done = finish(process, 30)
    assert done.code == 130, done.output
    assert "Traceback" not in done.output
    all_gone(pids, 1.0)
    steps = summary(folder)["steps"]
    assert (folder / "checkpoints" / f"step-{steps}" / "manifest.json").exists()
    done = blockstep("train", f"resume={folder}", cwd=project)
    assert done.code == 0, done.output
    assert f"continues after step {steps}" in done.output
    assert same(states(folder, END), states(undisturbed, END))


def test_stop_ends_data_parallel_backpropagation(project: Path) -> None:
    """One block on two ranks: status names the replicas, stop ends both at the same step."""
    words = ("method=backprop", "pipeline.replicas=2", *NETWORK[:1], "train.batch_size=64")
    process = begin(project, "parallel", *words, "blocks=1", step=10)
    folder = project / "runs" / "parallel"
    status = blockstep("status", "run=runs/parallel", cwd=project)
    assert "| stage 1 (2 replicas) |" in status.output
    assert blockstep("stop", "run=runs/parallel", cwd=project).code == 0
    done = finish(process, 30)
    assert done.code == 0, done.output
    result = summary(folder)
    assert 10 <= result["steps"] < 4000
    assert [len(stage["replicas"]) for stage in result["stages"]] == [2]
    assert states(folder, result["steps"])


@pytest.mark.parametrize(
    ("kind", "words", "told"),
    [
        pytest.param("raise", (), "ValueError: the head is broken", id="raises"),
        pytest.param("hang", ("pipeline.timeout=4",), "hangs", id="hangs"),
    ],
)
def test_failing_replica_is_named_in_the_last_line(
    project: Path, kind: str, words: tuple[str, ...], told: str
) -> None:
    """Of replicas that wait for each other, the one that raises or hangs is named."""
    head = f"heads={{_target_:search.heads.Failing,step:20,kind:{kind},rank:1}}"
    shared = ("pipeline.replicas=[2,1]", NETWORK[0], NETWORK[2])
    name = f"failing-{kind}"
    done = blockstep("train", *LONG, *shared, head, *words, f"name={name}", cwd=project)
    assert done.code == 1
    text = done.output[done.output.index("blockstep: failed at ") :]
    assert text.startswith("blockstep: failed at stage 1 replica 2 (rank 1), step 20: "), text
    assert told in text
    if kind == "hang":
        assert "stage 1 replica 1 (rank 0) waits for the other replicas of its stage" in text
    all_gone(runs.pids(project / "runs" / name))


SCRIPT = """
import copy
import torch
from torch import nn
import blockstep

torch.manual_seed(0)
x = torch.randn(600, 12)
y = (x[:, :6].sum(1) > 0).long()
network = nn.Sequential(nn.Sequential(nn.Linear(12, 16), nn.ReLU()), nn.Linear(16, 2))
data = ((x[:500], y[:500]), (x[500:], y[500:]))
settings = dict(data=data, cuts=[1], heads="linear", steps=80, batch_size=50, lr=0.05)
weights = []
for name, replicas in (("alone", [1, 1]), ("shared", [2, 1])):
    words = [*{overrides}, f"pipeline.replicas={replicas}"]
    result = blockstep.train(network, name=name, overrides=words, **settings)
    weights.append(result.load_into(copy.deepcopy(network))[0][0].weight)
    print(name, result.test_accuracy)
    assert result.test_accuracy > 0.8
print("differ by", (weights[0] - weights[1]).abs().max().item())
torch.testing.assert_close(weights[0], weights[1], rtol=1e-3, atol=1e-4)
"""


def test_a_script_with_its_own_data_trains_on_replicas(tmp_path: Path) -> None:
    """Every replica of the first stage gets the data; [2,1] learn what [1,1] learn, in float32."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("{overrides}", repr(list(QUIET[:4]))))
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
