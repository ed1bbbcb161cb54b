"""Tests of `blockstep.launch.program` and of what the launchers know of a command."""

from __future__ import annotations

import ast
from pathlib import Path

import blockstep.launch
import pytest
from blockstep.launch.cli import HANDLERS
from blockstep.launch.commands import COMMANDS
from blockstep.launch.config import RunConfig
from blockstep.launch.job import Job
from blockstep.launch.monitor import Monitor
from blockstep.launch.program import PROGRAMS, find_program
from blockstep.launch.rank import Rank

LAUNCH = Path(blockstep.launch.__path__[0])


def test_every_command_that_starts_a_run_has_a_program():
    """And every command with a configuration can be called."""
    runs = {name for name, command in COMMANDS.items() if issubclass(command.config, RunConfig)}
    assert set(PROGRAMS) == runs
    assert set(COMMANDS) <= set(HANDLERS)


@pytest.mark.parametrize("command", PROGRAMS)
def test_a_program_has_all_parts(command: str):
    """Of its own kind, none of them abstract."""
    program = find_program(command)
    assert find_program(command) is program
    assert issubclass(program.job, Job)
    assert issubclass(program.monitor, Monitor)
    assert isinstance(program.rank, type)
    assert issubclass(program.rank, Rank)
    for part in (program.job, program.monitor, program.rank):
        assert not getattr(part, "__abstractmethods__", None), part


GENERAL = [
    "job", "launcher", "membership", "monitor", "process", "program", "rank", "run", "torchrun",
    "preparation", "outcome", "view", "tracking", "nursery", "template",
]  # fmt: skip


@pytest.mark.parametrize("name", GENERAL)
def test_the_launchers_know_no_command(name: str):
    """What is general imports nothing of a training or of a search."""
    tree = ast.parse((LAUNCH / f"{name}.py").read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {module.partition(".")[0] for module in imported} & set(PROGRAMS.values())
