"""Processes that need not import anything: forks of one that has imported PyTorch and blockstep.

Importing takes longer than most of what tests start processes for. The template here is blockstep's
own, so only the imports are left out.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cloudpickle
from blockstep.launch.nursery import Worker, nursery

__all__ = ["REPOSITORY", "Call", "begin_fork"]

REPOSITORY = Path(__file__).resolve().parents[1]


def begin_fork(
    function: Callable[..., Any],
    *args: Any,
    folder: Path,
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Worker:
    """Call a function in a process of its own.

    Args:
        function: Sent by value, with the module it is of; it ends its process.
        args: Picklable.
        folder: Where the process is; modules are importable from there and not from the repository.
        log: What it prints is appended there.
        environment: Its variables; by default those of this process.
    """
    for module in (__name__, function.__module__):
        cloudpickle.register_pickle_by_value(sys.modules[module])
    everything = {**os.environ, "OMP_NUM_THREADS": "1"}
    worker = nursery(everything).start(environment or everything, log)
    path = [entry for entry in sys.path if Path(entry).resolve() != REPOSITORY]
    worker.stdin.write(json.dumps({"path": [str(folder), *path]}).encode() + b"\n")
    worker.stdin.write(cloudpickle.dumps(Call(_there, folder, function, args)))
    worker.stdin.close()
    return worker


def _there(folder: Path, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    os.chdir(folder)
    return function(*args)


class Call:
    """A call that happens where it is unpickled."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._function, self._args = function, args

    def __reduce__(self) -> Any:
        return self._function, self._args
