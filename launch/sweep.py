"""``-m``: one job for every combination of the values that were typed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import islice

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from .compose import hydra_session
from .overrides import parse
from .refusal import ConfigError, Refusals

__all__ = ["LARGEST", "expand"]

LARGEST = 1000
"""The most jobs of one sweep: more are a slip such as ``range(0,1e9)``."""


def expand(overrides: Sequence[str], *, environ: Mapping[str, str] = os.environ) -> list[list[str]]:
    """Return the overrides of each job, in Hydra's order: the last key changes fastest.

    Args:
        overrides: The words after the command, without ``-m``; values such as ``0,1,2``,
            ``range(0,3)``, ``choice(a,b)`` or ``glob(resnet*)`` make several jobs.
        environ: The environment, which tells whether torchrun started this process.

    Returns:
        At least one job; `compose` each of them before the first one starts.

    Raises:
        ConfigError: Under torchrun; a word that Hydra cannot read; too many jobs; jobs that would
            share the folder of one run.
    """
    if "TORCHELASTIC_RUN_ID" in environ or "RANK" in environ:
        raise ConfigError(
            "-m: each job of a sweep starts its own processes, but torchrun has already started"
            " the processes of one job; run `blockstep COMMAND -m ...` without torchrun"
        )
    refusals = Refusals()
    with hydra_session():
        loader = GlobalHydra.instance().config_loader()
        parsed = parse(overrides, refusals)
        for override in parsed:
            override.config_loader = loader  # glob(..) asks it for the files of a group
        jobs = _product(parsed, refusals)
    if len(jobs) > 1:
        _refuse_one_name(parsed, refusals)
    refusals.raise_any()
    return jobs


def _product(parsed: list[Override], refusals: Refusals) -> list[list[str]]:
    total = 1
    for override in parsed:
        total *= _count(override, refusals)
        if total > LARGEST:
            assert override.input_line is not None
            key, _, text = override.input_line.partition("=")
            refusals.add(key, text, f"makes more than {LARGEST} jobs, the most of one sweep")
            return []
    if refusals:
        return []
    (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return jobs


def _count(override: Override, refusals: Refusals) -> int:
    """Count the values, no further than needed."""
    if not override.is_sweep_override():
        return 1
    assert override.input_line is not None
    key, _, text = override.input_line.partition("=")
    try:
        values = list(islice(override.sweep_string_iterator(), LARGEST + 1))
    except (HydraException, ValueError, ArithmeticError) as error:
        refusals.add(key, text, f"cannot be counted as a list of values ({error})")
        return 1
    if not values:
        refusals.add(key, text, "has no values")
    return len(values)


def _refuse_one_name(parsed: Sequence[Override], refusals: Refusals) -> None:
    names = [override for override in parsed if override.key_or_group == "name"]
    for override in names[-1:]:
        text = (override.input_line or "").partition("=")[2]
        if not override.is_sweep_override() and "${" not in text:
            refusals.add(
                "name",
                text,
                "the jobs of a sweep need folders of their own; leave name out, or write"
                " 'name=NAME-${seed}' with a key that differs between them",
            )
