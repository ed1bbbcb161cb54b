"""What ranks add up in a training step, and what each has for itself.

shared parameters    gradients of all members, on all ranks       templates, coefficients
own parameters       gradients of a member, on its ranks          norms, heads
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ...models.ensembles.trainable import member_of
from .company import Company, Post

__all__ = ["GradientSum"]


class GradientSum:
    """The gradients of one ensemble, as one of its ranks sees them.

    Args:
        module: The ensemble.
        posts: Of every rank, what it has to do.
        company: The ranks.
    """

    def __init__(
        self, module: nn.Module, posts: Sequence[Sequence[Post]], company: Company
    ) -> None:
        self._posts, self._company = posts, company
        self._shared: list[nn.Parameter] = []
        self._own: dict[int, list[nn.Parameter]] = {}
        for name, one in module.named_parameters():
            member = member_of(name)
            if not one.requires_grad:
                continue
            if member is None:
                self._shared.append(one)
            else:
                self._own.setdefault(member, []).append(one)
        self._device = next((one.device for one in module.parameters()), torch.device("cpu"))

    def learning(self) -> Iterator[nn.Parameter]:
        """Return what this rank's optimizer changes."""
        yield from self._shared
        for post in self._posts[self._company.rank]:
            yield from self._own.get(post.member, [])

    def taken(self) -> Tensor:
        """Return the gradient of what is shared, flat with a zero behind it, and forget it."""
        flat = [
            torch.zeros_like(one).flatten() if one.grad is None else one.grad.flatten()
            for one in self._shared
        ]
        for one in self._shared:
            one.grad = None
        return torch.cat([*flat, torch.zeros(1, device=self._device)])

    def add_up(self, rows: Sequence[Tensor], stop: bool) -> bool:
        """Give all ranks the sum of all members' gradients.

        Args:
            rows: What :meth:`taken` returned after each of this rank's members; one rank by itself
                takes nothing, its gradients are added already.
            stop: Whether this rank was asked to stop; a rank without members is not heard.

        Returns:
            Whether any rank was.
        """
        if self._company.size == 1:
            for one in self._shared:
                if one.grad is None:  # as the ranks have it: zero decays, none does not
                    one.grad = torch.zeros_like(one)
            return stop
        length = sum(one.numel() for one in self._shared) + 1
        mine = torch.stack([*rows]) if rows else torch.zeros(0, length, device=self._device)
        if len(mine):
            mine[0, -1] = float(stop)
        total = self._company.add(mine, self._places())
        _spread(total, self._shared)
        for post in self._posts[self._company.rank]:
            own = [one for one in self._own[post.member] if one.grad is not None]
            if post.replicas > 1 and own:
                flat = torch.cat([one.grad.flatten() for one in own if one.grad is not None])
                _spread(self._company.average(post.member, flat), own)
        return bool(total[-1] > 0)

    def _places(self) -> list[list[int]]:
        """Return the places of all ranks' rows in the sum: by member, then by replica."""
        order = {post: n for n, post in enumerate(sorted(p for own in self._posts for p in own))}
        return [[order[post] for post in own] for own in self._posts]


def _spread(flat: Tensor, parameters: Sequence[nn.Parameter]) -> None:
    """Set gradients from a flat tensor, one after the other."""
    offset = 0
    for one in parameters:
        one.grad = flat[offset : offset + one.numel()].view_as(one).clone()
        offset += one.numel()
