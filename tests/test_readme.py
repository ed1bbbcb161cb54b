"""The README's promises, taken by their word."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from blockstep.launch.cli import HANDLERS
from blockstep.launch.commands import find_command
from blockstep.launch.compose import compose
from blockstep.launch.help import command_help

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Return the README's code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_first_network_is_at_most_15_lines_and_runs(tmp_path: Path) -> None:
    """The example of an own network is short, trains, and loads the trained weights."""
    code = blocks("python")[0]
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 15
    script = tmp_path / "own.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stdout + done.stderr
    accuracy = float(done.stdout.strip().splitlines()[-1].split()[0])
    assert accuracy > 0.9


def test_hyperparameters_are_learned_in_at_most_15_lines() -> None:
    """The example of a partitioned network runs, given data, with fewer steps than it shows."""
    code = blocks("python")[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    generator = torch.Generator().manual_seed(0)
    names = {"x": torch.rand(40, 1, 28, 28, generator=generator), "y": torch.arange(40) % 10}
    assert "range(1000)" in code
    exec(code.replace("range(1000)", "range(2)"), names)
    assert len(names["training"].course) == 1  # pyright: ignore[reportAttributeAccessIssue]


def test_commands_of_the_table_exist() -> None:
    """Every command in the README is one, and every command is in the README."""
    named = set(re.findall(r"`blockstep (\w+)", README))
    assert named == set(HANDLERS)


@pytest.mark.parametrize(
    "line",
    [
        line.replace("\\", "")
        for block in blocks("bash")
        for line in block.replace("\\\n", " ").splitlines()
        if "-m blockstep train" in line or line.startswith("blockstep train data")
    ],
)
def test_train_lines_compose(line: str) -> None:
    """The keys of every training line in the README are valid ones."""
    words = line.split("blockstep train", 1)[1].split("#")[0].split()
    words = [word for word in words if "=" in word]
    compose("train", [word.replace('"', "").replace("$", "x") for word in words])


def test_every_command_has_a_help_text() -> None:
    """blockstep COMMAND --help prints something for each, with every key of train."""
    for command in HANDLERS:
        assert command in command_help(command)
    text = command_help("train")
    for key in find_command("train").config.__dataclass_fields__:
        assert key in text, key
