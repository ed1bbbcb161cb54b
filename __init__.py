"""blockstep: asynchronous block-wise training for PyTorch.

The public names are imported when they are first used, so ``import blockstep`` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .launch.refusal import ConfigError
    from .launch.train import Result, RunFailedError, train
    from .models import Network, make_head, make_network, superweights
    from .search import Decoupling

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "Decoupling",
    "Network",
    "Result",
    "RunFailedError",
    "__version__",
    "make_head",
    "make_network",
    "superweights",
    "train",
]

_HOMES = {
    "ConfigError": "launch.refusal",
    "Decoupling": "search",
    "Network": "models",
    "Result": "launch.train",
    "RunFailedError": "launch.train",
    "make_head": "models",
    "make_network": "models",
    "superweights": "models",
    "train": "launch.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'blockstep' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
