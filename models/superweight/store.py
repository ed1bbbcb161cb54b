"""Templates and coefficients: the parameters that members share, and the weights made of them.

templates[c_s]     (templates, size)   what the budget counts
coefficients[c_s]  (rows, templates)   one row for each group of uses with equal coefficients
SuperWeights of a slot = coefficients @ templates, one product for all uses of a member
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .allocation import Allocation
from .recipe import Piece, Recipe, Work, coefficient_rows, recipes_of
from .sharing import Sharing
from .use import Key, Use
from .weight_store import WeightStore

__all__ = ["SuperWeights"]

EMPTY = Recipe((), ())
"""Of a member without generated weights."""


class SuperWeights(WeightStore):
    """The shared parameters of all members, in the order of clusters and slots.

    A weight is made by one matrix product for each slot and member, whatever the number of layers,
    and its gradient goes back by two.

    Args:
        uses: The weights of all members.
        sharing: Which of them share.
        allocation: The number of templates of each slot.
        device: Where the parameters are.
        dtype: Their type.

    Raises:
        ValueError: The sharing or the allocation does not fit the uses.
    """

    def __init__(
        self,
        uses: Sequence[Use],
        sharing: Sharing,
        allocation: Allocation,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sharing.check(uses)
        self.uses = tuple(uses)
        self.sharing = sharing.ordered(uses)
        self.allocation = allocation
        layouts = self.sharing.layouts(uses)
        slots = [len(layout.sizes) for layout in layouts]
        if slots != [len(counts) for counts in allocation.counts]:
            raise ValueError(
                f"the clusters have {slots} slots, the allocation has "
                f"{[len(counts) for counts in allocation.counts]}; allocate for this sharing, "
                "in the order of Sharing.ordered()"
            )
        self.templates = nn.ParameterDict()
        self.coefficients = nn.ParameterDict()
        rows = coefficient_rows(self.sharing, uses)
        for cluster, layout in enumerate(layouts):
            for slot, size in enumerate(layout.sizes):
                name, count = f"{cluster}_{slot}", allocation.counts[cluster][slot]
                height = max(rows[name].values()) + 1
                made = [
                    nn.Parameter(torch.zeros(shape, device=device, dtype=dtype))
                    for shape in ((count, size), (height, count))
                ]
                self.templates[name], self.coefficients[name] = made
        self._prepare()

    def _prepare(self) -> None:
        members = 1 + max(use.member for use in self.uses)
        self.recipes: list[Recipe] = recipes_of(self.sharing, self.uses, members)
        self._selections: dict[tuple[tuple[int, ...], torch.device], Tensor] = {}

    def generate(self, member: int) -> list[Tensor]:
        """Make the weights of a member, in the order of its uses; gradients go back through them.

        The graph is walked once: one backward pass for each call. Several passes, or blocks with
        losses of their own, need leaves; see ``flow``.
        """
        recipe = self.recipes[member] if member < len(self.recipes) else EMPTY
        if not recipe.uses:
            return []
        return list(_Generation.apply(self, recipe, *self._parameters_of(recipe)))  # pyright: ignore[reportGeneralTypeIssues, reportArgumentType]

    @torch.no_grad()
    def flow(self, member: int, gradients: Sequence[Tensor | None]) -> None:
        """Add what gradients of a member's weights mean for templates and coefficients.

        Args:
            member: The member, from 0.
            gradients: Of its weights, in the order of its uses; None counts as zero.
        """
        recipe = self.recipes[member] if member < len(self.recipes) else EMPTY
        parameters = self._parameters_of(recipe)
        changes = self._back(recipe, parameters, gradients)
        for parameter, change in zip(parameters, changes, strict=True):
            if not parameter.requires_grad:
                continue
            if parameter.grad is None:
                parameter.grad = change
            else:
                parameter.grad += change

    @torch.no_grad()
    def coefficient_gradients(
        self, member: int, gradients: Sequence[Tensor | None]
    ) -> dict[Key, dict[str, Tensor]]:
        """Return what each use alone contributes to the gradient of its coefficients.

        The gradient of a row that several uses share is the sum of theirs.

        Args:
            member: The member, from 0.
            gradients: Of its weights, in the order of its uses.

        Returns:
            For each use, by the name of the slot: (templates,).
        """
        recipe = self.recipes[member]
        found: dict[Key, dict[str, Tensor]] = {use.key: {} for use in recipe.uses}
        for work in recipe.works:
            templates = self.templates[work.name]
            for place in sorted({piece.weight for piece in work.pieces}):
                pieces = [
                    Piece(0, place, piece.block) for piece in work.pieces if piece.weight == place
                ]
                part = Work(work.name, (0,), tuple(pieces), False)
                vector = _gathered(part, gradients, recipe, templates)
                found[recipe.uses[place].key][work.name] = templates @ vector[0]
        return found

    @torch.no_grad()
    def regroup(self, sharing: Sharing) -> list[tuple[nn.Parameter, nn.Parameter, Tensor]]:
        """Give groups of uses coefficients of their own, which begin as copies.

        Args:
            sharing: The same clusters; every group is a part of one of the groups of now.

        Returns:
            The parameters that were replaced: old, new, and the old row of each new row.

        Raises:
            ValueError: A cluster differs, or a group is put together from several.
        """
        sharing = sharing.ordered(self.uses)
        sharing.check(self.uses)
        if sharing.nesting != self.sharing.nesting or (
            sharing.cluster_of() != self.sharing.cluster_of()
        ):
            raise ValueError("coefficients can be separated within the clusters of now only")
        before = coefficient_rows(self.sharing, self.uses)
        replaced = []
        for name, rows in coefficient_rows(sharing, self.uses).items():
            source: dict[int, int] = {}
            for key, row in rows.items():
                if source.setdefault(row, before[name][key]) != before[name][key]:
                    raise ValueError(
                        f"{key[1]} of member {key[0]} would share coefficients with weights that "
                        "have others; groups can only be divided"
                    )
            old = self.coefficients[name]
            origin = [source[row] for row in range(len(source))]
            if origin != list(range(len(old))):
                index = torch.tensor(origin, device=old.device)
                new = nn.Parameter(old[index].clone(), requires_grad=old.requires_grad)
                self.coefficients[name] = new
                replaced.append((old, new, index))
        self.sharing = sharing
        self._prepare()
        return replaced

    def _parameters_of(self, recipe: Recipe) -> list[Tensor]:
        """Return templates and coefficients of each slot of a recipe, in order."""
        return [
            parameter
            for work in recipe.works
            for parameter in (self.templates[work.name], self.coefficients[work.name])
        ]

    def _selected(self, coefficients: Tensor, rows: tuple[int, ...]) -> Tensor:
        """Return some rows; a view where they follow each other."""
        if rows[-1] - rows[0] + 1 == len(rows):
            return coefficients[rows[0] : rows[-1] + 1]
        return coefficients[self._index(rows, coefficients.device)]

    def _index(self, rows: tuple[int, ...], device: torch.device) -> Tensor:
        key = (rows, device)
        if key not in self._selections:
            self._selections[key] = torch.tensor(rows, device=device)
        return self._selections[key]

    def _make(self, recipe: Recipe, parameters: Sequence[Tensor]) -> list[Tensor]:
        weights = [parameters[0].new_empty(use.shape) for use in recipe.uses]
        for number, work in enumerate(recipe.works):
            templates, coefficients = parameters[2 * number : 2 * number + 2]
            # In the precision of the parameters, whatever autocast says about the layers.
            with torch.autocast(templates.device.type, enabled=False):
                made = self._selected(coefficients, work.rows) @ templates
            for piece in work.pieces:
                _part_of(weights[piece.weight], piece).copy_(_part_in(made, piece, weights))
        return weights

    def _back(
        self,
        recipe: Recipe,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
    ) -> list[Tensor]:
        """Return the gradients of ``parameters``; only one slot's product is held at a time."""
        found = []
        for number, work in enumerate(recipe.works):
            templates, coefficients = parameters[2 * number : 2 * number + 2]
            own = _gathered(work, gradients, recipe, templates)
            with torch.autocast(templates.device.type, enabled=False):
                back = own @ templates.T
                found.append(self._selected(coefficients, work.rows).T @ own)
            if len(work.rows) < len(coefficients):
                every = torch.zeros_like(coefficients)
                every[self._index(work.rows, every.device)] = back
                back = every
            found.append(back)
        return found


class _Generation(torch.autograd.Function):
    """``SuperWeights._make`` with ``_back`` as its derivative."""

    @staticmethod
    def forward(
        ctx: Any, store: SuperWeights, recipe: Recipe, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.store, ctx.recipe = store, recipe
        ctx.save_for_backward(*parameters)
        return tuple(store._make(recipe, parameters))

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.store._back(ctx.recipe, ctx.saved_tensors, gradients)


def _gathered(
    work: Work, gradients: Sequence[Tensor | None], recipe: Recipe, like: Tensor
) -> Tensor:
    """Return the gradient of a member's SuperWeights of one slot, (rows, size)."""
    shape = (len(work.rows), like.shape[1])
    complete = work.whole and all(gradients[piece.weight] is not None for piece in work.pieces)
    own = like.new_empty(shape) if complete else like.new_zeros(shape)
    for piece in work.pieces:
        gradient = gradients[piece.weight]
        if gradient is None:
            continue
        target = _part_in(own, piece, gradients)
        part = _part_of(gradient, piece)
        if complete:
            target.copy_(part)
        else:
            target.add_(part)
    return own


def _part_of(weight: Tensor, piece: Piece) -> Tensor:
    """Return the rectangle of a weight (out, in, *kernel) that a piece fills; a view."""
    (top, _), (left, _), (height, breadth) = (
        piece.block.rows,
        piece.block.columns,
        piece.block.shown,
    )
    return weight[top : top + height, left : left + breadth]


def _part_in(made: Tensor, piece: Piece, weights: Sequence[Tensor | None]) -> Tensor:
    """Return the same rectangle in a slot's SuperWeights (rows, size); a view."""
    weight = weights[piece.weight]
    assert weight is not None
    block = piece.block
    height, breadth = block.extent
    kernel = weight.shape[2:]
    stop = block.start + height * breadth * kernel.numel()
    whole = made[piece.row, block.start : stop].view(height, breadth, *kernel)
    return whole[: block.shown[0], : block.shown[1]]
