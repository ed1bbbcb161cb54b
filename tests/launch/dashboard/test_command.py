"""`blockstep dashboard`: what it prints, writes and refuses where nothing can be saved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from blockstep.launch.compose import compose
from blockstep.launch.dashboard.command import dashboard_command, layout_json
from blockstep.launch.dashboard.layout import LAYOUT
from blockstep.launch.refusal import ConfigError

from tests.launch.runs import blockstep


def test_a_dry_run_shows_every_panel(capsys: pytest.CaptureFixture[str]):
    """By its title and its keys; nothing is saved."""
    assert dashboard_command(["dry_run=true", "wandb.project=mine", "wandb.entity=me"]) == 0
    printed = capsys.readouterr().out
    assert "workspace blockstep of me/mine" in printed
    for section in LAYOUT:
        assert section.name in printed
        assert all(f"{panel.title}: {panel.words()}" in printed for panel in section.panels)
    assert "wandb.mode=online wandb.project=mine wandb.entity=me` saves it" in printed


def test_the_layout_is_written_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All sections as JSON, with wandb offline by its own variable; said so, and no failure."""
    path = tmp_path / "layout.json"
    environment = {**os.environ, "WANDB_MODE": "offline"}
    monkeypatch.setattr(os, "environ", environment)
    done = blockstep("dashboard", f"output={path}", "name=ours", cwd=tmp_path)
    assert done.code == 0, done.output
    assert f"the layout is in {path}" in done.output
    assert "wandb.mode=online" in done.output
    written = json.loads(path.read_text())
    config = compose("dashboard", [f"output={path}", "name=ours"])
    assert written == json.loads(json.dumps(layout_json(LAYOUT, config)))
    assert [section["name"] for section in written["sections"]][:2] == ["Speed", "Accuracy"]


@pytest.mark.parametrize("mode", ["offline", "disabled", "dryrun"])
def test_offline_says_what_to_do(monkeypatch: pytest.MonkeyPatch, mode: str):
    """Where nothing else was asked for, it is refused."""
    monkeypatch.setenv("WANDB_MODE", mode)
    with pytest.raises(ConfigError, match=r"wandb.mode=offline.*wandb sync.*output=FILE"):
        dashboard_command([])
    assert compose("dashboard", ["wandb.mode=online"]).wandb.mode == "online"


def test_a_file_that_cannot_be_written(tmp_path: Path):
    """Is named, with the reason."""
    path = tmp_path / "missing" / "layout.json"
    with pytest.raises(ConfigError, match=r"output=.*layout.json: cannot be written: No such file"):
        dashboard_command(["wandb.mode=offline", f"output={path}"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["wandb.mode=disabled"], "wandb.mode=disabled: choose one of online, offline"),
        (["wandb.project=''"], "wandb.project=: must not be empty"),
        (["project=x"], "project=x: there is no such key; did you mean wandb.project"),
        (["wandb.tags=[a]"], "there is no such key"),
        (["view=me/mine"], r"view=me/mine: must be what follows \?nw="),
        (["view=''"], "must be what follows"),
    ],
)
def test_refusals(words: list[str], message: str):
    """Each has the key, the value and what would be valid."""
    with pytest.raises(ConfigError, match=message):
        compose("dashboard", words)


def test_neither_torch_nor_the_extra_is_needed_to_show_it():
    """Help, the layout and the refusals are there at once."""
    code = (
        "import sys; sys.modules['wandb_workspaces'] = None\n"
        "from blockstep.launch.dashboard.command import dashboard_command\n"
        "assert dashboard_command(['dry_run=true']) == 0\n"
        "assert 'torch' not in sys.modules and 'wandb' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
