"""One line from a user's networks to SuperWeights."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import overload

from torch import nn

from ..network import Network
from .allocation import allocate
from .budget import parse_budget
from .ensemble import SuperWeightEnsemble, SuperWeightNetwork
from .initialization import initialize_superweights
from .sharing import Sharing, depth_bins
from .store import SuperWeights
from .use import places_of

__all__ = ["superweights"]


@overload
def superweights(
    members: nn.Module | Network,
    budget: int | float | str,
    *,
    clusters: int = 4,
    sharing: Sharing | None = None,
    own_coefficients: bool = True,
    allocator: str = "best",
    cap: int | None = None,
    nesting: str = "chain",
    initialization: str = "fan_in",
    linear: bool = False,
) -> SuperWeightNetwork: ...
@overload
def superweights(
    members: Sequence[nn.Module] | Sequence[Network],
    budget: int | float | str,
    *,
    clusters: int = 4,
    sharing: Sharing | None = None,
    own_coefficients: bool = True,
    allocator: str = "best",
    cap: int | None = None,
    nesting: str = "chain",
    initialization: str = "fan_in",
    linear: bool = False,
) -> SuperWeightEnsemble: ...
def superweights(
    members: nn.Module | Network | Sequence[nn.Module] | Sequence[Network],
    budget: int | float | str,
    *,
    clusters: int = 4,
    sharing: Sharing | None = None,
    own_coefficients: bool = True,
    allocator: str = "best",
    cap: int | None = None,
    nesting: str = "chain",
    initialization: str = "fan_in",
    linear: bool = False,
) -> SuperWeightEnsemble:
    """Make the weights of networks out of shared templates::

        net = superweights(MyNet(), budget="50%")         # forward gives logits (B, classes)
        ensemble = superweights([a, b, c], budget="18M")  # logits (members, B, classes)

    Norms, biases, the head and the coefficients stay each member's own. Remarks of the allocation
    become warnings.

    Args:
        members: Modules from inputs to logits, or Networks; they are changed: use the result. They
            must be on one device and of one type.
        budget: Weights of all templates: a number, ``"18M"``, or ``"50%"`` of what they replace.
        clusters: Into how many clusters weights are divided by their depth, if there is no sharing.
        sharing: Which weights share, such as a learned sharing.
        own_coefficients: Whether each weight begins with coefficients of its own, or each cluster
            has one set; only without a sharing.
        allocator: ``best`` or ``greedy``; see :mod:`.allocation`.
        cap: The most templates of a slot; the default is the allocator's.
        nesting: How different shapes are put together, ``chain`` or ``union``; only without a
            sharing, which has its own. See :mod:`.layout`.
        initialization: ``fan_in`` or ``official``.
        linear: Whether linear layers share too, but for the last one of each member.

    Raises:
        ValueError: There is nothing to share, two members share a parameter, or an option is
            unknown.
        BudgetError: The budget is too small; the smallest possible one is named.
    """
    single = isinstance(members, nn.Module | Network)
    given = [members] if single else list(members)
    modules = [one.module if isinstance(one, Network) else one for one in given]
    _check_apart(modules)
    places = [places_of(number, module, linear=linear) for number, module in enumerate(modules)]
    uses = [place.use for own in places for place in own]
    if sharing is None:
        sharing = depth_bins(uses, clusters, own_coefficients=own_coefficients, nesting=nesting)
    sharing.check(uses)
    sharing = sharing.ordered(uses)
    weights = parse_budget(budget, sum(use.numel for use in uses))
    allocation = allocate(sharing, uses, weights, allocator=allocator, cap=cap)
    for remark in allocation.remarks:
        warnings.warn(remark, stacklevel=2)
    example = next(own[0] for own in places if own).modules[0].get_parameter("weight")
    store = SuperWeights(uses, sharing, allocation, device=example.device, dtype=example.dtype)
    initialize_superweights(store, initialization)
    kind = SuperWeightNetwork if single else SuperWeightEnsemble
    return kind(modules, places, store)


def _check_apart(modules: Sequence[nn.Module]) -> None:
    if not modules:
        raise ValueError("an ensemble needs at least one member")
    owner: dict[int, int] = {}
    kinds = set()
    for number, module in enumerate(modules):
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if owner.setdefault(id(tensor), number) != number:
                raise ValueError(
                    f"{name} of member {number} is also in member {owner[id(tensor)]}; give every "
                    "member a module of its own, and let SuperWeights share"
                )
        kinds |= {(one.device, one.dtype) for one in module.parameters()}
    if len(kinds) > 1:
        found = ", ".join(sorted(f"{dtype} on {device}" for device, dtype in kinds))
        raise ValueError(f"the members' parameters are {found}; move them to one device and type")
