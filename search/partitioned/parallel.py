"""Partition-parallel training: rank k learns partition k, all at the same time.

Who learns and who judges in a step follows from the seed, so every rank walks over all steps and
does what is its own. With two partitions, and the shares 0.8 and 0.2:

    step                 1           2           3           4           5
    rank 1  [1] learn    1 ========  1 ========  -           1 ========  1 ========
                            \\ w1       \\ w1                    \\ w1       \\ w1
    rank 2  [1] learn    -      :    -      :    2 ====      -      :    -      :
            [2] judge           2 ====      2 ====     2 ====       2 ====      2 ====
                                     \\ dpsi     \\ dpsi   \\ dpsi      \\ dpsi

    w1     rank k sends its weights to ranks k+1..C after every step that it learns in
    dpsi   the rank of the chunk that judges sends the gradient of psi to all others, on an edge
           of its own; every rank keeps psi and its optimizer, and applies all gradients in order

With staleness 0 a learn of step n waits for all updates of steps before n, a judge for those of
step n as well: what one process would have. With staleness s both may lack the updates of the last
s steps; then rank 1 goes on while rank 2 judges. What is used is the newest that came, never of a
later step. How old it was is counted.

Nothing waits in a circle: the earliest unfinished learn or judge of all ranks waits only for what
earlier ones have sent, and a rank that is full of later updates is not the one that does it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...pipeline.link import Inlet, Outlet
from ...pipeline.message import Kind, Message
from .arrivals import Arrivals, Ledger, Source
from .training import PartitionedTraining

__all__ = ["Ages", "Ends", "Part", "PartitionRank", "Whole"]

HORIZON_SECONDS = 1.0
"""A stop that is asked for comes about this much later."""


@dataclass
class Part:
    """What one rank did in a step.

    Attributes:
        step: Its number, from 1.
        partition: Which learned; None: that of another rank.
        loss: Its batch's loss before the update.
        chunk: Which judged the hyperparameters here.
        hyper_loss: The loss of that batch.
    """

    step: int
    partition: int | None = None
    loss: Tensor | None = None
    chunk: int | None = None
    hyper_loss: Tensor | None = None


@dataclass
class Ages:
    """How old, in steps, what a rank used was.

    Attributes:
        uses: How often something was used.
        total: Of all ages.
        largest: Of them.
    """

    uses: int = 0
    total: int = 0
    largest: int = 0

    def note(self, age: int) -> None:
        """Note one."""
        self.uses += 1
        self.total += age
        self.largest = max(self.largest, age)

    def figures(self) -> dict[str, float | None]:
        """Return the mean and the largest; null where nothing was used."""
        known = self.uses > 0
        return {
            "mean": self.total / self.uses if known else None,
            "largest": self.largest if known else None,
        }


@dataclass(frozen=True)
class Ends:
    """The ends of a rank's links, by the number of the partition at the other end.

    Attributes:
        weights_in: From ranks before.
        weights_out: To ranks behind.
        gradients_in: From all other ranks that judge: 2..C.
        gradients_out: To all others.
    """

    weights_in: Mapping[int, Inlet]
    weights_out: Mapping[int, Outlet]
    gradients_in: Mapping[int, Inlet]
    gradients_out: Mapping[int, Outlet]

    @property
    def outlets(self) -> list[Outlet]:
        """All of them."""
        return [*self.weights_out.values(), *self.gradients_out.values()]


class Whole:
    """One process that has all partitions.

    Args:
        training: The training.

    Attributes:
        partitions: Those that learn here.
        weight_ages: Of the copies that were used.
        psi_ages: Of the hyperparameters that were used.
        waited: Seconds spent waiting for other ranks.
    """

    def __init__(self, training: PartitionedTraining) -> None:
        self.training = training
        self.partitions: Sequence[int] = range(1, len(training.model) + 1)
        self.weight_ages, self.psi_ages = Ages(), Ages()
        self.waited = 0.0

    @property
    def chunks(self) -> Sequence[int]:
        """The chunks whose terms of L_ML are computed here."""
        return self.training.judging

    @property
    def leads(self) -> bool:
        """Whether it has the last partition, with all others and psi: it tells of them."""
        return self.partitions[-1] == len(self.training.model)

    def may_advance(self, *, stop: bool) -> bool:
        """Whether there is to be a further step."""
        return not stop

    def advance(self) -> Part:
        """Do what is this rank's in the next step."""
        done = self.training.advance()
        return Part(done.step, done.partition, done.loss, done.chunk, done.hyper_loss)

    def settle(self) -> None:
        """Have everything as it is after the step that was done last."""

    def end(self) -> None:
        """Do no further steps."""


class PartitionRank(Whole):
    """One rank of several: it owns one partition and has copies of those before it.

    Args:
        training: A training with all partitions; the others' are not learned here.
        partition: Which is its own, from 1.
        ends: Its links.
        steps: The last step.
        staleness: Of the copies and of psi, in steps at most.
        room: Updates of later steps that each link keeps.
        tell: Called with ``wait_in`` and ``busy`` as it waits and works.
    """

    def __init__(
        self,
        training: PartitionedTraining,
        partition: int,
        ends: Ends,
        *,
        steps: int,
        staleness: int = 0,
        room: int = 4,
        tell: Callable[[str], None] = lambda state: None,
    ) -> None:
        super().__init__(training)
        self.partitions = [partition]
        self._own = partition
        self._ends = ends
        self._steps = steps
        self._staleness = staleness
        self._tell = tell
        self._arrivals = Arrivals()
        self._arrivals.horizon = training.step
        self._weights = {
            number: Source(inlet, self._arrivals, newest=True, room=room, leads=number == 1)
            for number, inlet in ends.weights_in.items()
        }
        self._gradients = [
            Source(inlet, self._arrivals, newest=False, room=room)
            for inlet in ends.gradients_in.values()
        ]
        self._ledgers = {number: Ledger() for number in self._weights}
        self._psi = Ledger()
        self._found: dict[int, Tensor] = {}
        self._began = time.perf_counter()
        self._first = training.step

    @property
    def chunks(self) -> Sequence[int]:
        """See :attr:`Whole.chunks`: that of its partition, at the subnetwork before."""
        return [self._own] if self._own in self.training.judging else []

    def may_advance(self, *, stop: bool) -> bool:
        """See :meth:`Whole.may_advance`: all ranks end after the same step, that of the horizon.

        The rank of partition 1 moves it on, well before anybody comes to it, until it is to stop.
        """
        step, arrivals = self.training.step, self._arrivals
        if self._own == 1:
            if not stop:
                self._move_horizon(step)
            return step < arrivals.horizon
        with arrivals.changed:
            if step >= arrivals.horizon and step < self._steps:
                # What is kept may stand before the message that is waited for.
                self._allow(weights=step, psi=step)
                self._wait(lambda: arrivals.horizon > step or arrivals.stopped)
            return step < arrivals.horizon

    def advance(self) -> Part:
        """See :meth:`Whole.advance`."""
        training, own = self.training, self._own
        step = training.step + 1
        part = Part(step)
        learner = training.learner(step)
        if learner in self._ledgers:
            self._ledgers[learner].expect(step)
        if learner == own:
            self._bring(weights=step - 1, psi=step - 1, staleness=self._staleness)
            part.partition, part.loss = training.learn(step)
            self._send_weights(step)
        if training.judges(step):
            self._psi.expect(step)
            if training.judge_number(step) == own:
                self._bring(weights=step, psi=step - 1, staleness=self._staleness)
                part.chunk, part.hyper_loss, gradients = training.judge(step)
                self._send_gradients(step, gradients)
        training.step = step
        return part

    def settle(self) -> None:
        """See :meth:`Whole.settle`: wait for what the other ranks did up to here."""
        step = self.training.step
        self._bring(weights=step, psi=step, staleness=0, count=False)

    def end(self) -> None:
        """See :meth:`Whole.end`."""
        self.settle()
        for outlet in self._ends.outlets:
            outlet.put(Message(Kind.STOP, self.training.step))
        for outlet in self._ends.outlets:
            outlet.close()

    def _move_horizon(self, step: int) -> None:
        """Let all go on for about a second more, if the horizon has come near."""
        done = step - self._first
        pace = (time.perf_counter() - self._began) / done if done else HORIZON_SECONDS
        margin = self._staleness + 2 + int(HORIZON_SECONDS / 2 / max(pace, 1e-3))
        if step + margin <= self._arrivals.horizon or self._arrivals.horizon == self._steps:
            return
        self._arrivals.horizon = min(self._steps, step + 2 * margin)
        for outlet in self._ends.weights_out.values():
            outlet.put(Message(Kind.HORIZON, self._arrivals.horizon))

    def _send_weights(self, step: int) -> None:
        if not self._ends.weights_out:
            return
        model, own = self.training.model, self._own
        tensors = [_flat(model.values_of(own))]
        if statistics := model.statistics_of(own):
            tensors.append(_flat([one.double() for one in statistics]))
        for outlet in self._ends.weights_out.values():
            outlet.put(Message(Kind.VALUES, step, tuple(tensors)))

    def _send_gradients(self, step: int, gradients: Sequence[Tensor]) -> None:
        flat = self._found[step] = _flat(gradients)
        for outlet in self._ends.gradients_out.values():
            outlet.put(Message(Kind.GRADIENT, step, (flat,)))

    def _bring(self, *, weights: int, psi: int, staleness: int, count: bool = True) -> None:
        """Have the newest copies up to the given steps, at most ``staleness`` steps older."""
        newest: dict[int, tuple[Tensor, ...]] = {}

        def fresh() -> bool:
            self._take(newest, psi)
            old = [ledger.age(weights) for ledger in self._ledgers.values()]
            return max([*old, self._psi.age(psi)]) <= staleness

        with self._arrivals.changed:
            self._allow(weights=weights, psi=psi)
            self._wait(fresh)
        for number, tensors in newest.items():
            self._load(number, tensors)
        if count:
            for ledger in self._ledgers.values():
                self.weight_ages.note(ledger.age(weights))
            self.psi_ages.note(self._psi.age(psi))

    def _take(self, newest: dict[int, tuple[Tensor, ...]], psi: int) -> None:
        """Take what came: of weights the newest, of gradients all, which are applied in order."""
        for number, source in self._weights.items():
            for step, tensors in source.take():
                newest[number] = tensors
                self._ledgers[number].arrived(step)
        for source in self._gradients:
            self._found |= {step: tensors[0] for step, tensors in source.take()}
        while (step := self._psi.next) is not None and step <= psi and step in self._found:
            # A copy: it is clipped in place, and may be on its way to others.
            self.training.apply(self._shaped(self._found.pop(step).clone()), step)
            self._psi.arrived(step)

    def _allow(self, *, weights: int, psi: int) -> None:
        for source in self._weights.values():
            source.allow(weights)
        for source in self._gradients:
            source.allow(psi)

    def _wait(self, ready: Callable[[], bool]) -> None:
        """Wait, holding the condition; the seconds count as waiting."""
        if ready():
            return
        begin = time.perf_counter()
        self._tell("wait_in")
        self._arrivals.wait_for(ready)
        self._tell("busy")
        self.waited += time.perf_counter() - begin

    def _load(self, number: int, tensors: Sequence[Tensor]) -> None:
        model = self.training.model
        model.load_values(number, _like(tensors[0], model.values_of(number)))
        if len(tensors) > 1:
            model.load_statistics(number, _like(tensors[1], model.statistics_of(number)))

    def _shaped(self, flat: Tensor) -> list[Tensor]:
        return _like(flat, list(self.training.model.hyperparameters().values()))


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _like(flat: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Divide a flat tensor into pieces of the shapes and types of others."""
    pieces = flat.split([tensor.numel() for tensor in tensors])
    return [
        piece.view(tensor.shape).to(tensor.dtype)
        for piece, tensor in zip(pieces, tensors, strict=True)
    ]
