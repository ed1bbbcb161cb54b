"""The examples of a federation: who holds which, and how any of them become a batch."""

from __future__ import annotations

from torch import Tensor

from ...search.federated import (
    Population,
    angle_bins,
    assign_chunks,
    deal,
    deal_alike,
)
from ..data import Data, MemoryData
from ..data.rotation import draw_angles
from ..refusal import ConfigError
from .config import FederateConfig

__all__ = ["HeldExamples", "in_memory", "populate", "turn"]


class HeldExamples:
    """A split of a data set, by number; see :class:`blockstep.search.partitioned.Examples`.

    Args:
        data: The data set.
        split: Which part of it.
    """

    def __init__(self, data: MemoryData, split: str) -> None:
        self._data = data
        self._part = data.held(split)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._part)

    def batch(self, indices: Tensor, step: int | None) -> tuple[Tensor, Tensor]:
        """See :meth:`Examples.batch`."""
        indices = indices.to(self._part.x.device, non_blocking=True)
        x = self._part.x.index_select(0, indices)
        return self._data.prepare(x, step), self._part.labels.index_select(0, indices)


def in_memory(data: Data) -> MemoryData:
    """Return the data set, whose examples clients hold by their numbers.

    Raises:
        ConfigError: It is read from files as it goes.
    """
    if not isinstance(data, MemoryData):
        raise ConfigError(
            f"data={data.name}: a federation deals out examples that are held in memory, and this "
            "data set is read file by file; choose digits, mnist, fashion_mnist, cifar10 or "
            "cifar100, or give tensors of your own"
        )
    return data


def populate(config: FederateConfig, data: MemoryData) -> Population:
    """Deal out the training examples and put every client into a chunk.

    Raises:
        ConfigError: There are fewer examples than clients, or a chunk has no client.
    """
    settings = config.federate
    labels = data.held("train").labels.cpu()
    try:
        if settings.skew == "none":
            dealt = deal_alike(len(labels), settings.clients)
        else:
            kinds = labels
            if settings.skew == "rotation":
                kinds = angle_bins(draw_angles(len(labels), "train"), settings.bins)
            dealt = deal(kinds, settings.clients, alpha=settings.alpha)
    except ValueError as error:
        raise ConfigError(f"federate.clients={settings.clients}: {error}") from error
    try:
        chunks = assign_chunks(
            settings.clients,
            settings.shares,
            exactly=settings.assignment == "exact",
            seed=config.seed,
        )
    except ValueError as error:
        raise ConfigError(f"federate.chunks={settings.chunks}: {error}") from error
    return Population(
        dealt,
        chunks,
        per_round=settings.per_round,
        unreachable=settings.unreachable,
        seed=config.seed,
    )


def turn(config: FederateConfig, data: MemoryData) -> None:
    """Turn every image of every split once, where clients differ in the angles."""
    if config.federate.skew == "rotation":
        parts = [split for split, size in data.sizes.items() if size]
        data.rotate({split: draw_angles(data.sizes[split], split) for split in parts})
