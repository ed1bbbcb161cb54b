"""What is learned about a network: where to cut it and which heads to use.

The names are imported when they are first used: the settings of a search are read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .ablation import random_cuts, random_heads
    from .balance import balanced_cuts, best_cuts, predicted
    from .decoupling import Decoupling, DecouplingError
    from .measurement import profile_network
    from .profile import Profile, ProfileError
    from .replication import best_replicas
    from .split import random_split, uniform
    from .tables import PUBLISHED, published

__all__ = [
    "PUBLISHED",
    "Decoupling",
    "DecouplingError",
    "Profile",
    "ProfileError",
    "balanced_cuts",
    "best_cuts",
    "best_replicas",
    "predicted",
    "profile_network",
    "published",
    "random_cuts",
    "random_heads",
    "random_split",
    "uniform",
]

_HOMES = {
    "PUBLISHED": "tables",
    "Decoupling": "decoupling",
    "DecouplingError": "decoupling",
    "Profile": "profile",
    "ProfileError": "profile",
    "balanced_cuts": "balance",
    "best_cuts": "balance",
    "best_replicas": "replication",
    "predicted": "balance",
    "profile_network": "measurement",
    "published": "tables",
    "random_cuts": "ablation",
    "random_heads": "ablation",
    "random_split": "split",
    "uniform": "split",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
