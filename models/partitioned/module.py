"""A network whose weights are divided into partitions, and its subnetworks.

    subnetwork k:   partitions 1..k as they are learned, k+1..C at their defaults

Partition k is learned through subnetwork k on the chunks of data 1..k; subnetwork k has then never
seen chunk k+1, whose loss can judge hyperparameters (Mlodozeniec et al., ICLR 2023, section 3).
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .affines import Affines
from .assignment import by_node, randomly
from .batched import Call, Router, patched
from .defaults import DEFAULTS, Defaults, Initial, Seeded, Zero
from .kinds import PRODUCT, SPLIT, SUM, Entry, Rules, find_entries
from .placement import placed
from .shares import check_proportions
from .slot import Slot, key_of, slots_of
from .statistics import Statistics
from .weights import SplitWeights

__all__ = ["PartitionedModule", "partition"]

SCHEMES = ("random", "node")


class PartitionedModule(nn.Module):
    """What :func:`partition` makes.

    ``parameters()`` are those of all partitions and the hyperparameters. Give each partition an
    optimizer of its own: a partition that a call did not learn has no gradients.

    Attributes:
        network: The network; its partitioned parameters are None between calls.
        partitions: For each partition its tensors by the names that they are parts of, with ``/``
            for the dots. Tensors without entries are missing.
        proportions: The share of each partition.
    """

    def __init__(
        self,
        network: nn.Module,
        entries: Sequence[Entry],
        *,
        proportions: Sequence[float],
        assigned: Sequence[Tensor],
        defaults: str,
        seed: int,
        hyperparameters: Sequence[str],
        outputs: nn.Module | None,
    ) -> None:
        super().__init__()
        self.network = network
        self.proportions = list(proportions)
        self._learned = list(hyperparameters)
        self._outputs = (outputs,)  # in a tuple: as an attribute it would be a child of this module
        split = [entry for entry in entries if entry.kind == SPLIT]
        tensors = [entry.tensor for entry in split]
        values = [
            [tensor.flatten()[own == number] for tensor, own in zip(tensors, assigned, strict=True)]
            for number in range(len(proportions))
        ]
        counts = [[value.numel() for value in own] for own in values]
        kept = _make_defaults(defaults, tensors, values, seed=seed)
        if defaults == "seeded":
            values[1:] = [
                list(kept.of(number).split(counts[number])) for number in range(1, len(values))
            ]
        self.weights = SplitWeights([tensor.shape for tensor in tensors], assigned, counts, kept)
        self.weights.to(tensors[0].device)
        self.partitions = nn.ModuleList(nn.ParameterDict() for _ in proportions)
        self._slots: dict[str, list[Slot]] = {SPLIT: self._fill(split, values)}
        self._affines: dict[str, Affines] = {}
        for kind in (PRODUCT, SUM):
            chosen = [entry for entry in entries if entry.kind == kind]
            affines = Affines(kind, [entry.tensor.shape for entry in chosen])
            first = [entry.tensor for entry in chosen]
            later = [[affines.neutral(one) for one in first]] * (len(proportions) - 1)
            self._slots[kind] = self._fill(chosen, [first, *later])
            self._affines[kind] = affines
        for entry in entries:
            for part, attribute in entry.places:
                part._parameters[attribute] = None
        self.statistics = Statistics(network, len(proportions))
        self.register_load_state_dict_post_hook(_forgive)

    def _fill(self, entries: Sequence[Entry], values: Sequence[Sequence[Tensor]]) -> list[Slot]:
        """Make the parameters of one kind."""
        for number, own in enumerate(values):
            made = self._parameters_of(number)
            for entry, value in zip(entries, own, strict=True):
                if value.numel():
                    made[key_of(entry.name)] = nn.Parameter(value.clone())
        return slots_of(entries, values)

    def _parameters_of(self, number: int) -> nn.ParameterDict:
        found = self.partitions[number]
        assert isinstance(found, nn.ParameterDict)
        return found

    def __len__(self) -> int:
        """The number of partitions, C."""
        return len(self.proportions)

    @property
    def sizes(self) -> list[int]:
        """How many numbers each partition has, scales and biases included."""
        return [sum(one.numel() for one in self.values_of(k)) for k in range(1, len(self) + 1)]

    def parameters_of(self, partition: int) -> dict[str, nn.Parameter]:
        """Return the parameters of a partition, from 1, by the names of what they are parts of."""
        self._check(partition)
        found = self._parameters_of(partition - 1)
        return {key.replace("/", "."): value for key, value in found.items()}

    def values_of(self, partition: int) -> list[Tensor]:
        """Return the tensors of a partition, from 1, detached but not copied, in a fixed order."""
        return [value.detach() for value in self.parameters_of(partition).values()]

    @torch.no_grad()
    def load_values(self, partition: int, values: Sequence[Tensor]) -> None:
        """Copy tensors into a partition.

        Args:
            partition: Which, from 1.
            values: As :meth:`values_of` returns them; from any device.

        Raises:
            ValueError: The number of tensors or a shape differs. Nothing was copied.
        """
        own = self.parameters_of(partition)
        if len(own) != len(values):
            raise ValueError(
                f"partition {partition} has {len(own)} tensors, not {len(values)}; give what "
                "values_of() of the same partition returned"
            )
        for (name, parameter), value in zip(own.items(), values, strict=True):
            if parameter.shape != value.shape:
                raise ValueError(
                    f"partition {partition}: {name} has shape {tuple(parameter.shape)}, not "
                    f"{tuple(value.shape)}; it was partitioned with another seed or proportions"
                )
        for parameter, value in zip(own.values(), values, strict=True):
            parameter.copy_(value)

    def statistics_of(self, subnetwork: int) -> list[Tensor]:
        """Return the running statistics of a subnetwork, from 1; not copied, in a fixed order."""
        self._check(subnetwork)
        return [tensor for _, tensor in self.statistics.of(subnetwork, count=True)]

    @torch.no_grad()
    def load_statistics(self, subnetwork: int, values: Sequence[Tensor]) -> None:
        """Copy what :meth:`statistics_of` returned into a subnetwork's."""
        for own, value in zip(self.statistics_of(subnetwork), values, strict=True):
            own.copy_(value)

    def hyperparameters(self) -> dict[str, nn.Parameter]:
        """Return the hyperparameters by their names in the network."""
        known = dict(self.network.named_parameters())
        return {name: known[name] for name in self._learned}

    def tensors(
        self, subnetwork: int | None = None, *, learning: int | Collection[int] | None = ()
    ) -> dict[str, Tensor]:
        """Return the composed tensors of a subnetwork by their names in the network.

        They hold until the next call only, unless gradients are recorded.

        Args:
            subnetwork: Which, from 1; None: the last.
            learning: As in :meth:`forward`.
        """
        k = self._check(len(self) if subnetwork is None else subnetwork)
        composed = self._compose(k, self._learning(k, learning))
        slots = [slot for own in self._slots.values() for slot in own]
        return {name: one for slot, one in zip(slots, composed, strict=True) for name in slot.names}

    @torch.no_grad()
    def subnetwork_state(self, subnetwork: int | None = None) -> dict[str, Tensor]:
        """Return a ``state_dict`` for the network as it was before it was partitioned.

        Args:
            subnetwork: Which, from 1; None: the last, which is the final model.
        """
        k = self._check(len(self) if subnetwork is None else subnetwork)
        state = {name: tensor.clone() for name, tensor in self.tensors(k).items()}
        return {**self.network.state_dict(), **state, **self.statistics.named(k)}

    def forward(
        self,
        x: Tensor,
        *,
        subnetwork: int | None = None,
        learning: int | Collection[int] | None = None,
    ) -> Tensor:
        """Evaluate a subnetwork.

        Args:
            x: What the network takes.
            subnetwork: Which, from 1; None: the last, which is the final model.
            learning: The partitions, from 1, that get gradients; None: all of the subnetwork's;
                (): none, as for a step of the hyperparameters. Batch norm counts its running
                statistics only where one learns.

        Raises:
            ValueError: There is no such subnetwork, or a partition that is to learn is not in it.
        """
        k = self._check(len(self) if subnetwork is None else subnetwork)
        chosen = self._learning(k, learning)
        slots = (slot for own in self._slots.values() for slot in own)
        parameters = (
            (place, tensor)
            for slot, tensor in zip(slots, self._compose(k, chosen), strict=True)
            for place in slot.places
        )
        with placed(parameters, self.statistics.of(k, count=bool(chosen))):
            return self.network(x)

    def batched(self, x: Tensor, subnetworks: Tensor, *, learning: bool | None = None) -> Tensor:
        """Evaluate a batch whose examples are of different subnetworks, in one pass.

        Every example gives a gradient to the partition of its own subnetwork's number alone.

        Args:
            x: (B, ...).
            subnetworks: int64 (B,), from 1.
            learning: Whether partitions get gradients; None: where gradients are recorded.

        Raises:
            ValueError: It was not partitioned by nodes with zero defaults, has running statistics,
                or there is no such subnetwork.
        """
        if self._outputs == (None,) or not isinstance(self.weights.defaults, Zero):
            raise ValueError(
                "several subnetworks in one batch need kind='node' and defaults='zero': a unit of "
                "a later partition then yields 0; evaluate them one after the other"
            )
        for number in (int(subnetworks.min()), int(subnetworks.max())):
            self._check(number)
        learns = torch.is_grad_enabled() if learning is None else learning
        chosen = self._learning(len(self), None if learns else ())
        with patched(self._calls(Router(subnetworks), subnetworks, chosen)):
            return self.network(x)

    def _calls(
        self, router: Router, subnetworks: Tensor, learning: Collection[int]
    ) -> dict[nn.Module, Call]:
        """Return what every partitioned layer computes in a batch of several subnetworks."""
        composed = self.weights.compose(self._values(SPLIT), len(self), learning)
        assigned = self.weights.assigned()
        by_layer: dict[nn.Module, dict[str, tuple[Tensor, Tensor]]] = {}
        for slot, value, own in zip(self._slots[SPLIT], composed, assigned, strict=True):
            for part, attribute in slot.places:
                by_layer.setdefault(part, {})[attribute] = (value, own)
        calls: dict[nn.Module, Call] = {}
        for part, tensors in by_layer.items():
            divided = part is not self._outputs[0]
            calls[part] = (router.nodes if divided else router.groups)(part, tensors)
        affine: dict[nn.Module, dict[str, Tensor]] = {}
        for kind, affines in self._affines.items():
            own = affines.compose_each(self._values(kind), subnetworks - 1, learning)
            for slot, value in zip(self._slots[kind], own, strict=True):
                for part, _ in slot.places:
                    affine.setdefault(part, {})[kind] = value
        for part, tensors in affine.items():
            calls[part] = router.affine(part, tensors.get(PRODUCT), tensors.get(SUM))
        return calls

    def refresh(self) -> None:
        """Compose everything anew: needed only after ``parameter.data`` was written into."""
        self.weights.refresh()

    def _compose(self, subnetwork: int, learning: Collection[int]) -> list[Tensor]:
        composed = self.weights.compose(self._values(SPLIT), subnetwork, learning)
        for kind, affines in self._affines.items():
            composed += affines.compose(self._values(kind), subnetwork, learning)
        return composed

    def _values(self, kind: str) -> list[list[Tensor]]:
        """Return the parameters of one kind of every partition."""
        slots = self._slots[kind]
        found: list[list[Tensor]] = []
        for number in range(len(self)):
            own: Any = self._parameters_of(number)._parameters
            found.append([own[slot.key] for slot in slots if number in slot.owners])
        return found

    def _learning(self, k: int, learning: int | Collection[int] | None) -> set[int]:
        """Return the partitions that learn, from 0."""
        if not torch.is_grad_enabled():
            return set()
        if learning is None:
            return set(range(k))
        chosen = {learning} if isinstance(learning, int) else set(learning)
        if not all(1 <= one <= k for one in chosen):
            raise ValueError(
                f"partitions {sorted(chosen)} cannot learn through subnetwork {k}, which has "
                f"partitions 1-{k}"
            )
        return {one - 1 for one in chosen}

    def _check(self, number: int) -> int:
        if not 1 <= number <= len(self):
            raise ValueError(
                f"there is no subnetwork or partition {number}; they are numbered 1-{len(self)}"
            )
        return number


def _forgive(module: nn.Module, keys: Any) -> None:
    """Batch norm expects a count of its own in a state without versions, such as a copied dict."""
    assert isinstance(module, PartitionedModule)
    own = tuple(f"network.{name}" for name in module.statistics.names())
    keys.unexpected_keys[:] = [key for key in keys.unexpected_keys if not key.endswith(own)]


def _make_defaults(
    name: str, tensors: Sequence[Tensor], values: Sequence[Sequence[Tensor]], *, seed: int
) -> Defaults:
    if name == "initial":
        return Initial([torch.cat(list(own)) for own in values])
    if name == "zero":
        return Zero(tensors[0])
    return Seeded(tensors, [[value.numel() for value in own] for own in values], seed)


def partition(
    module: nn.Module,
    proportions: Sequence[float],
    *,
    seed: int,
    defaults: str = "initial",
    kind: str = "random",
    hyperparameters: Sequence[str] = (),
    rules: Rules | None = None,
    outputs: str | None = None,
) -> PartitionedModule:
    """Divide the weights of a network into partitions.

    Args:
        module: The network, with its initial weights; it is copied. Parameters that require no
            gradient stay whole, and so do those of a
            :class:`~blockstep.models.hyperparameters.Hyperparameter` in it.
        proportions: The share of each partition; they sum to one, at most 255. Of every tensor a
            partition has its exact share, rounded.
        seed: Of the assignment, and of seeded defaults.
        defaults: What subnetworks have in place of later partitions: ``initial`` values, ``zero``
            (with normalisation layers), or ``seeded`` ones, for which the weights of partitions 2
            and on are drawn anew, normal with the mean and deviation of their tensor.
        kind: ``random``: entry by entry; ``node``: by the outputs of each layer.
        hyperparameters: Names of parameters, or of modules, that are learned as hyperparameters.
        rules: Kinds of the parameters of further classes; see :mod:`.kinds`.
        outputs: The layer that yields the logits, which ``node`` does not divide by outputs; by
            default the last one that the module lists.

    Raises:
        ValueError: An argument is impossible, or a parameter cannot be partitioned; it is named.
    """
    shares = check_proportions(proportions)
    for name, value, valid in (("defaults", defaults, DEFAULTS), ("kind", kind, SCHEMES)):
        if value not in valid:
            raise ValueError(f"{name}={value!r}; valid are {', '.join(valid)}")
    network = copy.deepcopy(module)
    entries, learned = find_entries(network, hyperparameters=hyperparameters, rules=rules)
    split = [entry for entry in entries if entry.kind == SPLIT]
    generator = torch.Generator().manual_seed(seed)
    last: nn.Module | None = None
    if kind == "node":
        last = split[-1].places[0][0] if outputs is None else network.get_submodule(outputs)
        assigned = by_node(split, shares, generator, outputs=last)
    else:
        assigned = randomly(split, shares, generator)
    return PartitionedModule(
        network,
        entries,
        proportions=shares,
        assigned=[own.to(split[0].tensor.device) for own in assigned],
        defaults=defaults,
        seed=seed,
        hyperparameters=learned,
        outputs=last,
    )
