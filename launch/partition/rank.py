"""One rank of a partitioned training, from joining the others to its last report.

join -> network, partitions, chunks -> load -> link -> "ready" ... go
  -> steps; every so many: evaluate what this rank can, write its partitions
  -> evaluate -> write -> "finished" ... finish

One process has all partitions, or each has one. All walk over all steps, and evaluate and write
after the same ones, so no word about that travels between them.
"""

from __future__ import annotations

import math
import time
from collections import deque
from functools import partial
from typing import Any

import torch

from ...models.hyperparameters import found
from ...pipeline.checkpoint import CheckpointError
from ...pipeline.optimization import Schedule
from ...pipeline.recorder import memory_bytes, peak_memory_bytes
from ...pipeline.seed import derive, set_seed
from ...pipeline.stage import NonFiniteLossError
from ...search.partitioned import (
    DivergedError,
    PartitionRank,
    Whole,
    log_likelihood,
)
from ...search.psifile import PsiError, save_psi
from ..assembly import build_data, build_network
from ..rank import Rank
from .assembly import DataExamples, build_partitioned, build_training, psi_of
from .course import course_of
from .job import PartitionJob
from .pace import Pace
from .pictures import IMAGES, changed_images
from .wiring import Wires, wire

__all__ = ["PartitionedRank"]

WARN_SECONDS = 1.0


class PartitionedRank(Rank[PartitionJob]):
    """What one process does in a partitioned training; see :class:`Rank`."""

    _wires: Wires | None = None

    def _take_part(self, device: torch.device) -> None:
        job, config = self._job, self._job.config
        self._device = device
        self._data = build_data(config, self._objects, device)
        make = partial(build_network, config, self._objects, job.task, whole=True)
        model = build_partitioned(config, make, job.task).to(device)
        self._training = build_training(config, model, self._data, tell=self._breathe)
        self._psi = psi_of(config.psi)
        self._load()
        self._team = self._meet()
        self._losses: list[torch.Tensor] = []
        self._hyper_losses: list[torch.Tensor] = []
        self._counts = {"learned": 0, "judged": 0}
        self._past: deque[dict[str, list[float]]] = deque(maxlen=5)
        self._evaluated = self._saved = job.start
        self._ready(
            device,
            partitions=list(self._team.partitions),
            parameters=[model.sizes[k - 1] for k in self._team.partitions],
        )
        self._work()
        self._finish()

    def _load(self) -> None:
        job = self._job
        if job.start == 0:
            return
        checkpoint = job.folder.checkpoints.read(job.folder.checkpoints.path(job.start))
        for number in range(1, job.partitions + 1):
            state = checkpoint.load(f"partition-{number}.pt", device=self._device)
            self._training.load_partition_state(number, state)
        self._training.load_hyper_state(checkpoint.load("psi.pt", device=self._device))
        self._training.step = job.start

    def _meet(self) -> Whole:
        job, rank = self._job, self._member.rank
        if job.ranks == 1:
            return Whole(self._training)
        config = job.config
        self._wires = wire(job.partitions, config.pipeline, rank=rank, device=self._device)
        return PartitionRank(
            self._training,
            rank + 1,
            self._wires.ends,
            steps=config.train.steps,
            staleness=config.partition.staleness,
            room=config.pipeline.queue_messages,
            tell=self._tell_state,
        )

    def _tell_state(self, state: str) -> None:
        self._activities[0].enter(state, time.perf_counter())

    def _breathe(self) -> None:
        """A batch is drawn: a long evaluation does not hang."""
        self._tell_state("busy")

    def _work(self) -> None:
        config, training, activity = self._job.config, self._training, self._activities[0]
        self._pace = Pace(self._job.start)
        while training.step < config.train.steps and self._team.may_advance(
            stop=self._stop.is_set()
        ):
            activity.enter("busy", time.perf_counter(), training.step + 1)
            part = self._team.advance()
            activity.turns += 1
            self._note(part.loss, self._losses, "learned")
            self._note(part.hyper_loss, self._hyper_losses, "judged")
            self._pace.step(part.step, self._team.waited)
            if part.step % config.log.every == 0 or part.step == config.train.steps:
                self._tell(part.step)
            if part.step < config.train.steps:
                self._evaluate_and_save(
                    evaluate=_due(part.step, config.evaluate.every),
                    save=_due(part.step, config.checkpoint.every),
                )
        self._team.end()
        self._evaluate_and_save(evaluate=True, save=True, last=True)
        activity.enter("done", time.perf_counter())

    def _note(self, loss: torch.Tensor | None, losses: list[torch.Tensor], kind: str) -> None:
        if loss is not None:
            losses.append(loss)
            self._counts[kind] += 1

    def _tell(self, step: int) -> None:
        """Tell the means since the last report, and see that nothing has run away."""
        loss, hyper_loss = _mean(self._losses), _mean(self._hyper_losses)
        if loss is not None and not math.isfinite(loss):
            rate = Schedule(self._job.config.train).lr(step)
            raise NonFiniteLossError(
                f"the mean loss of the steps up to {step} is {loss} at learning rate {rate:g}. "
                "Lower train.lr, add train.warmup or set train.clip=1.0; the last good checkpoint "
                "is kept"
            )
        self._check_psi(step)
        team = self._team
        self._mail.post(
            {
                "event": "partition",
                "step": step,
                "rank": self._member.rank,
                "loss": loss,
                "hyper_loss": hyper_loss,
                "lr": Schedule(self._job.config.train).lr(step),
                **self._pace.interval(self._job.config.train.batch_size),
                "weights_age": team.weight_ages.figures()["mean"],
                "psi_age": team.psi_ages.figures()["mean"],
                "memory_bytes": memory_bytes(),
            }
        )

    def _check_psi(self, step: int) -> None:
        """End a run whose hyperparameters run to infinity, with their course."""
        limit, numbers = self._job.config.psi.limit, self._training.numbers()
        self._past.append(numbers)
        for name, value in self._training.model.hyperparameters().items():
            largest = value.detach().abs().max().item()
            if not largest <= limit:
                past = [one[name][:8] for one in self._past]
                raise DivergedError(
                    f"step {step}: the hyperparameter {name} has reached {largest:.4g}, the limit "
                    f"is psi.limit={limit:g}; its last values are {past}. Lower psi.lr, or set "
                    "psi.clip; metrics.jsonl has the course",
                    [],
                )

    def _evaluate_and_save(self, *, evaluate: bool, save: bool, last: bool = False) -> None:
        """Do what is due after the step at hand and is not done yet."""
        step = self._training.step
        if step == 0:
            return
        final = last and self._job.config.evaluate.final
        if (evaluate and self._evaluated != step) or final:
            self._evaluate(step, final=final)
            self._evaluated = step
        if save and self._saved != step:
            self._save(step)
            self._saved = step
        self._pace.resume(self._team.waited)

    def _evaluate(self, step: int, *, final: bool) -> None:
        """Tell the terms of L_ML whose subnetworks this rank has; the last one also what psi is."""
        training, team = self._training, self._team
        team.settle()
        begin = time.perf_counter()
        size = self._job.config.evaluate.batch_size or self._job.config.train.batch_size
        terms = {k: training.likelihood(k, batch_size=size) for k in team.chunks}
        for chunk, term in terms.items():
            if not math.isfinite(term):
                raise DivergedError(
                    f"step {step}: the likelihood of chunk {chunk} is {term}; lower train.lr or "
                    "psi.lr. metrics.jsonl has the course",
                    [],
                )
        self._check_psi(step)
        report: dict[str, Any] = {"event": "terms", "step": step, "terms": terms}
        if team.leads:
            splits = self._job.task.final_splits if final else self._job.task.splits
            values = found(training.model.network, self._psi)
            report["splits"] = {split: self._accuracy(split, size) for split in splits}
            report["psi"] = course_of(values)
            self._write_psi(step, values)
            if final:
                self._draw()
        self._mail.post({**report, "seconds": time.perf_counter() - begin})

    def _accuracy(self, split: str, size: int) -> dict[str, float]:
        """Evaluate the final model, which has all partitions."""
        examples = DataExamples(self._data, split, tell=self._breathe)
        set_seed(derive(self._job.config.seed, "evaluate", split), self._device)
        model, count = self._training.model, len(examples)
        likelihood, accuracy = log_likelihood(model, examples, torch.arange(count), batch_size=size)
        return {"accuracy": accuracy, "loss": -likelihood / count}

    def _write_psi(self, step: int, values: dict[str, Any]) -> None:
        """Write psi.json as it is now, so that a run that goes on can be used."""
        if not values:
            return
        try:
            save_psi(self._job.folder.psi, values)
        except (OSError, PsiError) as error:
            text = f"psi.json of step {step} was not written: {error}; the checkpoints have it"
            self._mail.post({"event": "told", "step": step, "text": text})

    def _draw(self) -> None:
        """Write test images as the learned augmentation changes them; without one, nothing."""
        first = torch.arange(min(IMAGES, self._job.task.sizes["test"]))
        x, _ = self._data.pick("test", first)
        png = changed_images(self._training.model.network, x, seed=self._job.config.seed)
        if png is not None:
            self._job.folder.samples.write_bytes(png)

    def _save(self, step: int) -> None:
        """Write this rank's partitions. A full disk costs the checkpoint, not the training."""
        team, checkpoints = self._team, self._job.folder.checkpoints
        if team.leads:
            team.settle()  # psi as it is after this step
        for number in team.partitions:
            state = self._training.partition_state(number)
            try:
                shards = [checkpoints.write(step, f"partition-{number}.pt", state)]
                if number == self._job.partitions:
                    psi = self._training.hyper_state()
                    shards.append(checkpoints.write(step, "psi.pt", psi))
            except CheckpointError as error:
                where = f"partition {number}"
                self._mail.post(
                    {"event": "shards_failed", "step": step, "where": where, "text": str(error)}
                )
                return
            self._post_shards(step, number, shards)

    def _finish(self) -> None:
        """Report; then wait for the word to end."""
        team, steps = self._team, self._training.step - self._job.start
        sent = self._wires.trained_bytes if self._wires is not None else 0
        self._mail.post(
            {
                "event": "finished",
                "rank": self._member.rank,
                "step": self._training.step,
                **self._counts,
                **self._pace.totals(self._job.config.train.batch_size),
                "weights_age": team.weight_ages.figures(),
                "psi_age": team.psi_ages.figures(),
                "bytes_per_step": sent / steps if steps else None,
                "peak_memory_bytes": peak_memory_bytes(self._device),
            }
        )
        self._await_order("finish")

    def _warn(self, text: str) -> None:
        if self._wires is not None:
            self._wires.warn(text, WARN_SECONDS)


def _due(step: int, every: int | None) -> bool:
    return bool(every) and step % (every or 1) == 0


def _mean(losses: list[torch.Tensor]) -> float | None:
    """Return the mean of some losses and forget them; None where there is none."""
    mean = torch.stack(losses).double().mean().item() if losses else None
    losses.clear()
    return mean
