"""The kinds of hyperparameters by name: put into a network, read out of it, and put back.

    affine, affine_ranges, augerino   random changes of images; S copies are averaged
    mask                              multiplies the inputs
    dropout                           the rates of the network's nn.Dropout
    layers                            parameters of the network itself, by name
    none                              nothing

What was found is told in numbers that a reader knows, by kind:

    {"affine": {"translate_x": 0.05, ..., "rotation": 3.1}}      the size of each range
    {"affine_ranges": {"rotation": [-3.1, 3.1], ...}}            both ends
    {"augerino": {"rotation": 6.2, ...}}                         the width of each
    {"mask": [2.1, -0.4, ...]}                                   logits, in the shape of an example
    {"dropout": {"hidden.0.3": 0.12, ...}}                       rates, by the module's name
    {"layers": {"conv1.weight": [[...]], ...}}                   values
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..network import Network
from .affine import Affine, AffineGenerators, AffineRanges
from .augerino import Augerino
from .averaging import Averaged
from .dropout import ConcreteDropout, learn_dropout
from .hyperparameter import Hyperparameter
from .mask import ConcreteMask

__all__ = ["AUGMENTATIONS", "KINDS", "Psi", "attach", "found", "put"]

AUGMENTATIONS = ("affine", "affine_ranges", "augerino")
KINDS = (*AUGMENTATIONS, "mask", "dropout", "layers", "none")


@dataclass(frozen=True)
class Psi:
    """What is learned, and how it begins.

    Attributes:
        kind: One of ``KINDS``.
        samples: S, changed copies of each image whose logits are averaged.
        training_samples: S in training; None: as many.
        initial: Every number at first; None: the kind's own.
        rotation: The rotation's at first; None: ``initial``.
        symmetric: Of ``affine_ranges``.
        temperature: Of masks and dropout; None: 0.5 and 0.1.
        layers: Names of parameters, or of modules, for ``layers``.
    """

    kind: str
    samples: int = 20
    training_samples: int | None = None
    initial: float | None = None
    rotation: float | None = None
    symmetric: bool = True
    temperature: float | None = None
    layers: Sequence[str] = ()


def attach(network: Network, psi: Psi, *, shape: Sequence[int]) -> Network:
    """Put hyperparameters into a network, whose parts are used, not copied.

    Args:
        network: The network.
        psi: What is learned.
        shape: Of one example.

    Returns:
        The network with them: one layer where several copies are averaged, because an average
        cannot be cut; else cut where it was.

    Raises:
        ValueError: The network or the examples have no place for them.
    """
    if psi.kind in AUGMENTATIONS:
        if len(shape) != 3:
            raise ValueError(
                f"psi={psi.kind} changes images (C, H, W), the examples have the shape "
                f"{tuple(shape)}; choose psi=mask, dropout or layers"
            )
        return _averaged(network, _change(psi), psi)
    if psi.kind == "mask":
        temperature = 0.5 if psi.temperature is None else psi.temperature
        mask = ConcreteMask(tuple(shape), temperature=temperature, initial=psi.initial or 0.0)
        return _before(network, mask)
    if psi.kind == "dropout":
        temperature = 0.1 if psi.temperature is None else psi.temperature
        parts = (*network.layers, network.classifier)
        learn_dropout(network.module, temperature=temperature, layers=parts)
    return network


def _change(psi: Psi) -> Affine:
    if psi.kind == "augerino":
        return Augerino(initial=psi.initial or 0.0, rotation=psi.rotation)
    initial = 0.05 if psi.initial is None else psi.initial
    if psi.kind == "affine_ranges":
        radians = initial if psi.rotation is None else psi.rotation
        return AffineRanges(symmetric=psi.symmetric, radians=radians, initial=initial)
    change = AffineGenerators(initial=initial)
    if psi.rotation is not None:
        with torch.no_grad():
            change.ranges[2] = psi.rotation
    return change


def _averaged(network: Network, change: Affine, psi: Psi) -> Network:
    most = max(psi.samples, psi.training_samples or 1)
    if most == 1:
        return _before(network, change)
    module = Averaged(
        change, network.module, samples=psi.samples, training_samples=psi.training_samples
    )
    return replace(network, module=module, layers=(module,), classifier=nn.Identity())


def _before(network: Network, change: nn.Module) -> Network:
    first, *others = network.layers
    layers = (nn.Sequential(change, first), *others)
    return replace(network, module=Averaged(change, network.module, samples=1), layers=layers)


def found(module: nn.Module, psi: Psi) -> dict[str, Any]:
    """Return what a network's hyperparameters are, by kind; see above.

    Args:
        module: What :func:`attach` made, or a module with it inside.
        psi: What was attached.
    """
    kind = psi.kind
    if kind == "none":
        return {}
    if kind == "layers":
        named = _chosen(module, psi.layers)
        return {kind: {name: tensor.detach().tolist() for name, tensor in named.items()}}
    if kind == "dropout":
        rates = _dropouts(module)
        return {kind: {name: part.readable()["rate"][0] for name, part in rates.items()}}
    part = _only(module)
    if isinstance(part, ConcreteMask):
        return {kind: part.mask.detach().tolist()}
    return {
        kind: {
            name: values[0] if len(values) == 1 else values
            for name, values in part.readable().items()
        }
    }


@torch.no_grad()
def put(module: nn.Module, psi: Psi, values: Mapping[str, Any]) -> list[nn.Parameter]:
    """Set a network's hyperparameters to what :func:`found` returned.

    Args:
        module: What :func:`attach` made.
        psi: What was attached.
        values: What was found, of the same kind.

    Returns:
        The parameters that were set.

    Raises:
        ValueError: The values do not fit: another kind, names or shapes; both are told.
    """
    kind = psi.kind
    if list(values) != [kind]:
        raise ValueError(f"there is {', '.join(values) or 'nothing'}, not {kind}")
    inner = values[kind]
    if kind == "layers":
        return _put_layers(module, psi, inner)
    if kind == "dropout":
        return _put_rates(module, inner)
    part = _only(module)
    if isinstance(part, ConcreteMask):
        return [_fill(part.mask, inner, "mask")]
    assert isinstance(part, AffineGenerators | AffineRanges | Augerino)
    names = list(part.readable())
    if not isinstance(inner, Mapping) or sorted(inner) != sorted(names):
        told = sorted(inner) if isinstance(inner, Mapping) else type(inner).__name__
        raise ValueError(f"{kind} has {told}; it must have {sorted(names)}")
    numbers = [inner[name] for name in names]
    if isinstance(part, AffineGenerators):
        return [_fill(part.ranges, numbers, kind)]
    if isinstance(part, Augerino):
        if any(_number(one, kind) <= 0 for one in numbers):
            raise ValueError(f"{kind} has widths {numbers}; they are above 0")
        # log(exp(w) - 1), in a form that holds for large ones too
        return [_fill(part.raw, [one + math.log(-math.expm1(-one)) for one in numbers], kind)]
    ends = torch.empty(len(names), 2)
    _fill(ends, numbers, kind)
    if part.symmetric:
        return [_fill(part.sizes, ((ends[:, 1] - ends[:, 0]) / 2).tolist(), kind)]
    return [_fill(part.low, ends[:, 0].tolist(), kind), _fill(part.high, ends[:, 1].tolist(), kind)]


def _put_layers(module: nn.Module, psi: Psi, inner: Any) -> list[nn.Parameter]:
    named = _chosen(module, psi.layers)
    if not isinstance(inner, Mapping) or sorted(inner) != sorted(named):
        told = sorted(inner) if isinstance(inner, Mapping) else type(inner).__name__
        raise ValueError(f"layers has {told}; the network has {sorted(named)}")
    return [_fill(tensor, inner[name], name) for name, tensor in named.items()]


def _put_rates(module: nn.Module, inner: Any) -> list[nn.Parameter]:
    parts = _dropouts(module)
    if not isinstance(inner, Mapping) or sorted(inner) != sorted(parts):
        told = sorted(inner) if isinstance(inner, Mapping) else type(inner).__name__
        raise ValueError(f"dropout has {told}; the network has {sorted(parts)}")
    for name in parts:
        if not 0 < _number(inner[name], name) < 1:
            raise ValueError(
                f"dropout has the rate {inner[name]} for {name}; it is between 0 and 1"
            )
    return [
        _fill(part.keep, -math.log(inner[name] / (1 - inner[name])), name)
        for name, part in parts.items()
    ]


def _fill(tensor: Tensor, value: Any, name: str) -> Any:
    """Copy numbers of the same shape into a tensor, and return it."""
    try:
        made = torch.tensor(value, dtype=torch.float64)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{name} is not made of numbers: {error}") from None
    if made.shape != tensor.shape:
        raise ValueError(
            f"{name} has shape {tuple(made.shape)}, the network's has {tuple(tensor.shape)}"
        )
    if not made.isfinite().all():
        raise ValueError(f"{name} has numbers that are not finite")
    tensor.copy_(made)
    return tensor


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} has {value!r}, not a number")
    return float(value)


def _only(module: nn.Module) -> Hyperparameter:
    return next(part for part in module.modules() if isinstance(part, Hyperparameter))


def _dropouts(module: nn.Module) -> dict[str, ConcreteDropout]:
    return {
        name: part for name, part in module.named_modules() if isinstance(part, ConcreteDropout)
    }


def _chosen(module: nn.Module, names: Sequence[str]) -> dict[str, nn.Parameter]:
    """Return the parameters with these names, or below them."""
    return {
        name: tensor
        for name, tensor in module.named_parameters()
        if any(name == one or name.startswith(f"{one}.") for one in names)
    }
