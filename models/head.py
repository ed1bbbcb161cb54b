"""The heads that give blocks their local loss, by name; and where to add another.

A head is a module from a block's output to logits (B, classes). It must leave its input as it is:
the next block learns from it.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any

import torch
from torch import nn

from .auxiliary import TokenMean, image_aux, token_aux, vector_aux
from .initialization import initialize
from .mlp_sr import mlp_sr
from .mode import evaluating
from .predsim import PredSim

__all__ = ["HEADS", "HeadSpec", "make_head"]

HeadSpec = str | Mapping[str, Any]
"""A name of ``HEADS``, or ``{"_target_": "package.Class", **arguments}``."""

KINDS = {1: "vectors (B, C)", 2: "tokens (B, T, C)", 3: "images (B, C, H, W)"}

Shape = tuple[int, ...]


def _aux(number: int, shape: Shape, classes: int, features: int, reduction: int) -> nn.Module:
    common = {"classes": classes, "features": features, "reduction": reduction}
    if len(shape) == 3:
        return image_aux(number, shape=(shape[0], shape[1], shape[2]), **common)
    make = token_aux if len(shape) == 2 else vector_aux
    return make(number, channels=shape[-1], **common)


def _mlp_sr(shape: Shape, classes: int, features: int, reduction: int) -> nn.Module:
    if len(shape) != 3:
        raise ValueError(f"the head mlp_sr is for images (B, C, H, W), not for (B, *{shape})")
    return mlp_sr(shape=(shape[0], shape[1], shape[2]), classes=classes)


def _predsim(shape: Shape, classes: int, features: int, reduction: int) -> nn.Module:
    return PredSim(shape, classes, inputs=features)


def _linear(shape: Shape, classes: int, features: int, reduction: int) -> nn.Module:
    if len(shape) == 3:
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(*pool, nn.Linear(shape[0], classes))
    if len(shape) == 2:
        return nn.Sequential(TokenMean(), nn.Linear(shape[-1], classes))
    return nn.Sequential(nn.Linear(shape[0], classes))


HEADS: dict[str, Callable[[Shape, int, int, int], nn.Module]] = {
    **{f"aux{number}": partial(_aux, number) for number in range(1, 5)},
    "mlp_sr": _mlp_sr,
    "predsim": _predsim,
    "linear": _linear,
}
"""Heads by name: functions of shape, classes, features and reduction."""


def make_head(
    spec: HeadSpec,
    *,
    shape: Sequence[int],
    classes: int,
    features: int = 512,
    reduction: int = 4,
) -> nn.Module:
    """Make a head with initial weights from torch's generator.

    Args:
        spec: A name, or a user's class by ``_target_``; the class gets ``shape`` and ``classes``
            where its signature has them.
        shape: Of the block's output without the batch: (C, H, W), (T, C) or (C,).
        classes: Number of classes.
        features: Width F of Aux heads; what PredSim's predictor gets at most.
        reduction: Aux heads work on C // reduction channels.

    Raises:
        ValueError: The head is unknown, cannot be made, or does not yield (B, classes).
    """
    if len(shape) not in KINDS:
        raise ValueError(
            f"no head for outputs of shape (B, {', '.join(map(str, shape))}); there are heads for "
            f"{', '.join(KINDS.values())}"
        )
    if not isinstance(spec, str):
        return _users_head(spec, tuple(shape), classes)
    if spec not in HEADS:
        close = get_close_matches(spec, HEADS, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ValueError(
            f"unknown head {spec!r}; {hint}known are {', '.join(HEADS)} and "
            "{_target_: package.Class}"
        )
    head = HEADS[spec](tuple(shape), classes, features, reduction)
    initialize(head)
    return head


def _users_head(spec: Mapping[str, Any], shape: Shape, classes: int) -> nn.Module:
    target = spec.get("_target_") if isinstance(spec, Mapping) else None
    if not isinstance(target, str):
        raise ValueError(
            f"the head {spec!r} is neither a name ({', '.join(HEADS)}) nor has a _target_; write "
            "{_target_: package.Class}"
        )
    module_name, _, name = target.rpartition(".")
    try:
        made = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"the head {target} cannot be imported ({error}); give package.Class of something "
            "importable from the current folder"
        ) from error
    if not callable(made):
        raise ValueError(f"the head {target} is a {type(made).__name__}; name a class or function")
    offered: dict[str, Any] = {"shape": shape, "classes": classes}
    try:
        known = inspect.signature(made).parameters
        arguments = {key: value for key, value in offered.items() if key in known}
        arguments |= {key: value for key, value in spec.items() if key != "_target_"}
        head = made(**arguments)
    except TypeError as error:
        raise ValueError(f"the head {target} cannot be made: {error}") from error
    return _checked(head, target, shape, classes)


def _checked(head: Any, target: str, shape: Shape, classes: int) -> nn.Module:
    if not isinstance(head, nn.Module):
        raise ValueError(f"the head {target} is a {type(head).__name__}, not a torch.nn.Module")
    try:
        with evaluating(head), torch.no_grad():
            logits = head(torch.zeros(2, *shape))
    except Exception as error:
        raise ValueError(
            f"the head {target} fails on an input of shape (2, {', '.join(map(str, shape))}): "
            f"{error}"
        ) from error
    made = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if made != (2, classes):
        raise ValueError(
            f"the head {target} yields {made} for 2 examples; it has to yield (2, {classes}): "
            "logits per class"
        )
    return head
