"""From the layout to a workspace in wandb, by wandb's own library for that.

    Section, Panel  -->  wandb_workspaces' objects  -->  save()  -->  the address of a saved view

The library is an optional extra. It draws on wandb's credentials and asks wandb's server.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from ..login import LoginError, logged_in, online
from ..refusal import ConfigError, one_line
from .config import DashboardConfig
from .layout import COLUMNS
from .panel import Bars, Family, Lines, Media, Panel, Section, Table

__all__ = ["EXTRA", "WorkspaceError", "build", "save"]

EXTRA = "wandb-workspaces"
INSTALL = f"pip install {EXTRA}, or install blockstep with its extra: pip install -e '.[dashboard]'"
WIDTH, HEIGHT = 24, 9
"""Of a panel that has a row of its own, in units of wandb's grid."""


class WorkspaceError(RuntimeError):
    """The workspace was not saved; the text says why and what to do."""


def build(sections: Sequence[Section], config: DashboardConfig, *, entity: str) -> Any:
    """Return the layout as a workspace of ``wandb_workspaces``; nothing is sent.

    Args:
        sections: From the top.
        config: The name of the workspace and its project.
        entity: User or team of the project.

    Raises:
        ConfigError: The extra is not installed.
    """
    workspaces, panels = _library()
    return workspaces.Workspace(
        entity=entity,
        project=config.wandb.project,
        name=config.name,
        sections=[_section(section, workspaces, panels) for section in sections],
        settings=workspaces.WorkspaceSettings(x_axis="step"),
        runset_settings=workspaces.RunsetSettings(
            pinned_columns=[f"summary:{name}" for name in COLUMNS]
        ),
    )


def save(sections: Sequence[Section], config: DashboardConfig) -> str:
    """Save the layout in wandb.

    Args:
        sections: From the top.
        config: Where to; with ``view``, that workspace is laid out anew.

    Returns:
        The address of the workspace.

    Raises:
        ConfigError: The extra is not installed, or nobody is logged in.
        WorkspaceError: wandb's server cannot be reached, or refuses.
    """
    workspaces, _ = _library()
    import wandb

    check_login(wandb)
    try:
        # wandb prefers its environment variables; here the key beats them.
        with online():
            return _save(sections, config, workspaces, wandb)
    except ConfigError:
        raise
    except Exception as error:
        # The library lets the errors of wandb, of its transport and of the server through.
        reason = one_line(str(error), 300).rstrip(".")
        raise WorkspaceError(
            f"the workspace of {config.wandb.project} was not saved: {reason}. "
            "Check the network and wandb.entity; output=FILE keeps the layout meanwhile"
        ) from error


def _save(sections: Sequence[Section], config: DashboardConfig, workspaces: Any, wandb: Any) -> str:
    entity = _known(config.wandb.entity or wandb.Api().default_entity)
    workspace = build(sections, config, entity=entity)
    if config.view is not None:
        # Of the address only the path and the view matter.
        address = f"https://wandb.ai/{entity}/{config.wandb.project}?nw={config.view}"
        made, workspace = workspace, workspaces.Workspace.from_url(address)
        for name in ("name", "sections", "settings", "runset_settings"):
            setattr(workspace, name, getattr(made, name))
    workspace.save()
    return str(workspace.url)


def check_login(wandb: Any) -> None:
    """Refuse to go on where wandb has no credentials; nobody is asked for any.

    Raises:
        ConfigError: There are none, or they are not of the right form.
    """
    try:
        known = logged_in(wandb)
    except LoginError as error:
        raise ConfigError(f"wandb.mode=online: {error}") from error
    if not known:
        raise ConfigError(
            "wandb.mode=online, but nobody is logged in here: run `wandb login`, or set "
            "WANDB_API_KEY; without an account, dry_run=true shows the layout, output=FILE writes "
            "it, and `blockstep report` makes the same views as a page"
        )


def _known(entity: str | None) -> str:
    if not entity:
        raise ConfigError(
            "wandb.entity=null, and wandb names no default user or team: give wandb.entity=NAME"
        )
    return entity


def _library() -> tuple[Any, Any]:
    """Return the modules of the workspaces and of their panels.

    Raises:
        ConfigError: They are not installed.
    """
    try:
        return (
            importlib.import_module("wandb_workspaces.workspaces"),
            importlib.import_module("wandb_workspaces.reports.v2"),
        )
    except ImportError as error:
        raise ConfigError(
            f"blockstep dashboard saves with {EXTRA}, which is not installed here ({error}): "
            f"{INSTALL}; without it, dry_run=true shows the layout and output=FILE writes it"
        ) from error


def _section(section: Section, workspaces: Any, panels: Any) -> Any:
    rows = -(-len(section.panels) // section.columns)
    return workspaces.Section(
        name=section.name,
        panels=[_panel(panel, panels) for panel in section.panels],
        is_open=section.is_open,
        layout_settings=workspaces.SectionLayoutSettings(columns=section.columns, rows=rows),
        panel_settings=workspaces.SectionPanelSettings(x_axis="step"),
    )


def _panel(panel: Panel, panels: Any) -> Any:
    match panel:
        case Lines(title, keys):
            return panels.LinePlot(title=title, x="step", y=list(keys))
        case Family(title, _, pattern):
            return panels.LinePlot(title=title, x="step", metric_regex=pattern)
        case Bars(title, keys):
            return panels.BarPlot(title=title, metrics=list(keys))
        case Media(title, keys):
            return panels.MediaBrowser(title=title, media_keys=list(keys))
        case Table(_, (key,)):
            layout = panels.Layout(w=WIDTH, h=HEIGHT)
            return panels.WeavePanelSummaryTable(table_name=key, layout=layout)
    raise TypeError(f"{type(panel).__name__} has no counterpart in wandb")
