"""One rank of an ensemble's training, from joining the others to its last report.

rank 0   join -> build -> load -> go -> steps of its members --+-- sum --+--> ... -> finish
rank 1   join -> build -> load -> go -> steps of its members --+-- sum --+--> ... -> finish

Every rank reads the data and writes its members' files; rank 0 also writes what they share, and
tells what was found: all ranks have the same. When one of them is asked to stop, the next sum tells
the others.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ...models.ensembles import diversity, scores
from ...pipeline.checkpoint import CheckpointError, Shard
from ...pipeline.recorder import memory_bytes, peak_memory_bytes
from ...search.sharing.company import ONE, Company
from ...search.sharing.training import EnsembleTraining
from ..assembly import build_criterion, build_data
from ..rank import Rank
from .exchange import GlooCompany
from .job import SHARED, SuperWeightJob, member_shard
from .members import build_ensemble
from .pace import Pace
from .source import EnsembleSource

__all__ = ["SuperWeightRank", "make_training"]


class SuperWeightRank(Rank[SuperWeightJob]):
    """What one process does in an ensemble's training; see :class:`Rank`."""

    def _take_part(self, device: torch.device) -> None:
        job, config = self._job, self._job.config
        self._data = build_data(config, self._objects, device)
        self._checkpoints = job.folder.checkpoints
        self._saved = job.start
        self._pace = Pace()
        self._source = EnsembleSource(
            self._data, batch_size=config.train.batch_size, tick=self._tick
        )
        training = make_training(job, self._source, device, company=self._meet())
        if job.start:
            checkpoint = self._checkpoints.read(self._checkpoints.path(job.start))
            training.load(
                checkpoint.load(SHARED), lambda member: checkpoint.load(member_shard(member))
            )
        self._ready(device)
        self._work(training)
        self._finish(training, device)

    def _tick(self) -> None:
        """Tell the watchdog that work goes on."""
        self._activities[0].enter("busy", time.perf_counter())

    @property
    def _leads(self) -> bool:
        return self._member.rank == 0

    def _meet(self) -> Company:
        if self._job.ranks == 1:
            return ONE
        return GlooCompany(self._member.store(), self._activities[0], self._job.posts)

    def _work(self, training: EnsembleTraining) -> None:
        """Go on until the last step, or until somebody asks a rank to stop; then save."""
        activity, config, plan = self._activities[0], self._job.config, self._job.plan
        every, examine = config.checkpoint.every, config.evaluate.every or 0
        stopped = self._stop.is_set() and self._job.ranks == 1
        if training.done and config.evaluate.final:
            self._evaluate(training, self._job.task.final_splits)
        while not training.done and not stopped:
            activity.enter("busy", time.perf_counter(), training.step)
            begin = time.perf_counter()
            events_before = len(training.events)
            figures = training.advance(self._stop.is_set())
            between = len(training.events) > events_before
            self._pace.add(time.perf_counter() - begin, figures, counts=not between)
            activity.turns += 1
            stopped = figures["stop"]
            self._tell(training, figures)
            local = training.step - plan.search_steps
            last = training.done
            if local > 0 and examine and local % examine == 0 and not last:
                self._evaluate(training, self._job.task.splits)
            if last and config.evaluate.final:
                self._evaluate(training, self._job.task.final_splits)
            if last or stopped or (every and training.step % every == 0):
                self._save(training)
        if self._saved != training.step:
            self._save(training)
        activity.enter("done", time.perf_counter())

    def _tell(self, training: EnsembleTraining, figures: dict[str, Any]) -> None:
        """Report every few steps, each member by its first rank."""
        events, training.events = training.events, []
        if self._leads:
            for event in events:
                sharing = training.sharing
                text = sharing.to_json() if sharing is not None else None
                self._mail.post({**event, "sharing": text})
        step, every = training.step, self._job.config.log.every
        first, last = self._job.start + 1, self._job.steps
        search = self._job.plan.search_steps
        if step % every and step not in (first, last, search, search + 1):
            return
        owners = training.owners()
        for member, row in self._pace.take().items():
            if owners.get(member, 0) != self._member.rank:
                continue
            memory = memory_bytes()
            self._mail.post(
                {
                    "event": "train", "stage": member + 1, "step": step,
                    "phase": training.phase, "lr": figures["lr"], **row,
                    "images_per_second": self._batch_size / row["seconds"],
                    "memory_bytes": memory,
                }
            )  # fmt: skip

    @property
    def _batch_size(self) -> int:
        return self._job.config.train.batch_size

    def _evaluate(self, training: EnsembleTraining, splits: Iterable[str]) -> None:
        """Let every member see a split; rank 0 tells the figures of all."""
        size = self._job.config.evaluate.batch_size or self._batch_size
        for split in splits:

            def inputs(split: str = split) -> Iterable[Tensor]:
                return self._source.inputs(split, batch_size=size)

            logits = training.logits(inputs)
            if not self._leads:
                continue
            labels = torch.cat([y.cpu() for _, y in self._data.evaluation(split, batch_size=size)])
            members, whole = [scores(one[None], labels) for one in logits], scores(logits, labels)
            self._mail.post(
                {
                    "event": "evaluated", "split": split, "step": training.step,
                    "accuracies": [one["top1"] for one in members],
                    "losses": [one["nll"] for one in members],
                    "ensemble_accuracy": whole["top1"], "nll": whole["nll"], "ece": whole["ece"],
                    "diversity": diversity(logits, labels),
                }
            )  # fmt: skip
            self._look_alike(training)
        self._pace.pause()

    def _look_alike(self, training: EnsembleTraining) -> None:
        """Say so if weights with coefficients of their own no longer differ."""
        pairs = training.identical()
        if pairs:
            (one, first), (other, second) = pairs[0]
            self._mail.post(
                {
                    "event": "alike", "step": training.step,
                    "text": f"{len(pairs)} pairs of weights have coefficients that became "
                    f"identical, such as {first} of member {one + 1} and {second} of member "
                    f"{other + 1}: they differ by a factor only; give more templates (a larger "
                    "budget or fewer clusters), or let them share (a lower superweight.beta)",
                }
            )  # fmt: skip

    def _save(self, training: EnsembleTraining) -> None:
        """Write a checkpoint. A full disk costs the checkpoint, not the run."""
        step, rank, self._saved = training.step, self._member.rank, training.step
        try:
            shards: list[Shard] = []
            if self._leads:
                shards.append(self._checkpoints.write(step, SHARED, training.shared_state()))
            for member in training.kept_members():
                state = training.member_state(member)
                shards.append(self._checkpoints.write(step, member_shard(member), state))
        except CheckpointError as error:
            where = self._job.label(rank)
            self._mail.post(
                {"event": "shards_failed", "step": step, "where": where, "text": str(error)}
            )
        else:
            self._post_shards(step, rank, shards)
        self._pace.pause()

    def _finish(self, training: EnsembleTraining, device: torch.device) -> None:
        """Report; then wait for the word to end."""
        sharing = training.sharing
        self._mail.post(
            {
                "event": "finished",
                "rank": self._member.rank,
                "step": training.step,
                "phase": training.phase,
                "parameters": training.ensemble.accounts() if self._leads else None,
                "sharing": sharing.to_json() if sharing and self._leads else None,
                "members": [post.member + 1 for post in training.mine],
                "images_per_second": self._pace.images_per_second(self._batch_size),
                "busy": self._pace.median("busy"),
                "wait_in": self._pace.median("wait"),
                "peak_memory_bytes": peak_memory_bytes(device),
            }
        )
        self._await_order("finish")


def make_training(
    job: SuperWeightJob, source: EnsembleSource, device: torch.device, *, company: Company = ONE
) -> EnsembleTraining:
    """Make the training that a job describes, at its first step."""
    config = job.config
    file = job.file()
    return EnsembleTraining(
        job.plan,
        lambda phase, sharing: build_ensemble(
            config, job.task, budget=job.budget, phase=phase, sharing=sharing
        ),
        source,
        optimization=config.train,
        criterion=build_criterion(config.train),
        networks=job.networks,
        seed=config.seed,
        device=device,
        posts=job.posts,
        sharing=file.sharing if file is not None else None,
        company=company,
    )
