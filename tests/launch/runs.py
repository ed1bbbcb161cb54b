"""Starting real runs from tests, as a user starts them, and comparing what they left."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from blockstep.launch.cli import main

from tests.fork import REPOSITORY
from tests.launch.elastic import agent, rank_server
from tests.launch.warm import WarmProcess, lead

LIMIT_SECONDS = 120

QUIET = (
    "wandb.mode=disabled",
    "measure.backprop=0",
    "measure.alone=0",
    "train.threads=1",
    "decoupling=uniform",
)
"""What most test runs have in common: nothing is measured, one thread."""


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    output: str

    @property
    def last_line(self) -> str:
        """The last line it printed."""
        return self.output.strip().splitlines()[-1]


def blockstep(*words: str, cwd: Path) -> Finished:
    """Run ``blockstep WORDS`` to its end, led by this process; its ranks are processes.

    A process that leads has to import torch first, which takes longer than most runs of tests;
    :func:`command` is for what concerns the leading process itself.
    """
    printed = io.StringIO()
    with _at_home(cwd), redirect_stdout(printed), redirect_stderr(printed):
        code = main(words)
    return Finished(code, printed.getvalue())


def refused_rank(*words: str, cwd: Path, world: int) -> Finished:
    """Be rank 0 of ``world`` under torchrun, for what is refused before the ranks meet."""
    member = {"RANK": "0", "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    with mock.patch.dict(os.environ, member):
        return blockstep(*words, cwd=cwd)


@contextmanager
def _at_home(folder: Path) -> Iterator[None]:
    """Be in a user's project, and afterwards be again as before.

    What other tests imported is out of sight meanwhile: their projects have modules of the same
    names, and a package without ``__init__.py`` does not tell whose it is.
    """
    environment, path, threads = dict(os.environ), list(sys.path), torch.get_num_threads()
    names = {entry.stem for entry in folder.iterdir() if entry.suffix in ("", ".py")}
    others = _forget(names)
    # ``python -m pytest`` has put the repository there, whose models and search come first.
    sys.path[:] = [entry for entry in path if Path(entry).resolve() != REPOSITORY]
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = path
        torch.set_num_threads(threads)
        _forget(names)
        sys.modules.update(others)


def _forget(names: set[str]) -> dict[str, ModuleType]:
    """Take these modules and all within them out of what is imported; return them."""
    found = {name: module for name, module in sys.modules.items() if name.split(".")[0] in names}
    for name in found:
        del sys.modules[name]
    return found


def command(*words: str, cwd: Path, limit: float = LIMIT_SECONDS) -> Finished:
    """Run ``blockstep WORDS`` to its end in a process of its own."""
    return _finish(start_cold(*words, cwd=cwd), limit)


def start(*words: str, cwd: Path) -> WarmProcess:
    """Begin ``blockstep WORDS`` in a process that has imported everything; return at once."""
    return WarmProcess(lead, words, cwd=cwd)


def start_cold(*words: str, cwd: Path) -> subprocess.Popen[str]:
    """Begin ``python -m blockstep WORDS`` and return at once; its output is a pipe."""
    return _begin([sys.executable, "-m", "blockstep", *words], cwd)


def torchrun(
    *words: str, cwd: Path, flags: Sequence[str], limit: float = LIMIT_SECONDS
) -> Finished:
    """Run ``torchrun FLAGS -m blockstep WORDS`` to its end; its processes import nothing."""
    return _finish(start_torchrun(*words, cwd=cwd, flags=flags), limit)


def start_torchrun(*words: str, cwd: Path, flags: Sequence[str]) -> WarmProcess:
    """Begin ``torchrun FLAGS -m blockstep WORDS`` likewise and return at once."""
    return WarmProcess(agent, flags, rank_server(), words, cwd=cwd)


def torchrun_cold(
    *words: str, cwd: Path, flags: Sequence[str], limit: float = LIMIT_SECONDS
) -> Finished:
    """Run ``torchrun FLAGS -m blockstep WORDS`` as a user does."""
    return _finish(start_torchrun_cold(*words, cwd=cwd, flags=flags), limit)


def start_torchrun_cold(*words: str, cwd: Path, flags: Sequence[str]) -> subprocess.Popen[str]:
    """Begin ``torchrun FLAGS -m blockstep WORDS`` as a user does and return at once."""
    command = [sys.executable, "-m", "torch.distributed.run", *flags, "-m", "blockstep", *words]
    return _begin(command, cwd)


def _begin(command: Sequence[str], cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _finish(process: subprocess.Popen[str] | WarmProcess, limit: float) -> Finished:
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise AssertionError(f"still running after {limit} s; it printed:\n{output}") from None
    assert process.returncode is not None
    return Finished(process.returncode, output)


def finish(process: subprocess.Popen[str] | WarmProcess, limit: float = LIMIT_SECONDS) -> Finished:
    """Wait for a command that :func:`start` began."""
    return _finish(process, limit)


def wait_for(what: Any, *, limit: float = 60.0, text: str = "it") -> Any:
    """Wait until ``what()`` is true and return its value."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        value = what()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{text} did not happen within {limit} s")


def at_step(folder: Path, step: int) -> bool:
    """Whether every stage of a run has reported ``step`` or a later one."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return False
    newest: dict[int, int] = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if record["event"] == "train":
            newest[record["stage"]] = record["step"]
    return bool(newest) and min(newest.values()) >= step


def pids(folder: Path) -> list[int]:
    """Return the process of each rank."""
    return [rank["pid"] for rank in json.loads((folder / "ranks.json").read_text())]


def alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def summary(folder: Path) -> dict[str, Any]:
    """Return the content of ``summary.json``."""
    return json.loads((folder / "summary.json").read_text())


def states(folder: Path, step: int) -> list[Any]:
    """Return the state of each stage in the checkpoint after ``step``."""
    shards = sorted((folder / "checkpoints" / f"step-{step}").glob("stage-*.pt"))
    assert shards, f"no checkpoint of step {step} in {folder}"
    return [torch.load(shard, weights_only=True) for shard in shards]


def same(left: Any, right: Any) -> bool:
    """Whether two nested states are equal bit for bit."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    return left == right
