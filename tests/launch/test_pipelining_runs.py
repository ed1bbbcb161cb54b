"""A real run by torch's pipelining: who is named when a stage dies, and what a resume makes of it.

That a resumed run ends at the same bits is tested in test_pipelining.py, without the waiting.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from tests.launch import runs
from tests.launch.runs import blockstep, finish, summary, torchrun
from tests.launch.test_faults import GONE_SECONDS, all_gone, begin

END = 120
WORDS = (
    "method=backprop",
    "runtime=1f1b",
    "blocks=2",
    "model._target_=models.net.Small",
    f"train.steps={END}",
    "train.batch_size=64",
)


def test_a_killed_stage_is_named_and_the_run_goes_on_under_torchrun(project: Path) -> None:
    """SIGKILL of stage 2 ends all within 10 s; torchrun resumes; evaluate repeats the accuracy."""
    folder = project / "runs" / "pipelined"
    process = begin(project, "pipelined", *WORDS)
    pids = runs.pids(folder)
    os.kill(pids[1], signal.SIGKILL)
    all_gone(pids)
    done = finish(process, GONE_SECONDS)
    assert done.code == 1
    assert done.last_line.startswith("blockstep: failed at stage 2 (rank 1), step ")
    assert "SIGKILL" in done.last_line
    flags = ["--standalone", "--nproc-per-node", "2"]
    done = torchrun("train", "name=pipelined", "resume=auto", cwd=project, flags=flags)
    assert done.code == 0, done.output
    assert "continues after step" in done.output
    told = summary(folder)
    assert (told["steps"], told["runtime"], told["heads"]) == (END, "1f1b", ["none"])
    assert told["block_accuracy"] == [None, told["test_accuracy"]]
    activations = 8 * 8 * 8 * 64 * 4
    assert [one["bytes_per_step"] for one in told["stages"]][1] == activations
    assert "errors of the same step" in (folder / "report.html").read_text()
    done = blockstep("evaluate", "run=runs/pipelined", cwd=project)
    assert done.code == 0, done.output
    result = json.loads((folder / "evaluation-test.json").read_text())
    assert [block["accuracy"] for block in result["blocks"]] == told["block_accuracy"]
