"""SEDONA's search (Pyeon et al., ICLR 2021, Algorithm 1) as a process that can be interrupted.

    pretrain   alpha = beta = 0 --> the N best weights by validation accuracy --> snapshots

    search     sample a snapshot --> T inner steps --> validation loss --> gradient by alpha, beta
               Adam changes alpha and beta
               one real step of the snapshot with them --> snapshots, whose oldest leaves

With several ranks, each takes its share of the ``search.samples`` snapshots of an outer step:

    rank 0   sample 1, 3 --+--> gradients 1, 2, 3 --> mean --> Adam --> real steps 1, 3 --+
    rank 1   sample 2 -----+    (every rank has all)                    real step 2 ------+
                                                        (every rank has all snapshots) <--+

Gradients are added in the order of the samples, so all ranks have the same alpha and beta bit for
bit, and so has a search with any other number of ranks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..pipeline.optimization import OptimizationConfig, Schedule
from ..pipeline.seed import derive, set_seed
from .descent import Descent
from .exchange import ALONE, Exchange
from .hypergradient import Batch, hypergradient
from .mixed_gradient import Choices, mixed_gradient
from .pretraining import Pretraining, SearchSource
from .relaxation import Relaxation
from .settings import SearchSettings
from .snapshots import Snapshot, Snapshots, restore_snapshot, take_snapshot

__all__ = ["Search"]

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Finding:
    """What one sample of an outer step gave; float32 on the CPU.

    Attributes:
        alpha: Gradient by alpha, (L - 1, 2).
        beta: Gradient by beta, (L - 1, M).
        figures: Validation loss and accuracy, (2,).
    """

    alpha: Tensor
    beta: Tensor
    figures: Tensor

    @property
    def finite(self) -> bool:
        """Whether alpha and beta can learn from it."""
        return bool(self.alpha.isfinite().all() and self.beta.isfinite().all())

    def tensors(self) -> list[Tensor]:
        """Return its tensors."""
        return [self.alpha, self.beta, self.figures]


class Search:
    """One search, from its first pretraining step to its last outer step.

    Args:
        relaxation: The network and its heads, on the device that computes.
        source: The data.
        settings: The ``search.*`` keys.
        optimization: The ``train.*`` keys: of the pretraining, whose steps they count, and of the
            inner steps, which continue the schedule of the snapshot that they begin from.
        seed: The run's seed.
        exchange: The other ranks. Rank 0 alone pretrains.

    Attributes:
        step: Outer steps done.
        skipped: Meta-gradients that were not finite and were left out.
        lost: Real steps that led to weights that are not finite; the snapshot stays as it was.
    """

    def __init__(
        self,
        relaxation: Relaxation,
        source: SearchSource,
        *,
        settings: SearchSettings,
        optimization: OptimizationConfig,
        seed: int,
        exchange: Exchange = ALONE,
    ) -> None:
        self.step = 0
        self.skipped = 0
        self.lost = 0
        self._relaxation = relaxation
        self._source = source
        self._settings = settings
        self._schedule = Schedule(optimization)
        self._descent = Descent(optimization.momentum, optimization.weight_decay)
        self._seed = seed
        self._exchange = exchange
        self._pretraining: Pretraining | None = Pretraining(
            relaxation,
            source,
            optimization=optimization,
            every=settings.pretrain_every,
            capacity=settings.memory,
            seed=seed,
        )
        self._pretrain_steps = optimization.steps
        self._snapshots = Snapshots(settings.memory)
        self._made = 0
        equal = relaxation.equal_choices()
        self._device = equal[0].device
        self.alpha, self.beta = (t.to(CPU).requires_grad_() for t in equal)
        self._outer = torch.optim.Adam(
            [self.alpha, self.beta],
            lr=settings.lr,
            betas=(settings.betas[0], settings.betas[1]),
            weight_decay=settings.weight_decay,
        )

    @property
    def phase(self) -> str:
        """``pretrain`` or ``search``."""
        return "search" if self._pretraining is None else "pretrain"

    @property
    def done(self) -> bool:
        """Whether all outer steps are done."""
        return self.phase == "search" and self.step >= self._settings.steps

    @property
    def snapshots(self) -> list[Snapshot]:
        """The memory, the oldest first."""
        pretraining = self._pretraining
        return list(self._snapshots if pretraining is None else pretraining.snapshots)

    def advance(self) -> dict[str, Any]:
        """Do one pretraining step or one outer step, and return its record.

        A rank other than 0 has nothing to do in the pretraining: its first call waits for rank 0.
        """
        pretraining = self._pretraining
        if pretraining is None:
            return self._outer_step()
        record: dict[str, Any] = {"phase": "pretrain", "step": 0, "steps": self._pretrain_steps}
        if self._exchange.rank == 0 and not pretraining.done:
            record = pretraining.advance()
        if pretraining.done or self._exchange.rank > 0:
            self._begin(pretraining)
        return record

    def state_dict(self) -> dict[str, Any]:
        """Return where it stands, without the snapshots."""
        return {
            "step": self.step,
            "skipped": self.skipped,
            "lost": self.lost,
            "made": self._made,
            "alpha": self.alpha.detach(),
            "beta": self.beta.detach(),
            "outer": self._outer.state_dict(),
            "pretraining": self._pretraining.state_dict() if self._pretraining else None,
        }

    def load_state_dict(self, state: Mapping[str, Any], snapshots: Iterable[Snapshot]) -> None:
        """Continue from ``state`` with the memory that belongs to it."""
        self.step, self._made = state["step"], state["made"]
        self.skipped, self.lost = state["skipped"], state["lost"]
        with torch.no_grad():
            self.alpha.copy_(state["alpha"])
            self.beta.copy_(state["beta"])
        self._outer.load_state_dict(state["outer"])
        self._snapshots = Snapshots(self._settings.memory, snapshots)
        if state["pretraining"] is None:
            self._pretraining = None
        elif self._pretraining is not None:
            self._pretraining.load_state_dict(state["pretraining"], self._snapshots)

    def _begin(self, pretraining: Pretraining) -> None:
        """Let every rank have rank 0's memory; the search begins."""
        found = list(pretraining.snapshots)
        if self._exchange.rank > 0:
            found = [pretraining.snapshot(accuracy=math.nan)]
        count = self._shared_number(len(found))
        # Other ranks have one of the right shapes to say what they wait for.
        found = (found * count)[:count]
        numbers = [self._shared_number(snapshot.number) for snapshot in found]
        self._snapshots = Snapshots(self._settings.memory)
        for number, snapshot in zip(numbers, found, strict=True):
            self._snapshots.replace_oldest(self._shared(snapshot, number=number, source=0))
        self._made = max(numbers)
        self._pretraining = None

    def _outer_step(self) -> dict[str, Any]:
        """Do one round of Algorithm 1's loop."""
        self.step += 1
        drawn = self._snapshots.sample(self._settings.samples, seed=self._seed, step=self.step)
        examined = [
            self._examine(snapshot, index) if self._is_mine(index) else self._blank
            for index, snapshot in enumerate(drawn)
        ]
        findings = [
            Finding(*self._exchange.share(finding.tensors(), source=self._owner(index)))
            for index, finding in enumerate(examined)
        ]
        norm = self._learn(findings)
        self._renew(drawn)
        figures = torch.stack([finding.figures for finding in findings]).mean(0).tolist()
        return {
            "phase": "search",
            "step": self.step,
            "steps": self._settings.steps,
            "loss": figures[0],
            "accuracy": figures[1],
            "alpha": self.alpha.tolist(),
            "beta": self.beta.tolist(),
            "gradient_norm": norm,
            "skipped": self.skipped,
            "lost": self.lost,
            "snapshot_steps": [snapshot.step for snapshot in drawn],
        }

    def _examine(self, snapshot: Snapshot, index: int) -> Finding:
        """Find how alpha and beta act on the validation loss, T steps from ``snapshot``."""
        settings = self._settings
        point = restore_snapshot(self._relaxation, snapshot, self._device)
        validation = self._source.validation(self._sample_number(index) + 1)
        batches = [
            self._batch(snapshot, index, number=number, ahead=number)
            for number in range(1, settings.inner_steps + 1)
        ]
        found = hypergradient(
            self._relaxation,
            point,
            batches,
            validation,
            self._choices,
            descent=self._descent,
            keep_graphs=settings.keep_graphs,
            batch_norm=settings.batch_norm,
        )
        figures = torch.stack([found.loss, found.correct / len(validation[1])])
        return Finding(found.alpha.to(CPU), found.beta.to(CPU), figures.float().to(CPU))

    def _learn(self, findings: Sequence[Finding]) -> float | None:
        """Descend the mean of the finite gradients; return its norm, None if there is none."""
        finite = [finding for finding in findings if finding.finite]
        self.skipped += len(findings) - len(finite)
        if not finite:
            return None
        self.alpha.grad = torch.stack([finding.alpha for finding in finite]).mean(0)
        self.beta.grad = torch.stack([finding.beta for finding in finite]).mean(0)
        self._outer.step()
        return float(torch.cat([self.alpha.grad.flatten(), self.beta.grad.flatten()]).norm())

    def _renew(self, drawn: Sequence[Snapshot]) -> None:
        """Take one real step from each snapshot; the results replace the oldest."""
        trained = [
            self._train(snapshot, index) if self._is_mine(index) else snapshot
            for index, snapshot in enumerate(drawn)
        ]
        for index, snapshot in enumerate(trained):
            self._made += 1
            shared = self._shared(snapshot, number=self._made, source=self._owner(index))
            if shared.finite:
                self._snapshots.replace_oldest(shared)
            else:
                self.lost += 1

    def _train(self, snapshot: Snapshot, index: int) -> Snapshot:
        """Return what one step with the new alpha and beta makes of ``snapshot``."""
        relaxation = self._relaxation
        point = restore_snapshot(relaxation, snapshot, self._device)
        batch = self._batch(snapshot, index, number=self._settings.inner_steps + 1, ahead=1)
        set_seed(batch.seed, self._device)
        gradients, _ = mixed_gradient(relaxation, point.weights, batch.x, batch.y, self._choices)
        point = self._descent.step(point, gradients, batch.lr)
        return take_snapshot(relaxation, point, number=0, step=snapshot.step + 1, accuracy=math.nan)

    def _batch(self, snapshot: Snapshot, index: int, *, number: int, ahead: int) -> Batch:
        """Return training batch ``number`` of a sample, for a step ``ahead`` of its snapshot.

        Of its T + 1 batches, T are for the inner steps and the last is for the real step.
        """
        each = self._settings.inner_steps + 1
        position = self._pretrain_steps + self._sample_number(index) * each + number
        x, y = self._source.training(position)
        seed = derive(self._seed, "inner", position)
        return Batch(x, y, self._schedule.lr(snapshot.step + ahead), seed)

    def _sample_number(self, index: int) -> int:
        """Return how many samples the whole search had before this one."""
        return (self.step - 1) * self._settings.samples + index

    def _owner(self, index: int) -> int:
        return index % self._exchange.size

    def _is_mine(self, index: int) -> bool:
        return self._owner(index) == self._exchange.rank

    @property
    def _choices(self) -> Choices:
        """Alpha and beta where the weights are."""
        return Choices(self.alpha.detach().to(self._device), self.beta.detach().to(self._device))

    @property
    def _blank(self) -> Finding:
        """A finding of the right shapes, for ranks that will be told the values."""
        return Finding(
            torch.zeros_like(self.alpha, requires_grad=False),
            torch.zeros_like(self.beta, requires_grad=False),
            torch.zeros(2),
        )

    def _shared(self, snapshot: Snapshot, *, number: int, source: int) -> Snapshot:
        """Return the snapshot of rank ``source`` as number ``number``."""
        return snapshot.with_tensors(
            number, self._exchange.share(snapshot.tensors(), source=source)
        )

    def _shared_number(self, number: int) -> int:
        """Return the number that rank 0 has."""
        (shared,) = self._exchange.share([torch.tensor([number])], source=0)
        return int(shared)
