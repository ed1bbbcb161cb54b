"""One way to train and to run every kind of ensemble: with shared templates, apart, or as one.

    GeneratedMembers   templates -> weights of member 0, 1, ...   SuperWeights, ShapeShifters
    SeparateMembers    member 0, 1, ...                           deep ensembles, a single network
    JointMembers       one network for all                        BatchEnsemble, MIMO, slimmable

What belongs to one member only has a name that begins with ``members.K.``; everything else is
shared. Ranks that divide members among them keep to that.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..superweight.accounting import accounts, norms_of
from ..superweight.ensemble import GeneratedEnsemble
from ..superweight.optimization import parameter_groups
from .batch_ensemble import BatchEnsemble, vectors_of
from .deep import DeepEnsemble
from .mimo import MIMO
from .slimmable import Slimmable, Universal, slim_norms_of

__all__ = [
    "Classify",
    "GeneratedMembers",
    "JointMembers",
    "SeparateMembers",
    "Trainable",
    "member_of",
]

Classify = Callable[[Tensor], Tensor]
"""From inputs (B, ...) to logits (B, classes)."""
Criterion = Callable[[Tensor, Tensor], Tensor]
Inputs = Callable[[], Iterable[Tensor]]

_OWN = re.compile(r"members\.(\d+)\.")
_KERNELS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def member_of(name: str) -> int | None:
    """Return the member that a parameter or buffer of this name belongs to; None: to all."""
    found = _OWN.match(name)
    return int(found[1]) if found else None


class Trainable(ABC):
    """An ensemble in training.

    Args:
        module: All of it: its parameters learn, its ``state_dict`` is what is kept.
        count: How many members it has.

    Attributes:
        joint: Whether all members are trained by one pass, so that ranks cannot divide them.
        divisible: Whether some members can classify without the others.
    """

    joint = False
    divisible = True

    def __init__(self, module: nn.Module, count: int) -> None:
        self.module = module
        self.count = count

    @abstractmethod
    def backward(
        self, x: Tensor, y: Tensor, criterion: Criterion, *, members: Sequence[int]
    ) -> list[Tensor]:
        """Run the passes of some members on one batch; gradients are added.

        Args:
            x: Inputs (B, ...).
            y: Labels (B,).
            criterion: From logits and labels to a loss.
            members: Which of them; a joint ensemble has them all.

        Returns:
            The losses, without graphs.
        """

    @abstractmethod
    def ready(self, member: int) -> Any:
        """Return a context in which a member classifies; it yields a :data:`Classify`."""

    def logits(self, inputs: Inputs, members: Sequence[int]) -> Tensor:
        """Return what some members say of all inputs, (members, N, classes), on the CPU."""
        found = []
        for member in members:
            with torch.no_grad(), self.ready(member) as classify:
                found.append(torch.cat([classify(x).float().cpu() for x in inputs()]))
        return torch.stack(found)

    def parameter_groups(
        self, lr: float, weight_decay: float, *, decay_norms: bool = True
    ) -> list[dict[str, Any]]:
        """Return groups for an optimizer; ``scale`` in one is the factor of its learning rate.

        Args:
            lr: Of the parameters that have the whole rate.
            weight_decay: Of what decays.
            decay_norms: Whether norms do.
        """
        still = set() if decay_norms else {id(one) for one in norms_of(self.module)}
        learning = [one for one in self.module.parameters() if one.requires_grad]
        return [
            {"params": [p for p in learning if id(p) not in still], "weight_decay": weight_decay},
            {"params": [p for p in learning if id(p) in still], "weight_decay": 0.0},
        ]

    def accounts(self) -> dict[str, int]:
        """Count parameters: ``templates`` (kernels), ``coefficients``, ``heads``, ``norms``."""
        kernels = {
            id(part.weight): part.weight.numel()
            for part in self.module.modules()
            if isinstance(part, _KERNELS)
        }
        norms = sum(one.numel() for one in norms_of(self.module))
        norms += sum(one.numel() for one in slim_norms_of(self.module))
        found = {
            "templates": sum(kernels.values()),
            "coefficients": sum(one.numel() for one in vectors_of(self.module)),
        }
        total = sum(one.numel() for one in self.module.parameters())
        return {**found, "heads": total - norms - sum(found.values()), "norms": norms}

    def calibrate(self, inputs: Inputs) -> None:
        """Take statistics that training does not keep, before an evaluation."""
        return

    def plain_state(self, member: int) -> dict[str, Tensor] | None:
        """Return a member's ``state_dict`` as an ordinary network; None if it is none."""
        return None


class GeneratedMembers(Trainable):
    """Members whose weights are made of shared parameters.

    Args:
        ensemble: With its members and their store.
    """

    def __init__(self, ensemble: GeneratedEnsemble[Any]) -> None:
        super().__init__(ensemble, len(ensemble.members))
        self.ensemble = ensemble

    def backward(
        self, x: Tensor, y: Tensor, criterion: Criterion, *, members: Sequence[int]
    ) -> list[Tensor]:
        """See :meth:`Trainable.backward`."""
        return self.ensemble.backward(x, y, criterion, members=members)

    @contextmanager
    def ready(self, member: int) -> Iterator[Classify]:
        """See :meth:`Trainable.ready`: the weights are made once."""
        with self.ensemble.held(member, flow=False):
            yield self.ensemble.members[member]

    def parameter_groups(
        self, lr: float, weight_decay: float, *, decay_norms: bool = True
    ) -> list[dict[str, Any]]:
        """See :meth:`Trainable.parameter_groups`: coefficients do not decay."""
        return parameter_groups(self.ensemble, weight_decay, decay_norms=decay_norms)

    def accounts(self) -> dict[str, int]:
        """See :meth:`Trainable.accounts`."""
        return accounts(self.ensemble)

    def plain_state(self, member: int) -> dict[str, Tensor] | None:
        """See :meth:`Trainable.plain_state`."""
        return self.ensemble.plain_state(member)


class SeparateMembers(Trainable):
    """Members that share nothing.

    Args:
        ensemble: A deep ensemble; of one member, a network by itself.
    """

    def __init__(self, ensemble: DeepEnsemble) -> None:
        super().__init__(ensemble, len(ensemble.members))
        self.ensemble = ensemble

    def backward(
        self, x: Tensor, y: Tensor, criterion: Criterion, *, members: Sequence[int]
    ) -> list[Tensor]:
        """See :meth:`Trainable.backward`."""
        return self.ensemble.backward(x, y, criterion, members=members)

    @contextmanager
    def ready(self, member: int) -> Iterator[Classify]:
        """See :meth:`Trainable.ready`."""
        yield self.ensemble.members[member]

    def plain_state(self, member: int) -> dict[str, Tensor] | None:
        """See :meth:`Trainable.plain_state`."""
        own = self.ensemble.members[member].state_dict()
        return {name: tensor.clone() for name, tensor in own.items()}


class JointMembers(Trainable):
    """Members that are one network, trained by one pass.

    Args:
        ensemble: A BatchEnsemble, a MIMO, or a slimmable network.
    """

    joint = True

    def __init__(self, ensemble: BatchEnsemble | MIMO | Slimmable) -> None:
        count = len(ensemble.widths) if isinstance(ensemble, Slimmable) else ensemble.count
        super().__init__(ensemble, count)
        self.ensemble = ensemble
        self.divisible = not isinstance(ensemble, MIMO)

    def backward(
        self, x: Tensor, y: Tensor, criterion: Criterion, *, members: Sequence[int]
    ) -> list[Tensor]:
        """See :meth:`Trainable.backward`.

        A universal network's losses are those of its widest, its narrowest and random widths.
        """
        return self.ensemble.backward(x, y, criterion)

    @contextmanager
    def ready(self, member: int) -> Iterator[Classify]:
        """See :meth:`Trainable.ready`. A BatchEnsemble runs all members, and one is taken."""
        ensemble = self.ensemble
        if isinstance(ensemble, Slimmable):
            yield lambda x: ensemble.run(member, x)
        else:
            yield lambda x: ensemble(x)[member]

    def logits(self, inputs: Inputs, members: Sequence[int]) -> Tensor:
        """See :meth:`Trainable.logits`: one pass for all."""
        with torch.no_grad():
            found = torch.cat([self.ensemble(x).float().cpu() for x in inputs()], 1)
        return found[list(members)]

    def parameter_groups(
        self, lr: float, weight_decay: float, *, decay_norms: bool = True
    ) -> list[dict[str, Any]]:
        """See :meth:`Trainable.parameter_groups`: a BatchEnsemble's are its recipe's."""
        if not isinstance(self.ensemble, BatchEnsemble):
            return super().parameter_groups(lr, weight_decay, decay_norms=decay_norms)
        groups = self.ensemble.parameter_groups(1.0, weight_decay)
        for group in groups:
            group["scale"] = group.pop("lr")
        return groups

    def calibrate(self, inputs: Inputs) -> None:
        """See :meth:`Trainable.calibrate`: a universal network's widths have no statistics yet."""
        if isinstance(self.ensemble, Universal):
            self.ensemble.calibrate(inputs)
