"""What the blocks of a network cost on a device, at any batch: seconds, gradients and memory."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from ...models import HeadSpec
from ..balance import balanced_cuts
from ..decoupling import NO_HEAD
from ..profile import Profile
from ..split import uniform
from .measurements import Measurements
from .reduction import Piece

__all__ = ["LABEL_BYTES", "BlockCosts", "Bounds", "Costs"]

LABEL_BYTES = 8
"""Of a label: int64. They travel with the activations."""

GRADIENT_BYTES = 4
"""Of a parameter's gradient, and of the parameter: float32, whatever autocast computes in."""

CLASSIFIER_FORWARD = 1 / 3
"""The share of the forward pass in the measured seconds of a classifier or head: an assumption."""

Bounds = tuple[int, int]
"""First and last layer of a block, from 1."""


@dataclass(frozen=True)
class BlockCosts:
    """A block's step for some examples.

    Attributes:
        forward: Seconds of the forward pass, with its head.
        backward: The pieces of backward, in the order in which they are computed.
        update: Seconds of the optimizer.
    """

    forward: float
    backward: tuple[Piece, ...]
    update: float

    @property
    def back(self) -> float:
        """Seconds of backward."""
        return sum(piece.seconds for piece in self.backward)

    @property
    def seconds(self) -> float:
        """Of everything."""
        return self.forward + self.back + self.update


class Costs:
    """Asks measurements about blocks.

    Args:
        measurements: What was measured.
        scale: How many times as fast as the measured device the device is.
        optimizer_copies: Tensors of a parameter's size that the optimizer keeps.
    """

    def __init__(
        self, measurements: Measurements, *, scale: float = 1.0, optimizer_copies: int = 1
    ) -> None:
        self.measurements = measurements
        self.copies = 2 + optimizer_copies
        self._scale = scale
        self._profiles: dict[int, Profile] = {}

    def scaled(self, scale: float) -> Costs:
        """Return the costs on a device that is so many times as fast as the measured one."""
        return Costs(self.measurements, scale=scale, optimizer_copies=self.copies - 2)

    @property
    def layers(self) -> int:
        """How many layers the network has."""
        return self.measurements.largest.layers

    def profile(self, batch: int) -> Profile:
        """Return the profile at a batch size, of the measured device."""
        if batch not in self._profiles:
            self._profiles[batch] = self.measurements.at(batch)
        return self._profiles[batch]

    def cuts(self, kind: str, blocks: int, head: HeadSpec, batch: int) -> tuple[int, ...]:
        """Return where a network is cut into blocks.

        Args:
            kind: ``balanced`` or ``uniform``.
            blocks: How many blocks.
            head: Of each but the last, or ``NO_HEAD``.
            batch: For which the blocks are balanced.

        Raises:
            DecouplingError: It cannot be cut into so many.
        """
        if kind == "uniform":
            return uniform(self.layers, blocks)
        return balanced_cuts(self.profile(batch), blocks, head)

    def bounds(self, cuts: Sequence[int]) -> list[Bounds]:
        """Return the first and last layers of the blocks between cuts."""
        edges = [0, *cuts, self.layers]
        return [(first + 1, last) for first, last in itertools.pairwise(edges)]

    def block(self, bounds: Bounds, head: HeadSpec, batch: int, *, alone: bool) -> BlockCosts:
        """Return what a step of a block costs.

        Args:
            bounds: Its layers.
            head: Its head, unless it ends with the last layer; ``NO_HEAD`` for none.
            batch: Examples.
            alone: Whether no errors go on to the block before it.

        Raises:
            ProfileError: The head was not measured, or does not fit there.
        """
        profile, (first, last) = self.profile(batch), bounds
        forward, update = 0.0, 0.0
        pieces: list[Piece] = []
        # A gradient goes on towards the input only while a layer before has use for it.
        wanted = not alone and first > 1
        for layer in range(first - 1, last):
            both = profile.inner[layer] if wanted else profile.entry[layer]
            ahead = min(profile.forward[layer], both)
            forward += ahead
            update += profile.update[layer]
            pieces.append(self._piece(both - ahead, profile.parameters[layer]))
            wanted = wanted or profile.parameters[layer] > 0
        both, own_update, parameters = self._head(bounds, head, profile)
        if both:
            forward += both * CLASSIFIER_FORWARD
            update += own_update
            pieces.append(self._piece(both * (1 - CLASSIFIER_FORWARD), parameters))
        return BlockCosts(forward / self._scale, tuple(reversed(pieces)), update / self._scale)

    def boundary(self, cut: int, batch: int) -> int:
        """Return the bytes of a layer's output for a batch."""
        largest = self.measurements.largest
        return largest.boundary_bytes[cut - 1] * batch // largest.batch_size

    def parameters(self, bounds: Bounds, head: HeadSpec) -> int:
        """Return the trainable parameters of a block with its head; those of an unknown head are
        not counted."""
        profile, (first, last) = self.measurements.largest, bounds
        return sum(profile.parameters[first - 1 : last]) + self._head(bounds, head, profile)[2]

    def activations(self, bounds: Bounds, head: HeadSpec, batch: int) -> int | None:
        """Return the bytes between forward and backward, with the block's input; None if unknown.

        Args:
            bounds: The layers.
            head: The head behind them, unless they end with the last layer.
            batch: Examples.
        """
        storage, (first, last) = self.measurements.storage, bounds
        if storage is None:
            return None
        own = sum(storage.layers[first - 1 : last])
        if last == self.layers:
            own += storage.classifier
        elif head != NO_HEAD:
            own += storage.heads[self.measurements.largest.head_index(head)][last - 1] or 0
        return own * batch + self.input_bytes(first, batch)

    def input_bytes(self, first: int, batch: int) -> int:
        """Return the bytes of a block's input; 0 for an unknown input of the first."""
        if first > 1:
            return self.boundary(first - 1, batch)
        storage = self.measurements.storage
        return 0 if storage is None else storage.inputs * batch

    def weights(self, bounds: Bounds, head: HeadSpec) -> int:
        """Return the bytes of a block's weights, their gradients and what the optimizer keeps."""
        return self.parameters(bounds, head) * GRADIENT_BYTES * self.copies

    def _piece(self, seconds: float, parameters: int) -> Piece:
        return Piece(seconds / self._scale, parameters * GRADIENT_BYTES)

    def _head(self, bounds: Bounds, head: HeadSpec, profile: Profile) -> tuple[float, float, int]:
        """Return seconds, seconds of the update, and parameters of what ends a block."""
        last = bounds[1]
        if last == self.layers:
            return (
                profile.classifier_seconds,
                profile.classifier_update,
                profile.classifier_parameters,
            )
        if head == NO_HEAD:
            return 0.0, 0.0, 0
        index = profile.head_index(head)
        both, update = profile.head_seconds[index][last - 1], profile.head_update[index][last - 1]
        if both is None or update is None:
            profile.block_seconds(*bounds, index)  # Says what does not fit.
            raise AssertionError
        storage = self.measurements.storage
        known = 0 if storage is None else storage.head_parameters[index][last - 1] or 0
        return both, update, known
