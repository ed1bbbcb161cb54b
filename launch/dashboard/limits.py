"""Which values only a dashboard has, and what follows from the environment."""

from __future__ import annotations

import os
import re

from ..limits import Limits, check_values
from ..refusal import Refusals
from .config import DashboardConfig

__all__ = ["LIMITS", "check_dashboard", "infer_dashboard"]

TEXTS = ("name", "output", "wandb.project", "wandb.entity")

NO_SERVER = ("offline", "disabled", "dryrun")
"""What wandb's own variable may be where nothing is sent."""

_VIEW = re.compile(r"[A-Za-z0-9]+")


def infer_dashboard(config: DashboardConfig, given: set[str]) -> None:
    """Let the environment say whether wandb is offline; a key that was typed beats it."""
    if "wandb.mode" not in given and os.environ.get("WANDB_MODE") in NO_SERVER:
        config.wandb.mode = "offline"


def check_dashboard(config: DashboardConfig, refusals: Refusals) -> None:
    """Note every impossible value of a configuration whose types are right."""
    check_values(config, LIMITS, TEXTS, refusals)
    for relation in LIMITS.relations:
        relation(config, refusals)


def _view(config: DashboardConfig, refusals: Refusals) -> None:
    if config.view is not None and not _VIEW.fullmatch(config.view):
        reason = "must be what follows ?nw= in the address of a saved workspace: letters and digits"
        refusals.add("view", config.view, reason)


LIMITS = Limits(choices={"wandb.mode": ("online", "offline")}, ranges={}, relations=(_view,))
