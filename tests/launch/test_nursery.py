"""Tests of `blockstep.launch.nursery` and `blockstep.launch.template`: workers are forked."""

from __future__ import annotations

import gc
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import cloudpickle
import pytest
from blockstep.launch import nursery as module
from blockstep.launch.nursery import Nursery, NurseryError, Worker, nursery

from tests.fork import Call
from tests.launch.runs import alive, wait_for


def begin(code: str, log: Path, environment: Mapping[str, str] | None = None) -> Worker:
    """Start a worker that runs a piece of code instead of a job."""
    everything = {**os.environ, **(environment or {})}
    worker = nursery(everything).start(everything, log)
    worker.stdin.write(json.dumps({"path": ["/nowhere"]}).encode() + b"\n")
    worker.stdin.write(cloudpickle.dumps(Call(exec, code)))
    worker.stdin.close()
    return worker


def printed(code: str, log: Path, **environment: str) -> str:
    """Return what a worker prints that runs a piece of code."""
    worker = begin(f"import os, sys\n{code}\nsys.stdout.flush()\nos._exit(0)", log, environment)
    assert worker.wait(30) == 0, log.read_text()
    return log.read_text().strip()


@pytest.mark.parametrize("code", [0, 7])
def test_a_status_is_told(code: int, tmp_path: Path):
    """How a worker ended arrives, and stays."""
    worker = begin(f"import os; os._exit({code})", tmp_path / "log")
    assert worker.wait(30) == code
    assert worker.poll() == code
    worker.send_signal(signal.SIGTERM)
    assert worker.poll() == code


def test_a_signal_is_told(tmp_path: Path):
    """A signal is a negative status, as everywhere in Python; a running worker has none."""
    worker = begin("import time; time.sleep(100)", tmp_path / "log")
    assert worker.poll() is None
    assert worker.wait(0.05) is None
    worker.send_signal(signal.SIGKILL)
    assert worker.wait(30) == -signal.SIGKILL
    assert not alive(worker.pid)


def test_what_goes_wrong_is_in_the_log(tmp_path: Path):
    """An error leaves its traceback in the worker's log, after what stood there."""
    (tmp_path / "log").write_text("before\n")
    assert begin("raise KeyError('broken payload')", tmp_path / "log").wait(30) == 1
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[0] == "before"
    assert lines[-1] == "KeyError: 'broken payload'"


def test_a_worker_has_its_own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its variables, its leader's folder and path, a session and signals of its own."""
    monkeypatch.chdir(tmp_path)
    code = (
        "import signal\n"
        "print(os.environ['OWN'], os.environ['OMP_NUM_THREADS'], os.getcwd(), sys.path)\n"
        "print(os.getsid(0) == os.getpid(), signal.getsignal(signal.SIGINT).__name__)\n"
        "print(signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL)"
    )
    text = printed(code, tmp_path / "log", OWN="mine", OMP_NUM_THREADS="3")
    assert text.splitlines() == [
        f"mine 3 {tmp_path} ['/nowhere']",
        "True default_int_handler",
        "True",
    ]


def test_a_worker_has_what_it_needs_and_one_thread(tmp_path: Path):
    """torch and what optimizers import late are there at once; a fork of threads would hang."""
    code = (
        "print('torch._dynamo' in sys.modules, 'blockstep.launch.training.rank' in sys.modules)\n"
        "print(len(os.listdir('/proc/self/task')), 'wandb' in sys.modules)\n"
        "import torch; print(torch.cuda.is_initialized())"
    )
    assert printed(code, tmp_path / "log").split() == ["True", "True", "1", "False", "False"]


def test_workers_hold_nothing_of_each_other(tmp_path: Path):
    """A worker has its three files open, however many run beside it."""
    others = [begin("import time; time.sleep(100)", tmp_path / "other") for _ in range(3)]
    text = printed("print(sorted(os.listdir('/proc/self/fd'))[:-1])", tmp_path / "log")
    for other in others:
        other.send_signal(signal.SIGKILL)
    assert text == "['0', '1', '2']"


def test_leader_keeps_nothing_of_workers_that_ended(tmp_path: Path):
    """Open files do not grow with the workers that were started."""
    begin("pass", tmp_path / "log").wait(30)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        begin("pass", tmp_path / "log").wait(30)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_runs_share_a_template(tmp_path: Path):
    """A second run does not wait for imports, unless a library would read other variables."""
    first = nursery({**os.environ, "RANK": "0", "OMP_NUM_THREADS": "1"})
    assert nursery({**os.environ, "RANK": "1", "OMP_NUM_THREADS": "2"}) is first
    keys = dict(module._nurseries)
    other = nursery({**os.environ, "TORCH_LOGS_OUT": str(tmp_path / "torch.log")})
    assert other is not first
    added = module._nurseries.keys() - keys.keys()
    for key in added:
        module._nurseries.pop(key).close()


def test_workers_end_with_their_template(tmp_path: Path):
    """Nobody is left behind, the run is told, and the next run begins a template of its own."""
    environment = {**os.environ, "TORCH_TEST_OWN": "1"}
    mine = nursery(environment)
    worker = mine.start(environment, tmp_path / "log")
    template = mine._template
    template.kill()
    template.wait()
    wait_for(lambda: not alive(worker.pid), limit=10, text="the end of the worker")
    assert worker.poll() == -signal.SIGKILL
    with pytest.raises(NurseryError, match="worker processes cannot be started"):
        mine.start(environment, tmp_path / "log")
    again = nursery(environment)
    assert again is not mine
    assert again.alive


def test_template_ends_with_its_leader(tmp_path: Path):
    """When the leader's end of the socket closes, template and workers end."""
    mine = Nursery(os.environ)
    worker = mine.start(os.environ, tmp_path / "log")
    mine.close()
    assert not mine.alive
    wait_for(lambda: not alive(worker.pid), limit=10, text="the end of the worker")
