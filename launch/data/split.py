"""Which training examples are held out for validation, and which are used at all.

Both choices keep the share of every class and depend on the data set alone, never on the seed of
a run: runs with different seeds train on the same examples and can be compared.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...pipeline.seed import generator
from ..config import DataConfig
from .error import DataError
from .part import Part, Parts

__all__ = ["divide", "first", "hold_out", "quotas"]

SEED = 0


def divide(parts: Parts, config: DataConfig) -> dict[str, Part]:
    """The parts that a run uses.

    Args:
        parts: the data set. Where it has a validation part of its own, that one is used.
        config: ``validation`` is the share of the training part to hold out, 0 for no
            validation; ``train_examples`` then limits the training part.

    Returns:
        ``train``, ``test``, and ``validation`` where there is one.

    Raises:
        DataError: a part is empty, or more training examples are wanted than there are.
    """
    train, validation = parts.train, parts.validation
    if not config.validation:
        validation = None
    elif validation is None:
        kept, held = _validation(parts.name, train.labels, config.validation)
        train, validation = train.take(kept), train.take(held)
    if config.train_examples is not None:
        train = train.take(_limited(parts.name, train.labels, config.train_examples))
    chosen = {"train": train, "validation": validation, "test": parts.test}
    for split, part in chosen.items():
        if part is not None and not len(part):
            raise DataError(f"data set {parts.name}: its {split} part has no examples")
    return {split: part for split, part in chosen.items() if part is not None}


def hold_out(labels: Tensor, count: int, *, seed: int = SEED) -> tuple[Tensor, Tensor]:
    """Draws a stratified part at random.

    Args:
        labels: int64 (N,).
        count: how many examples to hold out, 0 to N.
        seed: of the draw.

    Returns:
        Indices of the rest and of what is held out, both ascending.
    """
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label, quota in enumerate(quotas(labels.bincount(), count).tolist()):
        members = (labels == label).nonzero().flatten()
        order = torch.randperm(len(members), generator=generator(seed, "hold out", label))
        held[members[order[:quota]]] = True
    return (~held).nonzero().flatten(), held.nonzero().flatten()


def first(labels: Tensor, count: int) -> Tensor:
    """Indices, ascending, of the first examples of each class, stratified, ``count`` together."""
    indices = [
        (labels == label).nonzero().flatten()[:quota]
        for label, quota in enumerate(quotas(labels.bincount(), count).tolist())
    ]
    return torch.cat(indices).sort().values


def quotas(sizes: Tensor, count: int) -> Tensor:
    """How many of each class make up ``count`` examples in the proportions of all.

    Largest remainders: the exact shares are rounded down, and what is left goes to the classes
    with the largest fractions, ties to the lower label.

    Args:
        sizes: int64 (classes,), examples per class.
        count: examples to distribute, at most the sum of ``sizes``.

    Returns:
        int64 (classes,) with sum ``count``.
    """
    total = int(sizes.sum())
    exact = sizes * count
    rounded = exact // total
    left = count - int(rounded.sum())
    order = (exact % total).argsort(descending=True, stable=True)
    rounded[order[:left]] += 1
    return rounded


def _validation(name: str, labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
    if not 0 <= share < 1:
        raise DataError(f"data.validation={share}: expected a share of the examples, in [0, 1)")
    count = round(share * len(labels))
    if not 0 < count < len(labels):
        raise DataError(
            f"data.validation={share}: of the {len(labels)} training examples of {name} that "
            f"holds out {count}; give a share that leaves some on both sides, or 0"
        )
    return hold_out(labels, count)


def _limited(name: str, labels: Tensor, count: int) -> Tensor:
    if not 0 < count <= len(labels):
        raise DataError(
            f"data.train_examples={count}: {name} has {len(labels)} training examples after the "
            f"validation part; give a number from 1 to {len(labels)}, or null for all"
        )
    return first(labels, count)
