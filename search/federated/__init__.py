"""Partitioned networks whose examples lie with clients: federated training, simulated.

Mlodozeniec, Reisser and Louizos, "Hyperparameter Optimization through Neural Network
Partitioning", ICLR 2023, appendix J.

The names are imported when they are first used: the settings are read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .local import LocalTraining
    from .population import Attendance, Client, Population, assign_chunks
    from .server import Server
    from .settings import FederationSettings
    from .skew import angle_bins, deal, deal_alike
    from .traffic import Traffic, nominal_share, plain_bytes
    from .training import FederatedTraining, Round, share_work
    from .update import Means, Update

__all__ = [
    "Attendance",
    "Client",
    "FederatedTraining",
    "FederationSettings",
    "LocalTraining",
    "Means",
    "Population",
    "Round",
    "Server",
    "Traffic",
    "Update",
    "angle_bins",
    "assign_chunks",
    "deal",
    "deal_alike",
    "nominal_share",
    "plain_bytes",
    "share_work",
]

_HOMES = {
    "Attendance": "population",
    "Client": "population",
    "FederatedTraining": "training",
    "FederationSettings": "settings",
    "LocalTraining": "local",
    "Means": "update",
    "Population": "population",
    "Round": "training",
    "Server": "server",
    "Traffic": "traffic",
    "Update": "update",
    "angle_bins": "skew",
    "assign_chunks": "population",
    "deal": "skew",
    "deal_alike": "skew",
    "nominal_share": "traffic",
    "plain_bytes": "traffic",
    "share_work": "training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
