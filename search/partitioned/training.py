"""Training a partitioned network and its hyperparameters in one run.

    step n:  [1] k by the chunks' shares; a batch of chunks 1..k; partition k learns through
                 subnetwork k
             [2] k >= 2 likewise; a batch of chunk k; the hyperparameters learn through
                 subnetwork k - 1, which never saw chunk k

Mlodozeniec et al. (ICLR 2023), Eq. 3 and 4. The batches and what is random in the forward passes
are functions of the seed and the step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.partitioned import PartitionedModule
from ...pipeline.optimization import OptimizationConfig
from ...pipeline.seed import derive, set_seed
from .chunks import Chunks
from .decay import scaled_decays
from .examples import Examples
from .learner import Criterion, HyperLearner, PartitionLearner
from .numbers import readable_numbers
from .objective import chunk_likelihood

__all__ = ["DivergedError", "Measured", "PartitionedTraining", "Settings", "StepLoss"]

SHORT = 64
"""Hyperparameters of up to so many numbers are in the course, larger ones by their norm."""


def _hyper_defaults() -> OptimizationConfig:
    return OptimizationConfig(
        optimizer="adam", lr=1e-3, weight_decay=0.0, schedule="constant", batch_size=256
    )


@dataclass
class Settings:
    """How a partitioned network is trained.

    Attributes:
        weights: The optimizer of each partition; steps and batch size of the training.
        hyper: The optimizer of the hyperparameters, and the batch size that judges them.
        every: Parameter updates for each update of the hyperparameters.
        decay_scaling: How the weight decay grows for earlier partitions; see :mod:`.decay`.
        limit: A hyperparameter beyond it has diverged.
        keep_best: Whether the weights with the best L_ML are kept.
    """

    weights: OptimizationConfig = field(default_factory=OptimizationConfig)
    hyper: OptimizationConfig = field(default_factory=_hyper_defaults)
    every: int = 1
    decay_scaling: str = "reciprocal"
    limit: float = 1e3
    keep_best: bool = True


@dataclass(frozen=True)
class StepLoss:
    """What one step did.

    Attributes:
        step: Its number, from 1.
        partition: Which learned.
        loss: Its batch's loss before the update, on the network's device.
        chunk: Which judged the hyperparameters; None where they were not updated.
        hyper_loss: The loss of that batch; None likewise.
    """

    step: int
    partition: int
    loss: Tensor
    chunk: int | None = None
    hyper_loss: Tensor | None = None


@dataclass(frozen=True)
class Measured:
    """What an evaluation found.

    Attributes:
        step: After which step.
        objective: L_ML in nats, a sum over the examples of chunks 2..C.
        chunks: Its part of each of these chunks.
        hyperparameters: Each one's numbers, or its norm where there are many.
    """

    step: int
    objective: float
    chunks: list[float]
    hyperparameters: dict[str, list[float]]


class DivergedError(RuntimeError):
    """A hyperparameter ran to infinity, or the likelihood is not a number.

    Attributes:
        course: The evaluations up to then.
    """

    def __init__(self, message: str, course: list[Measured]) -> None:
        super().__init__(message)
        self.course = course


class PartitionedTraining:
    """Trains a partitioned network.

    Args:
        model: The network, on its device.
        examples: The training examples.
        chunks: Their chunks, as many as there are partitions, at least two.
        settings: How it learns.
        seed: The run's seed.
        criterion: The loss; by default cross-entropy.

    Attributes:
        step: Steps done so far.
        course: The evaluations so far.
        best: The evaluation with the highest L_ML so far.

    Raises:
        ValueError: The numbers of chunks and partitions or examples differ, or a setting is
            impossible.
    """

    def __init__(
        self,
        model: PartitionedModule,
        examples: Examples,
        chunks: Chunks,
        *,
        settings: Settings,
        seed: int,
        criterion: Criterion = F.cross_entropy,
    ) -> None:
        self._check_counts(len(chunks), len(model))
        if sum(chunks.sizes) != len(examples):
            raise ValueError(
                f"the chunks divide {sum(chunks.sizes)} examples, there are {len(examples)}"
            )
        if settings.every < 1:
            raise ValueError(
                f"every={settings.every}: give 1 or more steps per hyperparameter step"
            )
        self.model = model
        self.step = 0
        self.course: list[Measured] = []
        self.best: Measured | None = None
        self._best_state: dict[str, Tensor] = {}
        self._examples, self._chunks = examples, chunks
        self._settings, self._seed = settings, seed
        weights = settings.weights
        decays = scaled_decays(weights.weight_decay, chunks.sizes, settings.decay_scaling)
        self._learners = [
            PartitionLearner(model, k, config=weights, weight_decay=decay, criterion=criterion)
            for k, decay in zip(range(1, len(model) + 1), decays, strict=False)
        ]
        self._hyper = HyperLearner(model, config=settings.hyper, criterion=criterion)
        model.train()

    def _check_counts(self, chunks: int, partitions: int) -> None:
        if chunks != partitions or chunks < 2:
            raise ValueError(
                f"{chunks} chunks for {partitions} partitions; partition k learns from chunks "
                "1..k, so give as many of both, at least 2"
            )

    @property
    def judging(self) -> Sequence[int]:
        """The chunks whose likelihoods make up L_ML: no network that is asked has seen them."""
        return range(2, len(self._chunks) + 1)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.model.parameters()).device

    def advance(self) -> StepLoss:
        """Make the next step."""
        step = self.step + 1
        number, loss = self.learn(step)
        self.step = step
        if not self.judges(step):
            return StepLoss(step, number, loss)
        chunk, hyper_loss, gradients = self.judge(step)
        self.apply(gradients, step)
        return StepLoss(step, number, loss, chunk, hyper_loss)

    def learner(self, step: int) -> int:
        """Return the partition that learns in a step."""
        return self._chunks.number(step)

    def judges(self, step: int) -> bool:
        """Whether the hyperparameters are updated in a step."""
        return self._hyper.optimizer is not None and step % self._settings.every == 0

    def judge_number(self, step: int) -> int:
        """Return the chunk that judges the hyperparameters in a step that updates them."""
        return self._chunks.judge_number(step)

    def learn(self, step: int) -> tuple[int, Tensor]:
        """Do part [1] of a step; return the partition that learned and its loss."""
        draw = self._chunks.draw(step, self._settings.weights.batch_size)
        x, y = self._examples.batch(draw.indices, step)
        set_seed(derive(self._seed, "learn", step), self.device)
        return draw.number, self._learners[draw.number - 1].learn(x, y, step)

    def judge(self, step: int) -> tuple[int, Tensor, list[Tensor]]:
        """Do part [2] of a step but its update; return the chunk, the loss and the gradients."""
        draw = self._chunks.draw_judge(step, self._settings.hyper.batch_size)
        x, y = self._examples.batch(draw.indices, step)
        set_seed(derive(self._seed, "judge", step), self.device)
        loss, gradients = self._hyper.gradient(draw.number, x, y)
        return draw.number, loss, gradients

    def apply(self, gradients: Sequence[Tensor], step: int) -> None:
        """Update the hyperparameters by what :meth:`judge` found for a step."""
        self._hyper.apply(gradients, step)

    def likelihood(self, chunk: int, *, batch_size: int = 1000) -> float:
        """Return one term of L_ML: log p of a chunk, from 2, at the subnetwork before it."""
        return chunk_likelihood(
            self.model,
            self._examples,
            self._chunks,
            chunk,
            seed=self._seed,
            device=self.device,
            batch_size=batch_size,
        )

    def partition_state(self, partition: int) -> dict[str, Any]:
        """Return what a partition, from 1, needs to go on; tensors are not copied."""
        return {
            "chunks": self._chunks.fingerprint(),
            "values": self.model.values_of(partition),
            "statistics": self.model.statistics_of(partition),
            "optimizer": self._learners[partition - 1].optimizer.state_dict(),
        }

    def load_partition_state(self, partition: int, state: dict[str, Any]) -> None:
        """Take it back.

        Raises:
            ValueError: It is of a training with other chunks or another seed.
        """
        self._check_fingerprint(state["chunks"])
        self.model.load_values(partition, state["values"])
        self.model.load_statistics(partition, state["statistics"])
        self._learners[partition - 1].optimizer.load_state_dict(state["optimizer"])

    @torch.no_grad()
    def load_hyper_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`hyper_state` returned."""
        for name, parameter in self.model.hyperparameters().items():
            parameter.copy_(state["values"][name])
        self._hyper.load_state_dict(state["optimizer"])

    def hyper_state(self) -> dict[str, Any]:
        """Return the hyperparameters and their optimizer's state; tensors are not copied."""
        values = {name: one.detach() for name, one in self.model.hyperparameters().items()}
        return {"values": values, "optimizer": self._hyper.state_dict()}

    def numbers(self) -> dict[str, list[float]]:
        """Return each hyperparameter's numbers, or its norm where there are many."""
        return readable_numbers(self.model.hyperparameters(), short=SHORT)

    def measure(self, *, batch_size: int = 1000) -> Measured:
        """Evaluate L_ML, note it in the course, and keep the weights where it is the best.

        Raises:
            DivergedError: A hyperparameter ran away, or L_ML is not a number.
        """
        found = [self.likelihood(chunk, batch_size=batch_size) for chunk in self.judging]
        objective = math.fsum(found) if all(map(math.isfinite, found)) else math.nan
        measured = Measured(self.step, objective, found, self.numbers())
        self.course.append(measured)
        self._check(measured)
        if self.best is None or objective > self.best.objective:
            self.best = measured
            if self._settings.keep_best:
                state = self.model.state_dict()
                self._best_state = {name: value.clone() for name, value in state.items()}
        return measured

    def restore_best(self) -> None:
        """Put the weights and hyperparameters with the best L_ML back.

        Raises:
            ValueError: None were kept.
        """
        if not self._best_state:
            raise ValueError("no weights were kept; call measure() with keep_best")
        self.model.load_state_dict(self._best_state)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a training needs to go on bit for bit; tensors are not copied."""
        return {
            "step": self.step,
            "chunks": self._chunks.fingerprint(),
            "model": self.model.state_dict(),
            "optimizers": [learner.optimizer.state_dict() for learner in self._learners],
            "hyper": self._hyper.state_dict(),
            "course": [vars(one) for one in self.course],
            "best": None if self.best is None else vars(self.best),
            "best_state": self._best_state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was called.

        Raises:
            ValueError: It is of a training with other chunks or another seed.
        """
        self._check_fingerprint(state["chunks"])
        self.model.load_state_dict(state["model"])
        for learner, own in zip(self._learners, state["optimizers"], strict=True):
            learner.optimizer.load_state_dict(own)
        self._hyper.load_state_dict(state["hyper"])
        self.step = state["step"]
        self.course = [Measured(**one) for one in state["course"]]
        self.best = None if state["best"] is None else Measured(**state["best"])
        self._best_state = dict(state["best_state"])

    def _check_fingerprint(self, chunks: int) -> None:
        if chunks != self._chunks.fingerprint():
            raise ValueError(
                "the state is of a training with other chunks, examples or another seed; go on "
                "with the same"
            )

    def _check(self, measured: Measured) -> None:
        limit = self._settings.limit
        for name, value in self.model.hyperparameters().items():
            largest = value.detach().abs().max().item()
            if not largest <= limit:
                past = [one.hyperparameters[name] for one in self.course[-4:]]
                raise DivergedError(
                    f"step {measured.step}: the hyperparameter {name} has reached {largest:.4g}, "
                    f"the limit is {limit:g}; last values {past}. Lower its learning rate",
                    self.course,
                )
        if math.isnan(measured.objective):
            raise DivergedError(
                f"step {measured.step}: L_ML is not a number, by chunks {measured.chunks}; lower "
                "the learning rate",
                self.course,
            )
