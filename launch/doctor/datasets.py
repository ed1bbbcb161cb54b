"""Which data sets are here, and which files the others need."""

from __future__ import annotations

import importlib.util
from typing import Any

from ..config import DataConfig
from ..data.place import Source, find, target_of
from ..data.registry import DATA_SETS, DRAWN, SOURCES
from .config import PlacesConfig
from .finding import Finding, fail, ok, warn

__all__ = ["check_data"]

MB = 10**6


def check_data(places: PlacesConfig) -> list[Finding]:
    """Look for data sets in the places where a training finds them; nothing is downloaded.

    Args:
        places: Those that must be there (else all are looked for), and where to look besides.
    """
    names = list(DATA_SETS) if places.names is None else places.names
    config = DataConfig(root=places.root, download=False)
    needed = places.names is not None
    return [_check(name, config, needed=needed) for name in names]


def _check(name: str, config: DataConfig, *, needed: bool) -> Finding:
    subject = f"data {name}"
    if name in DRAWN:
        return ok(subject, "drawn from the run's seed; no files")
    if name not in SOURCES:
        return _digits(subject)
    source = SOURCES[name]
    found = find(source, config)
    if found is not None:
        return ok(subject, f"in {found[0]}", folder=str(found[0]))
    missing = fail if needed else warn
    return missing(subject, "not found", _advice(source, config))


def _digits(subject: str) -> Finding:
    if importlib.util.find_spec("sklearn") is None:
        return fail(subject, "scikit-learn is not installed", "pip install scikit-learn")
    return ok(subject, "inside scikit-learn")


def _advice(source: Source[Any], config: DataConfig) -> str:
    target = target_of(source, config)
    put = f"put {source.help} into {target}, or name another folder by data.root=DIR"
    if not source.files:
        return put
    size = sum(file.size for file in source.files) / MB
    return f"a training downloads it ({size:,.0f} MB); without a network, {put}"
