"""Members whose weights are made of shared templates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from .store import SuperWeights
from .use import Place
from .weight_store import WeightStore

__all__ = ["GeneratedEnsemble", "SuperWeightEnsemble", "SuperWeightNetwork"]

Criterion = Callable[[Tensor, Tensor], Tensor]

S = TypeVar("S", bound=WeightStore)


class GeneratedEnsemble(nn.Module, Generic[S]):
    """An ensemble whose members' layers draw on shared parameters.

    The members lose the weights that templates replace; they get generated ones while they run.

    Args:
        members: The modules, each from inputs to logits; they are changed.
        places: Of each member, the modules that get generated weights, in the order of its uses.
        store: Templates and coefficients.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        places: Sequence[Sequence[Place]],
        store: S,
    ) -> None:
        super().__init__()
        self.superweights = store
        self.members = nn.ModuleList(members)
        self._places = [list(one) for one in places]
        # In the order of the members' own state_dicts; a tied weight has several names.
        self._names = [list(member.state_dict()) for member in members]
        self._aliases = [
            {
                f"{name}.weight" if name else "weight": number
                for name, part in member.named_modules()
                for number, place in enumerate(own)
                if any(part is module for module in place.modules)
            }
            for member, own in zip(members, self._places, strict=True)
        ]
        for place in (place for own in self._places for place in own):
            for module in place.modules:
                del module._parameters["weight"]
                module.__dict__["weight"] = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to the logits of all members, (members, B, classes)."""
        return torch.stack([self.run(member, x) for member in range(len(self.members))])

    def run(self, member: int, x: Tensor) -> Tensor:
        """Return one member's logits (B, classes), with weights made for this call."""
        with self._bound(member, self.superweights.generate(member)):
            return self.members[member](x)

    def predict(self, x: Tensor) -> Tensor:
        """Return the mean of the members' probabilities, (B, classes)."""
        return self(x).softmax(-1).mean(0)

    @contextmanager
    def held(self, member: int, *, flow: bool = True) -> Iterator[dict[str, Tensor]]:
        """Give a member weights for several passes: they are made once, and flow back once.

        Inside, the member, its layers and its blocks run as they always do; their backward passes
        add to the ``grad`` of the weights. At the end these flow into templates and coefficients.

        Args:
            member: Which one, from 0.
            flow: Whether they flow; not, they are for the caller to look at.

        Yields:
            The weights by their names in the member.
        """
        with torch.no_grad():
            made = self.superweights.generate(member)
        weights = [weight.requires_grad_(torch.is_grad_enabled()) for weight in made]
        uses = (place.use for place in self._places[member])
        with self._bound(member, weights):
            yield {use.name: weight for use, weight in zip(uses, weights, strict=True)}
        if flow and any(weight.grad is not None for weight in weights):
            self.superweights.flow(member, [weight.grad for weight in weights])

    def backward(
        self,
        x: Tensor,
        y: Tensor,
        criterion: Criterion,
        *,
        members: Sequence[int] | None = None,
    ) -> list[Tensor]:
        """Run a training step's passes, one member after the other; gradients are added.

        The loss of an ensemble is the sum of its members' losses on the same batch, so only one
        member's activations exist at a time.

        Args:
            x: Inputs (B, ...).
            y: Labels (B,).
            criterion: From logits and labels to a loss.
            members: Which members, by default all; such as those of a rank.

        Returns:
            These members' losses, without graphs.
        """
        losses = []
        for member in range(len(self.members)) if members is None else members:
            with self.held(member):
                loss = criterion(self.members[member](x), y)
                loss.backward()
            losses.append(loss.detach())
        return losses

    @torch.no_grad()
    def plain_state(self, member: int) -> dict[str, Tensor]:
        """Return a member's ``state_dict`` as if it had weights of its own; these are copies."""
        made, own = self.superweights.generate(member), self.members[member].state_dict()
        aliases = self._aliases[member]
        return {
            name: made[aliases[name]] if name in aliases else own[name].clone()
            for name in self._names[member]
        }

    @contextmanager
    def _bound(self, member: int, weights: Sequence[Tensor]) -> Iterator[None]:
        places = self._places[member] if weights else []
        for place, weight in zip(places, weights, strict=True):
            for module in place.modules:
                module.__dict__["weight"] = weight
        try:
            yield
        finally:
            for place in places:
                for module in place.modules:
                    module.__dict__["weight"] = None


class SuperWeightEnsemble(GeneratedEnsemble[SuperWeights]):
    """Members whose layers are combinations of shared templates; see :func:`superweights`."""


class SuperWeightNetwork(SuperWeightEnsemble):
    """One network in a parameter budget: its logits are those of its only member."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to logits (B, classes)."""
        return self.run(0, x)

    def predict(self, x: Tensor) -> Tensor:
        """Return probabilities (B, classes)."""
        return self(x).softmax(-1)
