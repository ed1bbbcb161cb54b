"""SuperWeight networks: layers whose weights are combinations of shared templates."""

from .accounting import accounts
from .allocation import (
    ALLOCATORS,
    Allocation,
    BudgetError,
    allocate,
    best,
    demands,
    greedy,
    minimum,
)
from .assembly import superweights
from .budget import parse_budget
from .ensemble import SuperWeightEnsemble, SuperWeightNetwork
from .initialization import INITIALIZATIONS, initialize_superweights
from .layout import NESTINGS, Layout
from .optimization import carry_over, parameter_groups
from .sharing import Sharing, by_layer, depth_bins
from .similar import identical_uses
from .store import SuperWeights
from .use import Key, Use, uses_of

__all__ = [
    "ALLOCATORS",
    "INITIALIZATIONS",
    "NESTINGS",
    "Allocation",
    "BudgetError",
    "Key",
    "Layout",
    "Sharing",
    "SuperWeightEnsemble",
    "SuperWeightNetwork",
    "SuperWeights",
    "Use",
    "accounts",
    "allocate",
    "best",
    "by_layer",
    "carry_over",
    "demands",
    "depth_bins",
    "greedy",
    "identical_uses",
    "initialize_superweights",
    "minimum",
    "parameter_groups",
    "parse_budget",
    "superweights",
    "uses_of",
]
