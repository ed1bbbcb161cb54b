"""From measured layers to what each method would do on a cluster: speed, memory and traffic.

What is assumed, beside what :mod:`.costs` says:

- making batches takes no time, nor do evaluations, checkpoints and Python around a step;
- replicas of a stage, and copies of a pipeline, take equal parts of the batch, rounded up;
- copies of a pipeline agree on their gradients after their last micro-batch;
- memory is weights, gradients, optimizer, what autograd keeps, and queues; kernels need more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ...models import HeadSpec
from ..decoupling import NO_HEAD
from ..replication import divide
from .asynchronous import Work, simulate
from .cluster import Cluster
from .costs import GRADIENT_BYTES, LABEL_BYTES, Bounds, Costs
from .link import Wire
from .method import ERRORS_BACK, SCHEDULED, Method
from .prediction import Prediction, PredictionError
from .reduction import parallel_seconds, ring_seconds
from .schedule import chunks_per_rank, most_alive, program
from .synchronous import Flushed, Part, follow

__all__ = ["Planner"]

ROUNDS = (1, 2, 4, 8)
"""Micro-batches that are tried, in multiples of the ranks of a pipeline."""


class Planner:
    """Predicts methods on one cluster.

    Args:
        costs: Of the network on the measured device.
        cluster: The devices.
        batch: Examples per step, over all devices.
        microbatches: Of schedules; None for the fastest of some.
    """

    def __init__(
        self, costs: Costs, cluster: Cluster, *, batch: int, microbatches: int | None = None
    ) -> None:
        self._cluster, self._batch, self._microbatches = cluster, batch, microbatches
        self._whole: Bounds = (1, costs.layers)
        self._measured = costs
        self._costs = costs.scaled(cluster.scale / cluster.contention)
        single = costs.scaled(cluster.scale)
        self.alone = single.block(self._whole, NO_HEAD, batch, alone=True).seconds
        """Seconds per step of backpropagation on one device, the others idle."""

    @property
    def bandwidth(self) -> float:
        """Of the network, in bytes per second."""
        return self._cluster.wire.bandwidth

    def over(self, bandwidth: float) -> Planner:
        """Return a planner for the same devices with another network, in bytes per second."""
        wire = replace(self._cluster.wire, bandwidth=bandwidth)
        cluster = replace(self._cluster, wire=wire)
        return Planner(self._measured, cluster, batch=self._batch, microbatches=self._microbatches)

    def predict(self, method: Method, blocks: int) -> Prediction:
        """Predict a method.

        Args:
            method: Which.
            blocks: Into how many blocks the network is cut; no matter for methods that do not.

        Raises:
            PredictionError: It cannot be had so on this cluster.
            DecouplingError: The network cannot be cut into so many blocks.
            ProfileError: The method's head was not measured.
        """
        if method.kind == "backprop":
            return self._single(method)
        if method.kind == "ddp":
            return self._parallel(method, self._devices)
        if blocks > self._devices:
            raise PredictionError(
                f"blocks={blocks} need as many devices, but there are devices={self._devices}"
            )
        if method.kind in SCHEDULED:
            return self._scheduled(method, blocks)
        if method.kind in ERRORS_BACK:
            return self._errors_back(method, blocks)
        return self._decoupled(method, blocks)

    @property
    def _devices(self) -> int:
        return self._cluster.devices

    def _single(self, method: Method) -> Prediction:
        """Predict backpropagation on one device."""
        found = self._found(method, (), self.alone, devices=1, replicas=(1,))
        memory = self._memory(self._whole, NO_HEAD, self._batch)
        return replace(found, busy=(1.0,), memory=(memory,))

    def _parallel(self, method: Method, devices: int) -> Prediction:
        """Predict the whole network on each device."""
        rows = self._rows(devices)
        seconds = self._replicated(self._whole, NO_HEAD, devices, alone=True)
        own = self._costs.block(self._whole, NO_HEAD, rows, alone=True).seconds
        memory = self._memory(self._whole, NO_HEAD, rows)
        found = self._found(method, (), seconds, devices=devices, replicas=(devices,))
        return replace(
            found,
            busy=(own / seconds,),
            memory=(memory,),
            reduced=self._reduced([([self._whole], NO_HEAD, devices)]),
        )

    def _decoupled(self, method: Method, blocks: int) -> Prediction:
        """Predict blocks with losses of their own; further devices become replicas."""
        head = method.head
        cuts = self._costs.cuts(method.cuts, blocks, head, self._batch)
        bounds = self._costs.bounds(cuts)

        def seconds(block: int, replicas: int) -> float:
            return self._replicated(bounds[block], head, replicas, alone=True)

        devices = min(self._devices, blocks * self._batch)
        counts = divide(devices, blocks, seconds, use_all=False)
        work = [
            Work(seconds(number, count), out_bytes=self._message(one))
            for number, (one, count) in enumerate(zip(bounds, counts, strict=True))
        ]
        base = self._cluster.wire
        wires = [
            Wire(base.latency, base.bandwidth * min(pair)) for pair in itertools.pairwise(counts)
        ]
        course = simulate(work, wires=wires, room=self._cluster.room)
        found = self._found(method, cuts, course.seconds, devices=sum(counts), replicas=counts)
        return replace(
            found,
            busy=tuple(stage.busy / course.seconds for stage in course.stages),
            memory=tuple(
                self._add(self._memory(one, head, self._rows(count)), self._queues(one) // count)
                for one, count in zip(bounds, counts, strict=True)
            ),
            traffic=tuple(int(self._message(one)) for one in bounds[:-1]),
            reduced=self._reduced(
                ([one], head, count) for one, count in zip(bounds, counts, strict=True)
            ),
        )

    def _errors_back(self, method: Method, blocks: int) -> Prediction:
        """Predict Features Replay or DDG: one device per block."""
        cuts = self._costs.cuts(method.cuts, blocks, NO_HEAD, self._batch)
        bounds = self._costs.bounds(cuts)
        replays = method.kind == "features_replay"
        work, memory = [], []
        for number, one in enumerate(bounds):
            cost = self._costs.block(one, NO_HEAD, self._batch, alone=False)
            delay = blocks - 1 - number
            again = cost.forward if replays and delay else 0.0
            work.append(Work(cost.forward, again + cost.back + cost.update, self._message(one)))
            kept = self._history(one, delay, replays)
            queues = 2 * self._queues(one)
            memory.append(self._add(self._memory(one, NO_HEAD, self._batch), kept, queues))
        wires = [self._cluster.wire] * (blocks - 1)
        course = simulate(work, wires=wires, room=self._cluster.room, feedback=True)
        found = self._found(method, cuts, course.seconds, devices=blocks, replicas=(1,) * blocks)
        return replace(
            found,
            busy=tuple(stage.busy / course.seconds for stage in course.stages),
            memory=tuple(memory),
            traffic=tuple(int(2 * self._message(one)) for one in bounds[:-1]),
        )

    def _scheduled(self, method: Method, blocks: int) -> Prediction:
        """Predict a pipeline with micro-batches; further devices become copies of it."""
        copies, numbers = self._copies(method, blocks)
        rows = self._batch // copies
        count = blocks * chunks_per_rank(method.kind)
        cuts = self._costs.cuts(method.cuts, count, NO_HEAD, rows)
        bounds = self._costs.bounds(cuts)
        tried: dict[int, Flushed] = {}
        for parts in numbers:
            stages = [self._part(one, rows // parts, copies) for one in bounds]
            tried[parts] = follow(method.kind, stages, parts=parts, wire=self._cluster.wire)
        parts = min(tried, key=lambda parts: tried[parts].seconds)
        course = tried[parts]
        found = self._found(
            method, cuts, course.seconds, devices=blocks * copies, replicas=(copies,) * blocks
        )
        boundaries = (2 * copies * rows * self._costs.boundary(cut, 1) for cut in cuts)
        return replace(
            found,
            blocks=blocks,
            microbatches=parts,
            busy=tuple(busy / course.seconds for busy in course.busy),
            memory=self._ranks_memory(method.kind, bounds, blocks, parts, rows // parts),
            traffic=tuple(boundaries),
            reduced=self._reduced(
                (bounds[rank::blocks], NO_HEAD, copies) for rank in range(blocks)
            ),
        )

    def _copies(self, method: Method, ranks: int) -> tuple[int, list[int]]:
        """Return how many copies of a pipeline there are, and the micro-batches to try.

        As many copies as there are devices for and as the batch can be divided over equally.
        """
        asked = self._microbatches
        wanted = [asked] if asked is not None else [ranks * factor for factor in ROUNDS]
        least = 1 if method.kind == "gpipe" else ranks
        multiple = ranks if method.kind == "interleaved_1f1b" else 1
        for copies in range(self._devices // ranks, 0, -1):
            fitting = [
                parts
                for parts in wanted
                if self._batch % (copies * parts) == 0 and parts >= least and not parts % multiple
            ]
            if fitting:
                return copies, fitting
        raise PredictionError(
            f"train.batch_size={self._batch} cannot be divided into equal micro-batches for a "
            f"pipeline of {ranks} ranks ({', '.join(map(str, wanted))} were tried); give another "
            "train.batch_size or microbatches"
        )

    def _part(self, bounds: Bounds, rows: int, copies: int) -> Part:
        cost = self._costs.block(bounds, NO_HEAD, rows, alone=False)
        gradients = self._costs.parameters(bounds, NO_HEAD) * GRADIENT_BYTES
        agreement = ring_seconds(gradients, copies, self._cluster.wire)
        last = bounds[1] == self._costs.layers
        out = 0 if last else self._costs.boundary(bounds[1], rows)
        return Part(cost.forward, cost.back, cost.update + agreement, out)

    def _ranks_memory(
        self, kind: str, bounds: Sequence[Bounds], ranks: int, parts: int, rows: int
    ) -> tuple[int | None, ...]:
        """Return the bytes of each rank: its weights and the micro-batches that it keeps."""
        kept = [self._costs.activations(one, NO_HEAD, rows) for one in bounds]
        found: list[int | None] = []
        for rank in range(ranks):
            own = range(rank, len(bounds), ranks)
            if any(kept[stage] is None for stage in own):
                found.append(None)
                continue
            sizes = {
                stage: (kept[stage] or 0) + self._message(bounds[stage], rows) for stage in own
            }
            alive = most_alive(program(kind, rank, ranks=ranks, parts=parts), sizes)
            weights = sum(self._costs.weights(bounds[stage], NO_HEAD) for stage in own)
            found.append(int(weights + alive))
        return tuple(found)

    def _replicated(self, bounds: Bounds, head: HeadSpec, replicas: int, *, alone: bool) -> float:
        """Return the seconds of a block's step on replicas that agree on their gradients."""
        cost = self._costs.block(bounds, head, self._rows(replicas), alone=alone)
        return parallel_seconds(
            cost.forward,
            cost.backward,
            cost.update,
            replicas=replicas,
            wire=self._cluster.wire,
            overlap=self._cluster.overlap,
        )

    def _rows(self, replicas: int) -> int:
        """Return the examples of the replica that has most."""
        if replicas > self._batch:
            raise PredictionError(
                f"train.batch_size={self._batch} cannot be divided over {replicas} devices"
            )
        return math.ceil(self._batch / replicas)

    def _message(self, bounds: Bounds, rows: int | None = None) -> float:
        """Return the bytes that a block hands on: its output and the labels."""
        rows = self._batch if rows is None else rows
        if bounds[1] == self._costs.layers:
            return 0.0
        return self._costs.boundary(bounds[1], rows) + LABEL_BYTES * rows

    def _queues(self, bounds: Bounds) -> int:
        """Return the bytes that may wait in front of a block and in the slot behind it."""
        waiting = 0.0
        if bounds[0] > 1:
            size = self._message((bounds[0] - 1, bounds[0] - 1))
            room = self._cluster.room
            fitting = room.messages
            if size and math.isfinite(room.nbytes):
                fitting = min(fitting, max(1, int(room.nbytes // size)))
            waiting = fitting * size
        return int(waiting + self._message(bounds))

    def _history(self, bounds: Bounds, delay: int, replays: bool) -> int:
        """Return the bytes of the past that Features Replay (inputs) or DDG (graphs) keeps."""
        if replays:
            return delay * self._costs.input_bytes(bounds[0], self._batch)
        graphs = self._costs.activations(bounds, NO_HEAD, self._batch) or 0
        return delay * (graphs + self._costs.parameters(bounds, NO_HEAD) * GRADIENT_BYTES)

    def _memory(self, bounds: Bounds, head: HeadSpec, rows: int) -> int | None:
        kept = self._costs.activations(bounds, head, rows)
        return None if kept is None else kept + self._costs.weights(bounds, head)

    def _add(self, memory: int | None, *further: int) -> int | None:
        return None if memory is None else memory + sum(further)

    def _reduced(self, devices: Iterable[tuple[Sequence[Bounds], HeadSpec, int]]) -> int:
        """Return the bytes that a device sends per step to agree on its gradients; the most.

        Args:
            devices: The blocks of a device, their head, and how many devices have the same.
        """
        return max(
            2 * (count - 1) * GRADIENT_BYTES * self._parameters(blocks, head) // count
            for blocks, head, count in devices
        )

    def _parameters(self, blocks: Sequence[Bounds], head: HeadSpec) -> int:
        return sum(self._costs.parameters(one, head) for one in blocks)

    def _found(
        self,
        method: Method,
        cuts: tuple[int, ...],
        seconds: float,
        *,
        devices: int,
        replicas: tuple[int, ...],
    ) -> Prediction:
        return Prediction(
            method=method.name,
            blocks=len(cuts) + 1,
            devices=devices,
            replicas=replicas,
            cuts=cuts,
            microbatches=None,
            batch=self._batch,
            seconds=seconds,
            busy=(),
            memory=(),
            traffic=(),
            reduced=0,
            alone=self.alone,
        )
