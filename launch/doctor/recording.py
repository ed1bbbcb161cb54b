"""Recording in wandb: whether it is installed, how it is used, and who is logged in."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version

from ..dashboard.workspace import EXTRA
from ..login import LoginError, logged_in
from .finding import Finding, fail, ok, warn

__all__ = ["check_dashboard_extra", "check_wandb"]


def check_wandb(mode: str) -> list[Finding]:
    """Look at wandb as a training with ``wandb.mode`` uses it.

    Only ``online`` asks wandb's server.
    """
    if mode == "disabled":
        return [ok("wandb", "wandb.mode=disabled: nothing is recorded there")]
    try:
        wandb = importlib.import_module("wandb")
    except ImportError as error:
        # A training says so and goes on.
        advice = "pip install wandb, or wandb.mode=disabled"
        return [warn("wandb", f"cannot be imported ({error})", advice)]
    name, online = f"wandb {wandb.__version__}", mode == "online"
    try:
        known = logged_in(wandb, verify=online)
    except LoginError as error:
        told = fail if online else warn
        advice = "`wandb login` renews the login; wandb.mode=offline needs neither it nor a server"
        return [told("wandb", f"{name}: {error}", advice)]
    if online:
        return [_online(name, known=known)]
    text = f"{name}, offline: runs are recorded in their folders"
    if known:
        return [ok("wandb", f"{text}; logged in for `wandb sync`")]
    return [ok("wandb", f"{text}; nobody is logged in", "`wandb login` before `wandb sync`")]


def check_dashboard_extra() -> list[Finding]:
    """Look for what ``blockstep dashboard`` saves with."""
    try:
        return [ok("dashboard", f"{EXTRA} {version(EXTRA)}")]
    except PackageNotFoundError:
        advice = f"`blockstep dashboard` saves with it: pip install {EXTRA}"
        return [ok("dashboard", f"{EXTRA} is not installed", advice)]


def _online(name: str, *, known: bool) -> Finding:
    if known:
        return ok("wandb", f"{name}, online: logged in, and the server answers")
    advice = "run `wandb login`, set WANDB_API_KEY, or record offline with wandb.mode=offline"
    return fail("wandb", f"{name}, online, but nobody is logged in", advice)
