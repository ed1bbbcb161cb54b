"""The layout in wandb's own objects, and its way to a server that is a stand-in."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from blockstep.launch.compose import compose
from blockstep.launch.dashboard import workspace
from blockstep.launch.dashboard.command import dashboard_command
from blockstep.launch.dashboard.config import DashboardConfig
from blockstep.launch.dashboard.layout import COLUMNS, LAYOUT
from blockstep.launch.dashboard.panel import Family, Panel
from blockstep.launch.dashboard.workspace import build, check_login
from blockstep.launch.refusal import ConfigError

pytest.importorskip("wandb_workspaces")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb_workspaces.*")

KINDS = {
    "lines": "Run History Line Plot",
    "bars": "Bar Chart",
    "media": "Media Browser",
    "table": "Weave",
}


class Server:
    """Answers what the library asks wandb's server.

    Attributes:
        saved: The variables of every view that was saved.
        views: The specification of views by their name.
    """

    def __init__(self) -> None:
        self.saved: list[dict[str, Any]] = []
        self.views: dict[str, str] = {}
        self.error: Exception | None = None

    def answer(self, api: Any, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Save or read a view."""
        if self.error is not None:
            raise self.error
        if "upsertView" in query:
            self.saved.append(variables)
            self.views[variables["name"]] = variables["spec"]
            return {"upsertView": {"view": {"id": "7", "name": variables["name"]}}}
        spec = self.views[variables["viewName"]]
        node = {"id": "7", "displayName": "before", "spec": spec}
        return {"project": {"allViews": {"edges": [{"node": node}]}}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """Somebody is logged in, and wandb's server is at hand."""
    import wandb
    from wandb_workspaces.workspaces import interface, internal

    server = Server()
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr(wandb, "login", lambda **options: True)
    monkeypatch.setattr(wandb, "Api", lambda: SimpleNamespace(default_entity="somebody"))
    monkeypatch.setattr(internal, "execute_graphql", server.answer)
    monkeypatch.setattr(interface, "get_app_url", lambda api: "https://wandb.test")
    return server


def shown(panel: dict[str, Any]) -> Any:
    """Return what a panel of a specification shows: keys, or a pattern."""
    config = panel["config"]
    if config.get("useMetricRegex"):
        return config["metricRegex"]
    if panel["viewType"] == "Weave":
        return [config["panel2Config"]["exp"]["fromOp"]["inputs"]["key"]["val"]]
    return config["metrics"] if "metrics" in config else config["mediaKeys"]


def test_every_panel_becomes_one_of_wandbs():
    """Of its kind, with its title and its keys, in its section; lines over the training step."""
    made = build(LAYOUT, DashboardConfig(name="ours"), entity="me")
    spec = made._model.spec.model_dump(by_alias=True, exclude_none=True)["section"]
    sections = spec["panelBankConfig"]["sections"]
    assert [one["name"] for one in sections] == [section.name for section in LAYOUT]
    for section, one in zip(LAYOUT, sections, strict=True):
        assert one["isOpen"] == section.is_open
        flow = one["flowConfig"]
        assert flow["columnsPerPage"] * flow["rowsPerPage"] >= len(section.panels)
        for panel, written in zip(section.panels, one["panels"], strict=True):
            assert written["viewType"] == KINDS[panel.kind]
            wanted = panel.pattern if isinstance(panel, Family) else list(panel.keys)
            assert shown(written) == wanted
            if panel.kind != "table":
                assert written["config"]["chartTitle"] == panel.title
            if panel.kind == "lines":
                assert written["config"]["xAxis"] == "step"
    assert not spec["settings"]["shouldAutoGeneratePanels"]
    pinned = spec["runSets"][0]["runFeed"]["columnPinned"]
    assert list(pinned) == ["run:displayName", *(f"summary:{name}" for name in COLUMNS)]


def test_it_is_saved_with_one_command(server: Server, capsys: pytest.CaptureFixture[str]):
    """As a view of the project, of wandb's default user; its address is printed."""
    assert dashboard_command(["wandb.mode=online", "wandb.project=mine", "name=ours"]) == 0
    (saved,) = server.saved
    place = {key: saved[key] for key in ("entityName", "projectName", "displayName", "type")}
    assert place == {
        "entityName": "somebody",
        "projectName": "mine",
        "displayName": "ours",
        "type": "project-view",
    }
    assert "id" not in saved
    assert "Stages side by side" in saved["spec"]
    printed = capsys.readouterr().out
    view = saved["name"].removeprefix("nw-").removesuffix("-v")
    assert f"the workspace is at https://wandb.test/somebody/mine?nw={view}\n" in printed
    assert f"wandb.project=mine view={view}` updates it" in printed


def test_a_view_is_laid_out_anew(server: Server, capsys: pytest.CaptureFixture[str]):
    """What was printed names it; there is no second one, whatever was in it meanwhile."""
    assert dashboard_command(["wandb.mode=online", "wandb.entity=me"]) == 0
    (view,) = re.findall(r"view=(\w+)", capsys.readouterr().out)
    (first,) = server.saved
    spec = json.loads(first["spec"])
    spec["section"]["panelBankConfig"]["sections"] = []
    server.views[first["name"]] = json.dumps(spec)
    words = ["wandb.mode=online", "wandb.entity=me", f"view={view}", "name=again"]
    assert dashboard_command(words) == 0
    second = server.saved[1]
    assert (second["name"], second["id"]) == (first["name"], "7")
    assert second["displayName"] == "again"
    sections = json.loads(second["spec"])["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == [section.name for section in LAYOUT]


def test_a_server_that_fails_is_told(server: Server, capsys: pytest.CaptureFixture[str]):
    """In one line with what to do, and status 1."""
    server.error = ConnectionError("no route to host")
    assert dashboard_command(["wandb.mode=online"]) == 1
    told = capsys.readouterr().err
    assert "the workspace of blockstep was not saved: no route to host" in told
    assert "output=FILE" in told


def test_nobody_is_logged_in(server: Server, monkeypatch: pytest.MonkeyPatch):
    """It says how to log in, and what works without."""
    import wandb

    monkeypatch.setattr(wandb, "login", lambda **options: False)
    with pytest.raises(ConfigError, match=r"nobody is logged in.*`wandb login`.*dry_run=true"):
        dashboard_command(["wandb.mode=online"])
    assert server.saved == []


def test_a_login_of_the_wrong_form():
    """wandb's own words are kept."""
    from wandb import errors

    def login(**options: Any) -> bool:
        raise errors.AuthenticationError("API key must have 40+ characters")

    with pytest.raises(ConfigError, match=r"40\+ characters"):
        check_login(SimpleNamespace(login=login, errors=errors))


def test_without_a_default_the_entity_is_asked_for(server: Server, monkeypatch: pytest.MonkeyPatch):
    """A user without a team of their own has to name one."""
    import wandb

    monkeypatch.setattr(wandb, "Api", lambda: SimpleNamespace(default_entity=None))
    with pytest.raises(ConfigError, match=r"give wandb.entity=NAME"):
        dashboard_command(["wandb.mode=online"])


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch):
    """It says how to install it, and what works without."""

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(workspace.importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"pip install wandb-workspaces.*dry_run=true"):
        build(LAYOUT, compose("dashboard", []), entity="me")


def test_a_panel_of_an_unknown_kind():
    """Is named instead of left out."""
    with pytest.raises(TypeError, match="Panel has no counterpart"):
        workspace._panel(Panel("a", ("b",)), None)
