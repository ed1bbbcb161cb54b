"""What a run does when something goes wrong: who is named, what is kept, what is left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launch import runs
from tests.launch.runs import QUIET, at_step, blockstep, finish, same, start, states, wait_for
from tests.launch.warm import WarmProcess

STEPS = 4000
RESNET = (
    *QUIET,
    f"train.steps={STEPS}",
    "checkpoint.every=50",
    "checkpoint.best=false",
    "evaluate.every=0",
    "log.every=5",
)
"""A run that lasts until it is disturbed."""

LONG = (*RESNET, "model._target_=models.net.Small", "train.batch_size=16")
"""The same in less time."""

GONE_SECONDS = 10.0


@pytest.fixture(scope="module")
def undisturbed(project: Path) -> Path:
    """A run of 200 steps that nothing happens to."""
    words = (*LONG, "train.steps=200", "name=undisturbed")
    done = blockstep("train", *words, cwd=project)
    assert done.code == 0, done.output
    return project / "runs" / "undisturbed"


def begin(project: Path, name: str, *words: str, step: int = 55) -> WarmProcess:
    """Start a run and wait until all its stages have passed ``step``."""
    process = start("train", *LONG, *words, f"name={name}", cwd=project)
    folder = project / "runs" / name
    try:
        wait_for(lambda: at_step(folder, step), text=f"step {step} of {name}")
        saved = folder / "checkpoints" / "step-50" / "manifest.json"
        if step > 50:
            wait_for(saved.exists, text="the checkpoint of step 50")
    except AssertionError:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(process.communicate()[0]) from None
    return process


def all_gone(pids: list[int], seconds: float = GONE_SECONDS) -> None:
    """Every process ends in time."""
    wait_for(lambda: not any(map(runs.alive, pids)), limit=seconds, text="the end of all ranks")


def test_killed_stage_is_named_and_resume_ends_where_the_undisturbed_run_ends(
    project: Path, undisturbed: Path
) -> None:
    """SIGKILL of stage 2 ends all within 10 s, is named, and the resumed run is bit-identical."""
    folder = project / "runs" / "killed"
    process = begin(project, "killed", "train.steps=200")
    pids = runs.pids(folder)
    os.kill(pids[1], signal.SIGKILL)
    all_gone(pids)
    done = finish(process, GONE_SECONDS)
    assert done.code == 1
    assert done.last_line.startswith("blockstep: failed at stage 2 (rank 1), step ")
    assert "SIGKILL" in done.last_line
    done = blockstep("train", "name=killed", "resume=auto", cwd=project)
    assert done.code == 0, done.output
    assert "continues after step" in done.output
    assert same(states(folder, 200), states(undisturbed, 200))


def test_torchrun_restarts_by_itself_and_ends_where_the_undisturbed_run_ends(
    project: Path, undisturbed: Path
) -> None:
    """After SIGKILL, torchrun --max-restarts 1 continues from the checkpoint, bit for bit."""
    folder = project / "runs" / "restarted"
    process = runs.start_torchrun_cold(
        "train", *LONG, "train.steps=200", "name=restarted", cwd=project,
        flags=["--nnodes", "1", "--nproc-per-node", "2", "--max-restarts", "1",
               "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"],
    )  # fmt: skip
    try:
        saved = folder / "checkpoints" / "step-50" / "manifest.json"
        wait_for(saved.exists, text="the checkpoint of step 50")
        os.kill(runs.pids(folder)[1], signal.SIGKILL)
    finally:
        done = finish(process)
    assert done.code == 0, done.output
    assert "continues after step" in done.output
    assert same(states(folder, 200), states(undisturbed, 200))


def test_a_run_restarts_by_itself_and_ends_where_the_undisturbed_run_ends(
    project: Path, undisturbed: Path
) -> None:
    """With restarts=1 a stage that is killed costs only what came after the checkpoint."""
    words = ("train.steps=200", "restarts=1")
    process = begin(project, "again", *words, step=60)
    folder = project / "runs" / "again"
    before = runs.pids(folder)
    os.kill(before[1], signal.SIGKILL)
    done = finish(process)
    assert done.code == 0, done.output
    assert "blockstep: restart 1 of 1" in done.output
    assert "stage 2 (rank 1)" in done.output
    assert "continues after step" in done.output
    assert same(states(folder, 200), states(undisturbed, 200))
    all_gone([*before, *runs.pids(folder)])


def test_restarts_are_counted(project: Path) -> None:
    """A stage that fails 60 steps after every start gets 110 steps far with one restart."""
    head = "heads={_target_:search.heads.Failing,step:60,kind:raise}"
    done = blockstep("train", *LONG, head, "restarts=1", "name=counted", cwd=project)
    assert done.code == 1
    text = done.output[done.output.index("blockstep: restart 1 of 1") :]
    assert "continues after step 50" in text
    assert re.search(r"blockstep: failed at stage 1 \(rank 0\), step 1(05|06|07|08|09|10):", text)
    assert "restart 2" not in text


def test_a_run_that_fails_in_the_same_way_is_given_up(project: Path) -> None:
    """The same failure at the same step would come for ever."""
    head = "heads={_target_:search.heads.Failing,step:1,kind:raise}"
    done = blockstep("train", *LONG, head, "restarts=9", "name=hopeless", cwd=project)
    assert done.code == 1
    assert done.output.count("blockstep: restart ") == 1
    assert "it is not begun again" in done.output
    assert "the head is broken" in done.last_line


def test_restarts_are_torchruns_under_torchrun(project: Path) -> None:
    """Two that start ranks again would be in each other's way."""
    words = ("train", *LONG, "restarts=2", "blocks=1")
    done = runs.refused_rank(*words, cwd=project, world=1)
    assert done.code == 2
    assert "torchrun --max-restarts 2" in done.output


@pytest.mark.parametrize(
    ("kind", "words", "told"),
    [
        pytest.param("raise", (), "ValueError: the head is broken", id="raises"),
        pytest.param("exit", (), "the process ended with status 7", id="exits"),
        pytest.param("hang", ("pipeline.timeout=4",), "hangs", id="hangs"),
    ],
)
def test_failing_stage_is_named_in_the_last_line(
    project: Path, kind: str, words: tuple[str, ...], told: str
) -> None:
    """A stage that raises, exits or hangs is named with its rank, step and cause; all end."""
    head = f"heads={{_target_:search.heads.Failing,step:60,kind:{kind}}}"
    name = f"failing-{kind}"
    done = blockstep("train", *LONG, head, *words, f"name={name}", cwd=project)
    assert done.code == 1
    text = done.output[done.output.index("blockstep: failed at ") :]
    assert re.match(r"blockstep: failed at stage 1 \(rank 0\), step (55|56|57|58|59|60):", text), (
        text
    )
    assert told in text
    folder = project / "runs" / name
    all_gone(runs.pids(folder))
    assert (folder / "checkpoints" / "step-50" / "manifest.json").exists()
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert "failed" in [record["event"] for record in records[-10:]]


def test_exception_under_torchrun_reaches_its_summary(project: Path) -> None:
    """torchrun's own last lines carry the error of the rank that failed."""
    head = "heads={_target_:search.heads.Failing,step:5,kind:raise}"
    flags = ["--standalone", "--nproc-per-node", "2"]
    done = runs.torchrun_cold("train", *LONG, head, "name=elastic-fails", cwd=project, flags=flags)
    assert done.code != 0
    summary = done.output[done.output.rindex("Root Cause") :]
    assert "ValueError: the head is broken" in summary
    assert "rank      : 0" in summary


def test_non_finite_loss_names_stage_step_and_rate_and_keeps_the_checkpoint(
    project: Path,
) -> None:
    """A loss that explodes ends the run before a bad checkpoint is written."""
    words = ("train.lr=1e8", "train.warmup=1000", "train.lr_min=0", "checkpoint.every=1")
    done = blockstep("train", *RESNET, *words, "name=exploding", cwd=project)
    assert done.code == 1
    assert "NonFiniteLossError" in done.last_line
    assert "the loss of step" in done.last_line
    assert "at learning rate" in done.last_line
    folder = project / "runs" / "exploding"
    kept = sorted((folder / "checkpoints").glob("step-*/manifest.json"))
    assert kept
    newest = max(int(path.parent.name.removeprefix("step-")) for path in kept)
    for state in states(folder, newest):
        assert all(tensor.isfinite().all() for tensor in state["body"].values())


def test_ctrl_c_once_writes_a_checkpoint_and_the_resumed_run_is_identical(
    project: Path, undisturbed: Path
) -> None:
    """The first Ctrl-C ends the run with a checkpoint and code 130; resume ends the same."""
    folder = project / "runs" / "interrupted"
    process = begin(project, "interrupted", "train.steps=200")
    pids = runs.pids(folder)
    process.send_signal(signal.SIGINT)
    done = finish(process, 30)
    assert done.code == 130, done.output
    assert "stopping with a checkpoint" in done.output
    assert "Traceback" not in done.output
    all_gone(pids, 1.0)
    steps = sorted(
        int(path.parent.name.removeprefix("step-"))
        for path in (folder / "checkpoints").glob("step-*/manifest.json")
    )
    assert steps[-1] > 50
    done = blockstep("train", f"resume={folder}", cwd=project)
    assert done.code == 0, done.output
    assert f"continues after step {steps[-1]}" in done.output
    assert same(states(folder, 200), states(undisturbed, 200))


def test_a_reader_that_goes_away_does_not_stop_the_run(project: Path, undisturbed: Path) -> None:
    """`blockstep train | head` trains on, silently, and ends as it would have."""
    words = (*LONG, "train.steps=200", "name=unread", "log.view=plain")
    process = runs.start_cold("train", *words, cwd=project)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("run runs/unread")
    process.stdout.close()
    assert process.wait(60) == 0
    assert same(states(project / "runs" / "unread", 200), states(undisturbed, 200))


def test_a_closed_terminal_ends_the_run_with_a_checkpoint(project: Path) -> None:
    """SIGHUP is as SIGTERM: a checkpoint, code 143, nobody is left."""
    process = begin(project, "hung-up", "train.steps=3000")
    folder = project / "runs" / "hung-up"
    pids = runs.pids(folder)
    process.send_signal(signal.SIGHUP)
    done = finish(process, 30)
    assert done.code == 143, done.output
    all_gone(pids, 1.0)
    saved = [path.parent.name for path in (folder / "checkpoints").glob("step-*/manifest.json")]
    assert max(int(name.removeprefix("step-")) for name in saved) > 55


def test_ctrl_c_twice_ends_at_once(project: Path) -> None:
    """A second Ctrl-C does not wait for anything; the code is 130 and nobody is left."""
    head = "heads={_target_:search.heads.Failing,step:60,kind:hang}"
    process = start("train", *LONG, head, "name=impatient", cwd=project)
    folder = project / "runs" / "impatient"
    wait_for(lambda: at_step(folder, 55), text="step 55")
    time.sleep(3.0)  # until it hangs at step 60, also on a machine that is busy
    pids = runs.pids(folder)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    done = finish(process, 10)
    assert done.code == 130
    all_gone(pids, 1.0)


def test_workers_end_when_their_parent_is_killed(project: Path) -> None:
    """SIGKILL of the parent leaves no worker behind."""
    process = begin(project, "orphaned", step=5)
    pids = runs.pids(project / "runs" / "orphaned")
    process.kill()
    process.wait(10)
    all_gone(pids)


def test_stop_from_another_terminal(project: Path) -> None:
    """blockstep status tells the stages; blockstep stop ends the run with a checkpoint."""
    process = begin(project, "stopped", step=10)
    status = blockstep("status", "run=runs/stopped", cwd=project)
    assert status.code == 0
    assert "running" in status.output
    assert "stage 2" in status.output
    stop = blockstep("stop", "run=runs/stopped", cwd=project)
    assert stop.code == 0, stop.output
    done = finish(process, 30)
    assert done.code == 0, done.output
    result = runs.summary(project / "runs" / "stopped")
    assert 10 <= result["steps"] < STEPS
    assert states(project / "runs" / "stopped", result["steps"])
    assert blockstep("stop", "run=runs/stopped", cwd=project).code == 1


def test_existing_name_is_refused(project: Path, undisturbed: Path) -> None:
    """A second run with the same name starts nothing and says how to continue the first."""
    before = (undisturbed / "metrics.jsonl").read_text()
    done = blockstep("train", *LONG, "name=undisturbed", cwd=project)
    assert done.code == 2
    assert "exists already" in done.output
    assert "resume=auto" in done.output
    assert (undisturbed / "metrics.jsonl").read_text() == before


def test_finished_run_resumed_with_more_steps_says_what_the_schedule_does(
    project: Path, undisturbed: Path
) -> None:
    """More steps stretch the schedule; the learning rates of before and now are told."""
    shutil.copytree(undisturbed, project / "runs" / "longer")
    done = blockstep("train", "name=longer", "resume=auto", "train.steps=220", cwd=project)
    assert done.code == 0, done.output
    assert "train.steps was 200 and is 220" in done.output
    assert "step 201 has learning rate" in done.output
    assert runs.summary(project / "runs" / "longer")["steps"] == 220
    done = blockstep("train", "name=longer", "resume=auto", "train.steps=10", cwd=project)
    assert done.code == 2
    assert "step 220 is already done" in done.output


def test_damaged_newest_checkpoint_is_named_and_passed_over(
    project: Path, undisturbed: Path
) -> None:
    """A torn shard makes resume fall back to the checkpoint before, with the reason."""
    folder = project / "runs" / "torn"
    shutil.copytree(undisturbed, folder)
    shard = folder / "checkpoints" / "step-200" / "stage-2.pt"
    shard.write_bytes(shard.read_bytes()[:-100])
    done = blockstep("train", "name=torn", "resume=auto", cwd=project)
    assert done.code == 0, done.output
    assert "the checkpoint of step 200 is passed over" in done.output
    assert "continues after step 150" in done.output
    assert same(states(folder, 200), states(undisturbed, 200))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("this user cannot mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_costs_a_checkpoint_and_nothing_else(project: Path, small_disk: Path) -> None:
    """When a checkpoint does not fit, the run says so, keeps the last one, and trains on."""
    words = (f"runs={small_disk}", "train.steps=200", "checkpoint.keep=1", "name=full")
    process = start("train", *RESNET, *words, cwd=project)
    folder = small_disk / "full"
    saved = folder / "checkpoints" / "step-50" / "manifest.json"
    wait_for(saved.exists, text="the checkpoint of step 50")
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file:
        free = shutil.disk_usage(small_disk).free
        file.write(b"x" * max(0, free - 1_000_000))
    wait_for(
        lambda: "was not written" in (folder / "metrics.jsonl").read_text(),
        text="the warning",
    )
    assert saved.exists()
    ballast.unlink()
    done = finish(process)
    assert done.code == 0, done.output
    assert "the training goes on" in done.output
    assert states(folder, 200)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_starts(
    project: Path, tmp_path: Path
) -> None:
    """The folder is named with the reason and what to change."""
    (tmp_path / "file").touch()
    for runs_folder in (tmp_path / "file" / "below", Path("/proc/runs")):
        done = blockstep("train", *LONG, f"runs={runs_folder}", "name=nowhere", cwd=project)
        assert done.code == 2
        assert f"cannot make the run's folder {runs_folder}/nowhere: " in done.last_line
        assert done.last_line.endswith("choose another runs=FOLDER")
