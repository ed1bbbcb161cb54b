"""``blockstep status`` and ``blockstep stop``: a run, seen and ended from another terminal."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from typing import Any

from .configfile import command_of, config_from_yaml
from .folder import RunFolder
from .options import read_options, run_folder
from .records import read_records

__all__ = ["state_of", "status_command", "stop_command"]


def status_command(words: Sequence[str]) -> int:
    """Print what a run is doing: its state, its newest figures, its last events."""
    folder = run_folder("status", read_options("status", words, {"run": None}))
    records = read_records(folder.metrics) if folder.metrics.exists() else []
    print(f"{folder.path}: {state_of(folder, records)}")
    for line in _lines(folder, records):
        print(line)
    return 0


def stop_command(words: Sequence[str]) -> int:
    """Ask a run to write a checkpoint and end."""
    folder = run_folder("stop", read_options("stop", words, {"run": None}))
    records = read_records(folder.metrics) if folder.metrics.exists() else []
    state = state_of(folder, records)
    if not state.startswith("running"):
        print(f"{folder.path} is not running: {state}")
        return 1
    folder.stop_request.touch()
    print(f"{folder.path} stops after the step at hand, with a checkpoint")
    command = command_of(folder.config.read_text())
    print(f"continue it with: blockstep {command} resume={folder.path}")
    return 0


def state_of(folder: RunFolder, records: Sequence[dict[str, Any]]) -> str:
    """Say in words whether a run is running, finished, failed or gone."""
    begun = max(
        (record["time"] for record in records if record["event"] in ("start", "resume")), default=0
    )
    ended, failed = _last(records, "end"), _last(records, "failed")
    if ended and ended["time"] >= begun:
        return f"finished after step {ended['step']}"
    if failed and failed["time"] >= begun:
        return f"failed: {failed['text']}"
    if not folder.ranks.exists():
        return "preparing"
    if not _alive(folder):
        return "gone: its processes have ended without a result"
    age = time.time() - max((record["time"] for record in records), default=time.time())
    return f"running (last news {age:.0f} s ago)"


def _alive(folder: RunFolder) -> bool:
    """Whether a process of the run lives; those of other machines are believed to."""
    here = socket.gethostname()
    for rank in folder.read_json(folder.ranks):
        if rank["host"] != here:
            return True
        try:
            os.kill(rank["pid"], 0)
        except ProcessLookupError:
            continue
        except PermissionError:
            return True
        return True
    return False


def _lines(folder: RunFolder, records: Sequence[dict[str, Any]]) -> list[str]:
    from .program import find_program

    text = folder.config.read_text()
    command = command_of(text)
    return find_program(command).progress(config_from_yaml(text, command), records)


def _last(records: Sequence[dict[str, Any]], event: str) -> dict[str, Any]:
    return next((record for record in reversed(records) if record["event"] == event), {})
