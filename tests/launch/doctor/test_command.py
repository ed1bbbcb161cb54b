"""`blockstep doctor` from end to end, and what it can be told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from blockstep.launch.compose import compose
from blockstep.launch.doctor import command
from blockstep.launch.doctor.command import doctor_command
from blockstep.launch.doctor.config import DoctorConfig
from blockstep.launch.doctor.finding import Finding, fail, ok, warn
from blockstep.launch.doctor.nvml import Driver
from blockstep.launch.refusal import ConfigError

from tests.launch.runs import blockstep


def test_this_machine(tmp_path: Path):
    """Every part is looked at, in processes of its own; a data set that is named must be there."""
    words = ("json=true", "data.names=[digits,imagenet]", "data.root=none", "runs=runs")
    done = blockstep("doctor", *words, "wandb.mode=disabled", "device=cpu", cwd=tmp_path)
    told = json.loads(done.output)
    found = {finding["subject"]: finding for finding in told["findings"]}
    assert list(found) == [
        *("versions", "cpu", "memory", "shared memory", "gpu", "disk", "data digits"),
        *("data imagenet", "wandb", "dashboard", "gloo", "link 0-1"),
    ]
    assert (done.code, told["ok"]) == (1, False)
    failed = [subject for subject, finding in found.items() if finding["level"] == "fail"]
    assert failed == ["data imagenet"]
    assert found["gloo"]["figures"] == {"ranks": 2}
    assert found["link 0-1"]["figures"]["bytes_per_second"] > 1e6
    assert list(tmp_path.iterdir()) == []


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_machine_with_gpus(tmp_path: Path):
    """Each has a line; NCCL works; the link says how the tensors of GPUs travel."""
    done = blockstep("doctor", "json=true", "device=cuda", "data.names=[]", cwd=tmp_path)
    told = json.loads(done.output)
    assert (done.code, told["ok"]) == (0, True), told
    found = {finding["subject"]: finding for finding in told["findings"]}
    gpus = torch.cuda.device_count()
    assert [subject for subject in found if subject.startswith("gpu")] == [
        f"gpu {index}" for index in range(gpus)
    ]
    assert found["NCCL"]["figures"] == {"ranks": min(gpus, max(2, min(4, gpus)))}
    how = "NCCL" if gpus > 1 else "gloo through host memory"
    assert found["link 0-1"]["text"].endswith(how)


@pytest.mark.parametrize(
    ("findings", "status"),
    [
        ([ok("cpu", "8 cores"), warn("disk", "slow", "buy another")], 0),
        ([ok("cpu", "8 cores"), fail("gloo", "no lo", "ip link set lo up")], 1),
    ],
)
def test_the_status_says_whether_something_failed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    findings: Sequence[Finding],
    status: int,
):
    """A warning is no failure; each finding is one line with what to do."""
    monkeypatch.setattr(command, "examine", lambda config: iter(findings))
    assert doctor_command([]) == status
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok    cpu                 8 cores"
    second = findings[1]
    assert lines[1] == f"{second.level:<4}  {second.subject:<18}  {second.text}: {second.advice}"
    assert doctor_command(["json=true"]) == status
    told = json.loads(capsys.readouterr().out)
    assert (told["format"], told["ok"]) == (1, status == 0)
    assert told["findings"][1]["advice"] == second.advice


@pytest.mark.parametrize(
    ("ranks", "gpus", "expected"),
    [(None, 0, 2), (None, 1, 2), (None, 3, 3), (None, 8, 4), (7, 1, 7)],
)
def test_how_many_ranks_there_are(ranks: int | None, gpus: int, expected: int):
    """What was typed, else one per GPU, from 2 to 4."""
    assert command._count(DoctorConfig(ranks=ranks), Driver(gpus)) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ranks=1"], "ranks=1: must be at least 2 and at most 64"),
        (["device=tpu"], "device=tpu: choose one of auto, cpu, cuda"),
        (
            ["data.names=[cifar]"],
            r"data.names=\[cifar\]: cifar is no data set .*did you mean cifar10",
        ),
        (["wandb.mode=on"], "wandb.mode=on: choose one of offline, online, disabled"),
        (["runs=''"], "runs=: must not be empty"),
        (["data=digits"], "this is a section"),
        (["link=gloo"], "there is no such key"),
    ],
)
def test_refusals(words: list[str], message: str):
    """Each has the key, the value and what would be valid."""
    with pytest.raises(ConfigError, match=message):
        compose("doctor", words)
