"""The split weights of a subnetwork, composed in one flat tensor.

    flat      [ conv1.weight | conv2.weight | fc.weight | fc.bias ]     N entries
    assignment  1 1 2 1 3 1    2 1 1 3 ...                              N bytes
    subnetwork 2: entries of partitions 1 and 2 have their values, those of 3 their default

The flat tensor is kept between calls. Only what has changed is written: after a training step that
is one partition. A call that learns copies it, puts the learning partition's values in place, and
hands out views; so a gradient costs one gather more, however many tensors there are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from .defaults import Defaults

__all__ = ["SplitWeights"]

DEFAULT = ("default",)

Stamp = tuple[object, ...]


class SplitWeights(nn.Module):
    """Composes the weights of kind ``split``.

    Args:
        shapes: Of the tensors, in order.
        assigned: Of each tensor, uint8 (entries,).
        counts: For each partition how many entries it has of each tensor.
        defaults: What stands where a subnetwork has no weights.
    """

    def __init__(
        self,
        shapes: Sequence[torch.Size],
        assigned: Sequence[Tensor],
        counts: Sequence[Sequence[int]],
        defaults: Defaults,
    ) -> None:
        super().__init__()
        self.register_buffer("assignment", torch.cat(list(assigned)))
        self.defaults = defaults
        self._shapes = list(shapes)
        self._numbers = [shape.numel() for shape in shapes]
        self._sizes = [sum(own) for own in counts]
        self._flat: Tensor | None = None
        self._held: list[Stamp | None] = []
        self._basis: Stamp = ()

    def entries(self, partition: int) -> Tensor:
        """Return int64 (n,): which entries of the flat tensor a partition has, ascending."""
        mine = self.get_buffer("assignment") == partition
        if mine.is_cpu:
            return mine.nonzero().view(-1)  # twice as fast there
        # The number is known: the host need not wait for the device to count.
        return torch.nonzero_static(mine, size=self._sizes[partition]).view(-1)

    def assigned(self) -> list[Tensor]:
        """Return uint8 views: the partition, from 0, of every entry of each tensor."""
        pieces = self.get_buffer("assignment").split(self._numbers)
        return [piece.view(shape) for piece, shape in zip(pieces, self._shapes, strict=True)]

    def compose(
        self, values: Sequence[Sequence[Tensor]], subnetwork: int, learning: Collection[int]
    ) -> list[Tensor]:
        """Return the tensors of a subnetwork.

        Args:
            values: The tensors of each partition, (n,), in order, without empty ones.
            subnetwork: How many partitions have their values.
            learning: Which of them, from 0, get a gradient.
        """
        self._bring(values, subnetwork, learning)
        flat = self._held_flat()
        if learning:
            for partition in sorted(learning):
                if not values[partition]:
                    continue
                joined = torch.cat(list(values[partition]))
                flat = flat.index_copy(0, self.entries(partition), joined)
        elif torch.is_grad_enabled():
            # A graph of hyperparameters may keep it, and the next call writes into it.
            flat = flat.clone()
        pieces = flat.split(self._numbers)
        return [piece.view(shape) for piece, shape in zip(pieces, self._shapes, strict=True)]

    def refresh(self) -> None:
        """Forget what was composed: needed only where ``parameter.data`` was written."""
        self._flat = None

    def _held_flat(self) -> Tensor:
        assert self._flat is not None
        return self._flat

    @torch.no_grad()
    def _bring(
        self, values: Sequence[Sequence[Tensor]], subnetwork: int, learning: Collection[int]
    ) -> None:
        """Write what differs from what the flat tensor holds; ``learning`` may stay as it is."""
        like = next(value for own in values for value in own)
        flat, basis = self._flat, _stamp(list(self.buffers()))
        if flat is None or flat.dtype != like.dtype or flat.device != like.device:
            with torch.inference_mode(False):  # later calls may need gradients through it
                self._flat = flat = like.new_empty(sum(self._numbers))
            self._basis = ()
        if basis != self._basis:  # another assignment, or other defaults, were loaded
            self._held = [None] * len(values)
            self._basis = basis
        for partition, own in enumerate(values):
            if partition in learning:
                # An optimizer will change it, some of them unseen by the version counter.
                self._held[partition] = None
                continue
            live = partition < subnetwork
            stamp = _stamp(own) if live else DEFAULT
            if not own or self._held[partition] == stamp:
                continue
            entries = self.entries(partition)
            if live:
                flat.scatter_(0, entries, torch.cat(list(own)))
            else:
                flat.scatter_(0, entries, self.defaults.of(partition).expand(len(entries)))
            self._held[partition] = stamp

    def __getstate__(self) -> dict[str, object]:
        """What a copy gets: not what was composed, whose stamps name the original's tensors."""
        return {**self.__dict__, "_flat": None}


def _stamp(tensors: Sequence[Tensor]) -> Stamp:
    """What changes with the values: the tensors, their memory and their versions."""
    return tuple((id(one), one.data_ptr(), one._version) for one in tensors)
