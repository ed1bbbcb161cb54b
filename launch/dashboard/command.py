"""``blockstep dashboard``: show the layout, write it, save it in wandb."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..compose import compose
from ..refusal import ConfigError
from .config import DashboardConfig
from .layout import COLUMNS, LAYOUT
from .panel import Section
from .workspace import WorkspaceError, save

__all__ = ["dashboard_command", "layout_json", "layout_lines"]

FORMAT = 1
COMMAND = "blockstep dashboard"


def dashboard_command(words: Sequence[str]) -> int:
    """Run ``blockstep dashboard``.

    Returns:
        The exit status: 1 if wandb did not take the workspace.
    """
    config: DashboardConfig = compose("dashboard", words)
    wanted = config.dry_run or config.output is not None
    if config.wandb.mode == "offline" and not wanted:
        raise ConfigError(
            "wandb.mode=offline (from WANDB_MODE unless it was typed): a workspace is saved on "
            f"wandb's server, so there is nothing to save to; run `{COMMAND} wandb.mode=online` "
            "once runs were uploaded with `wandb sync`. dry_run=true shows the layout, "
            "output=FILE writes it"
        )
    if config.dry_run:
        print("\n".join(layout_lines(LAYOUT, config)))
    if config.output is not None:
        _write(Path(config.output), config)
        print(f"the layout is in {config.output}")
    if config.dry_run or config.wandb.mode == "offline":
        print(f"nothing was saved in wandb; `{COMMAND} {_online(config)}` saves it")
        return 0
    try:
        address = save(LAYOUT, config)
    except WorkspaceError as error:
        print(f"blockstep: {error}", file=sys.stderr)
        return 1
    view = address.rpartition("=")[2]
    print(f"the workspace is at {address}\n`{COMMAND} {_online(config)} view={view}` updates it")
    return 0


def layout_lines(sections: Sequence[Section], config: DashboardConfig) -> list[str]:
    """Return the sections and their panels, for the terminal."""
    where = "/".join(filter(None, (config.wandb.entity, config.wandb.project)))
    lines = [f"workspace {config.name} of {where}"]
    for section in sections:
        folded = "" if section.is_open else ", folded"
        lines += ["", f"{section.name} ({section.columns} in a row{folded})"]
        lines += [f"  {panel.kind:<5}  {panel.title}: {panel.words()}" for panel in section.panels]
    return lines


def layout_json(sections: Sequence[Section], config: DashboardConfig) -> dict[str, Any]:
    """Return the layout for ``output=FILE``."""
    return {
        "format": FORMAT,
        "name": config.name,
        "project": config.wandb.project,
        "entity": config.wandb.entity,
        "x_axis": "step",
        "columns": list(COLUMNS),
        "sections": [section.to_json() for section in sections],
    }


def _write(path: Path, config: DashboardConfig) -> None:
    try:
        path.write_text(json.dumps(layout_json(LAYOUT, config), indent=1) + "\n")
    except OSError as error:
        raise ConfigError(
            f"output={path}: cannot be written: {error.strerror or error}; name another file"
        ) from error


def _online(config: DashboardConfig) -> str:
    """Return the keys of the command that saves what was shown."""
    words = ["wandb.mode=online", f"wandb.project={config.wandb.project}"]
    if config.wandb.entity is not None:
        words.append(f"wandb.entity={config.wandb.entity}")
    return " ".join(words)
