"""ShapeShifter networks (Plummer et al., 2022) as ensembles: layers cut from flat banks.

Every group of layers has one flat bank. A layer of a member takes as many stretches of its own size
from the bank as there are, and combines them with coefficients of its own (weighted averaging).
Where the bank is smaller than the layer, it takes a smaller weight and enlarges it bilinearly.
A layer that is alone in its group has its own weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..network import Network
from ..superweight.allocation import CAP, BudgetError
from ..superweight.budget import parse_budget
from ..superweight.ensemble import GeneratedEnsemble
from ..superweight.sharing import depth_bins
from ..superweight.use import Key, Use, by_key, places_of
from ..superweight.weight_store import WeightStore

__all__ = ["ShapeShifters", "shapeshifter"]

SHARE = 0.05
"""By how much the sides of a weight are made smaller at a time until it fits its bank."""


class ShapeShifters(WeightStore):
    """The banks of all groups, and the coefficients of every layer.

    Args:
        uses: The weights of all members.
        groups: Which of them share a bank.
        budget: Numbers in all banks together, divided in proportion to the groups' own sizes.
        cap: The most stretches that a layer combines.
        device: Where the parameters are.
        dtype: Their type.

    Raises:
        BudgetError: The budget leaves a group without room for the kernel of one channel.
    """

    def __init__(
        self,
        uses: Sequence[Use],
        groups: Sequence[Sequence[Key]],
        budget: int,
        *,
        cap: int = CAP,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        known = by_key(uses)
        self.uses = tuple(uses)
        self._places = {use.key: place for place, use in enumerate(uses)}
        self.bank_of = {key: number for number, group in enumerate(groups) for key in group}
        self.templates, self.coefficients = nn.ParameterDict(), nn.ParameterDict()
        made = {"device": device, "dtype": dtype}
        for number, (group, size) in enumerate(
            zip(groups, _bank_sizes(groups, known, budget), strict=True)
        ):
            members = [known[key] for key in group]
            # Every stretch begins as Kaiming's rule wants it for the layer that is most frequent.
            shapes = [use.shape for use in members]
            common = max(members, key=lambda use: shapes.count(use.shape))
            bank = torch.empty(size, **made).normal_(0, math.sqrt(2 / common.fan_in))
            self.templates[str(number)] = nn.Parameter(bank)
            counts = [min(max(1, size // use.numel), cap) for use in members]
            for use, count in zip(members, counts, strict=True):
                if len(group) > 1:
                    alpha = torch.empty(1, count, **made)
                    nn.init.orthogonal_(alpha)
                    self.coefficients[self._name(use.key)] = nn.Parameter(alpha[0])

    def generate(self, member: int) -> list[Tensor]:
        """Make a member's weights, in the order of its uses; gradients go back through them."""
        return [self._weight(use) for use in self.uses if use.member == member]

    def flow(self, member: int, gradients: Sequence[Tensor | None]) -> None:
        """Add what gradients of a member's weights mean for banks and coefficients."""
        with torch.enable_grad():
            made = self.generate(member)
        pairs = [(w, g) for w, g in zip(made, gradients, strict=True) if g is not None]
        if pairs:
            torch.autograd.backward([w for w, _ in pairs], [g for _, g in pairs])

    def _name(self, key: Key) -> str:
        """Return the name of a layer's coefficients: its place among all layers."""
        return str(self._places[key])

    def _weight(self, use: Use) -> Tensor:
        bank = self.templates[str(self.bank_of[use.key])]
        name = self._name(use.key)
        if name not in self.coefficients:
            return bank.view(use.shape)
        alpha = self.coefficients[name]
        if len(bank) >= use.numel:
            return (alpha @ bank[: len(alpha) * use.numel].view(len(alpha), -1)).view(use.shape)
        return alpha[0] * _enlarged(bank, use.shape)


def shapeshifter(
    members: Sequence[nn.Module] | Sequence[Network],
    budget: int | float | str,
    *,
    groups: int = 4,
    cap: int = CAP,
    linear: bool = False,
) -> GeneratedEnsemble[ShapeShifters]:
    """Make an ensemble of ShapeShifter networks, with groups by depth.

    Args:
        members: Modules from inputs to logits, or Networks; they are changed: use the result.
        budget: Numbers in all banks: a number, ``"18M"``, or ``"50%"`` of what they replace.
        groups: How many bins of depth there are over all kernel sizes.
        cap: The most stretches that a layer combines.
        linear: Whether linear layers share too, but for the last one of each member.

    Raises:
        BudgetError: The budget is too small.
        ValueError: There is nothing to share.
    """
    modules = [one.module if isinstance(one, Network) else one for one in members]
    places = [places_of(number, module, linear=linear) for number, module in enumerate(modules)]
    uses = [place.use for own in places for place in own]
    sharing = depth_bins(uses, groups)
    banks = [[key for group in cluster for key in group] for cluster in sharing.clusters]
    size = parse_budget(budget, sum(use.numel for use in uses))
    weight = next(own[0] for own in places if own).modules[0].get_parameter("weight")
    store = ShapeShifters(uses, banks, size, cap=cap, device=weight.device, dtype=weight.dtype)
    return GeneratedEnsemble(modules, places, store)


def _bank_sizes(
    groups: Sequence[Sequence[Key]], known: Mapping[Key, Use], budget: int
) -> list[int]:
    """Divide a budget; layers that are alone come first, with all their weights."""
    own = [sum(known[key].numel for key in group) for group in groups]
    alone = sum(size for size, group in zip(own, groups, strict=True) if len(group) == 1)
    least = [
        size if len(group) == 1 else max(math.prod(known[key].shape[2:]) for key in group)
        for size, group in zip(own, groups, strict=True)
    ]
    shared = sum(own) - alone
    sizes = [
        size if len(group) == 1 else (budget - alone) * size // shared
        for size, group in zip(own, groups, strict=True)
    ]
    if any(size < low for size, low in zip(sizes, least, strict=True)) or alone > budget:
        raise BudgetError(
            f"a budget of {budget:,} is too small: the banks need at least {least}, and "
            f"{sizes} are their shares; give more, or fewer groups"
        )
    return sizes


def _enlarged(bank: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Make a weight from a bank that is smaller: fewer channels, then bilinear interpolation."""
    out, inputs, kernel = shape[0], shape[1], math.prod(shape[2:])
    share = 1.0 - SHARE
    rows, columns = out, inputs
    while rows * columns * kernel > len(bank):
        rows, columns = max(1, int(share * out)), max(1, int(share * inputs))
        share -= SHARE
    matrix = bank[: rows * columns * kernel].view(1, 1, rows, columns * kernel)
    size = (out, inputs * kernel)
    return functional.interpolate(matrix, size, mode="bilinear").view(shape)
