"""``blockstep doctor``: look at this machine, and print a line for each thing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..compose import compose
from ..help import version
from .config import DoctorConfig
from .finding import Finding, Level, ok, to_json
from .links import Ranks
from .nvml import Driver, read_driver

__all__ = ["doctor_command", "examine"]

RANKS = (2, 4)
"""Fewest and most processes where their number was not typed."""


def doctor_command(words: Sequence[str]) -> int:
    """Run ``blockstep doctor``.

    Returns:
        The exit status: 0 if nothing failed, else 1.
    """
    config: DoctorConfig = compose("doctor", words)
    findings = []
    for finding in examine(config):
        findings.append(finding)
        if not config.json:
            print(finding.line(), flush=True)
    if config.json:
        print(json.dumps(to_json(findings), indent=1))
    return int(any(finding.level is Level.FAIL for finding in findings))


def examine(config: DoctorConfig) -> Iterator[Finding]:
    """Yield each finding as soon as it is known.

    The ranks load torch while everything else is looked at.
    """
    driver = read_driver()
    with Ranks(_count(config, driver), wanted=config.device) as ranks:
        # Imported here: these load torch, which takes as long as all the rest.
        from .datasets import check_data
        from .devices import check_devices
        from .disk import check_disk
        from .recording import check_dashboard_extra, check_wandb

        yield ok("versions", version())
        yield from check_devices(config.device, driver)
        yield from check_disk(Path(config.runs))
        yield from check_data(config.data)
        yield from check_wandb(config.wandb.mode)
        yield from check_dashboard_extra()
        yield from ranks.findings()


def _count(config: DoctorConfig, driver: Driver) -> int:
    """Return how many ranks there are: one per GPU, within limits."""
    if config.ranks is not None:
        return config.ranks
    fewest, most = RANKS
    return min(most, max(fewest, driver.count))
