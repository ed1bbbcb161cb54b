"""What becomes of each parameter: divided among the partitions, or one per partition.

    split     every entry belongs to one partition; elsewhere it has its default value
    product   every partition has a tensor of its own; subnetwork k multiplies those of 1..k
    sum       likewise, and adds them

Weights are split; the scales and biases of normalisation layers and FixUp's scalars are products
and sums (Mlodozeniec et al., ICLR 2023, section 3 and appendix I.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ..fixup import Bias, Scale
from ..hyperparameters.hyperparameter import Hyperparameter

__all__ = ["KINDS", "PRODUCT", "SPLIT", "SUM", "Entry", "Rules", "find_entries"]

SPLIT, PRODUCT, SUM = "split", "product", "sum"
CHOICES = (SPLIT, PRODUCT, SUM)

Rules = Mapping[type[nn.Module], Mapping[str, str]]
"""Kinds of the parameters of a class, by attribute; they hold for its subclasses too."""

_WEIGHTS = {"weight": SPLIT, "bias": SPLIT}
_AFFINE = {"weight": PRODUCT, "bias": SUM}

KINDS: Rules = {
    nn.Linear: _WEIGHTS,
    nn.Conv1d: _WEIGHTS,
    nn.Conv2d: _WEIGHTS,
    nn.Embedding: {"weight": SPLIT},
    nn.BatchNorm1d: _AFFINE,
    nn.BatchNorm2d: _AFFINE,
    nn.LayerNorm: _AFFINE,
    nn.GroupNorm: _AFFINE,
    nn.InstanceNorm1d: _AFFINE,
    nn.InstanceNorm2d: _AFFINE,
    nn.RMSNorm: {"weight": PRODUCT},
    Scale: {"scale": PRODUCT},
    Bias: {"bias": SUM},
}
"""What can be partitioned."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A parameter that is partitioned.

    Attributes:
        name: Its dotted name in the module; the first, where it has several.
        kind: ``split``, ``product`` or ``sum``.
        places: The modules that use it, each with the attribute.
        names: All its names, one per place.
        tensor: Its initial value.
    """

    name: str
    kind: str
    places: tuple[tuple[nn.Module, str], ...]
    names: tuple[str, ...]
    tensor: Tensor


def find_entries(
    module: nn.Module, *, hyperparameters: Sequence[str] = (), rules: Rules | None = None
) -> tuple[list[Entry], list[str]]:
    """Decide on every parameter of ``module``.

    Args:
        module: The network; parameters that require no gradient stay as they are.
        hyperparameters: Dotted names of parameters, or of modules with all that is in them, that
            are learned as hyperparameters. What belongs to a :class:`Hyperparameter` always is.
        rules: Kinds beside, or instead of, those of ``KINDS``.

    Returns:
        What is partitioned, and the names of the hyperparameters.

    Raises:
        ValueError: A parameter cannot be partitioned, a name leads nowhere, or nothing is left.
    """
    known = _checked_rules({**KINDS, **(rules or {})})
    learned = _hyperparameters(module, hyperparameters)
    found: dict[int, Entry] = {}
    for prefix, part in module.named_modules():
        for attribute, tensor in part._parameters.items():
            name = f"{prefix}.{attribute}" if prefix else attribute
            if tensor is None or not tensor.requires_grad or id(tensor) in learned:
                continue
            kind = _kind(part, attribute, name, known)
            entry = found.get(id(tensor), Entry(name, kind, (), (), tensor.detach()))
            if entry.kind != kind:
                raise ValueError(
                    f"the parameter {name} is {entry.name} as well, but as {kind} there and as "
                    f"{entry.kind} here; give each a tensor of its own"
                )
            places = (*entry.places, (part, attribute))
            names = (*entry.names, name)
            found[id(tensor)] = Entry(entry.name, kind, places, names, entry.tensor)
    entries = list(found.values())
    if not any(entry.kind == SPLIT for entry in entries):
        raise ValueError(f"{type(module).__name__} has no weights to partition")
    _check_alike(entries)
    return entries, list(learned.values())


def _checked_rules(rules: Rules) -> Rules:
    for owner, kinds in rules.items():
        for attribute, kind in kinds.items():
            if kind not in CHOICES:
                raise ValueError(
                    f"the rule for {owner.__name__}.{attribute} is {kind!r}; valid are "
                    f"{', '.join(CHOICES)}"
                )
    return rules


def _hyperparameters(module: nn.Module, names: Sequence[str]) -> dict[int, str]:
    """Return the names of the hyperparameters' tensors by their identity."""
    parameters = dict(module.named_parameters())
    chosen: dict[int, str] = {}
    for prefix, part in module.named_modules():
        if isinstance(part, Hyperparameter):
            chosen |= {id(own): f"{prefix}.{key}" for key, own in part.named_parameters()}
    for wanted in names:
        below = [n for n in parameters if n == wanted or n.startswith(f"{wanted}.")]
        if not below:
            raise ValueError(
                f"the hyperparameter {wanted} is no parameter and no module with parameters; there "
                f"are {', '.join(_first(parameters))}"
            )
        chosen |= {id(parameters[name]): name for name in below}
    for name, tensor in parameters.items():
        if id(tensor) in chosen and not (tensor.requires_grad and tensor.is_floating_point()):
            raise ValueError(
                f"the hyperparameter {name} requires no gradient and cannot be learned"
            )
    return {key: name.removeprefix(".") for key, name in chosen.items()}


def _first(names: Mapping[str, Tensor], count: int = 8) -> list[str]:
    listed = list(names)
    return listed if len(listed) <= count else [*listed[:count], f"{len(listed) - count} more"]


def _kind(part: nn.Module, attribute: str, name: str, rules: Rules) -> str:
    tensor = part._parameters[attribute]
    if isinstance(tensor, nn.parameter.UninitializedParameter):
        raise ValueError(f"the parameter {name} has no shape yet; run a batch through the network")
    for base in type(part).__mro__:
        if attribute in rules.get(base, {}):
            _check_options(part, name)
            return rules[base][attribute]
    raise ValueError(
        f"the parameter {name} of a {type(part).__name__} cannot be partitioned; known are "
        f"{', '.join(owner.__name__ for owner in rules)}. Say what becomes of it with "
        f"rules={{{type(part).__name__}: {{{attribute!r}: 'split'}}}}, or name it in "
        "hyperparameters"
    )


def _check_options(part: nn.Module, name: str) -> None:
    if isinstance(part, nn.Embedding) and (part.sparse or part.max_norm is not None):
        option = "sparse=True" if part.sparse else f"max_norm={part.max_norm}"
        raise ValueError(
            f"the parameter {name} cannot be partitioned: its Embedding has {option}, which works "
            "on the stored tensor; make it without"
        )


def _check_alike(entries: list[Entry]) -> None:
    first = entries[0]
    for entry in entries:
        one, other = first.tensor, entry.tensor
        if (one.dtype, one.device) != (other.dtype, other.device):
            raise ValueError(
                f"{first.name} is {one.dtype} on {one.device} and {entry.name} is {other.dtype} "
                f"on {other.device}; a partitioned network has one type and one device"
            )
