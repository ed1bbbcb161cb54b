"""Lines about wandb, with a stand-in for it."""

from __future__ import annotations

import os
import re
import sys
import types
from typing import Any

import pytest
from blockstep.launch.doctor import recording
from blockstep.launch.doctor.finding import Level
from blockstep.launch.doctor.recording import check_dashboard_extra, check_wandb


class Refused(Exception):  # noqa: N818
    """An error of wandb."""


class Wandb(types.ModuleType):
    """wandb, as far as logins go.

    Args:
        known: Whether there are credentials.
        error: What is raised instead.
    """

    __version__ = "1.2.3"
    errors = types.SimpleNamespace(Error=Refused)

    def __init__(self, *, known: bool = False, error: str = "") -> None:
        super().__init__("wandb")
        self.known = known
        self.error = error
        self.asked: list[dict[str, Any]] = []

    def login(self, **options: Any) -> bool:
        """Note what was asked, and the mode that wandb saw."""
        self.asked.append({**options, "mode": os.environ["WANDB_MODE"]})
        if self.error:
            raise Refused(self.error)
        return self.known


@pytest.mark.parametrize(
    ("mode", "known", "level", "text"),
    [
        ("offline", False, Level.OK, "offline: .*nobody is logged in: `wandb login` before"),
        ("offline", True, Level.OK, "offline: .*logged in for `wandb sync`"),
        ("online", True, Level.OK, "online: logged in"),
        ("online", False, Level.FAIL, "online, but nobody is logged in: run `wandb login`"),
    ],
)
def test_logins(monkeypatch: pytest.MonkeyPatch, mode: str, known: bool, level: Level, text: str):
    """A login is needed online only; nobody is asked for one, and only online asks the server."""
    wandb = Wandb(known=known)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    (finding,) = check_wandb(mode)
    assert finding.level is level
    assert re.search(f"wandb 1.2.3, {text}", finding.line())
    assert wandb.asked == [{"prompt": False, "verify": mode == "online", "mode": "online"}]
    assert os.environ["WANDB_MODE"] == "disabled"


@pytest.mark.parametrize(("mode", "level"), [("online", Level.FAIL), ("offline", Level.WARN)])
def test_a_login_that_is_refused(monkeypatch: pytest.MonkeyPatch, mode: str, level: Level):
    """wandb's words are kept."""
    monkeypatch.setitem(sys.modules, "wandb", Wandb(error="the key\nhas expired"))
    (finding,) = check_wandb(mode)
    assert finding.level is level
    assert finding.text == "wandb 1.2.3: the key has expired"


def test_without_wandb(monkeypatch: pytest.MonkeyPatch):
    """Trainings go on without it; where it is disabled, it is not even looked for."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert check_wandb("disabled")[0].level is Level.OK
    (finding,) = check_wandb("offline")
    assert (finding.level, "pip install wandb" in finding.advice) == (Level.WARN, True)


def test_the_extra(monkeypatch: pytest.MonkeyPatch):
    """Its version, or how to get it; nothing else needs it."""

    def missing(name: str) -> str:
        raise recording.PackageNotFoundError(name)

    monkeypatch.setattr(recording, "version", lambda name: "9.9")
    assert check_dashboard_extra()[0].text == "wandb-workspaces 9.9"
    monkeypatch.setattr(recording, "version", missing)
    (finding,) = check_dashboard_extra()
    assert (finding.level, "pip install wandb-workspaces" in finding.advice) == (Level.OK, True)
