"""One rank of a federation, from joining the others to its last report.

every rank   join -> build -> load -> go -> rounds, each with its share of the clients -> finish

All ranks have the same weights after every round. Rank 0 decides when to stop, writes the
checkpoints and tells what happened.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from ...pipeline.checkpoint import CheckpointError
from ...pipeline.recorder import memory_bytes, peak_memory_bytes
from ...search.exchange import ALONE, Exchange
from ...search.federated import FederatedTraining, Round
from ..assembly import build_data, build_network
from ..data import MemoryData
from ..rank import Rank
from ..search.exchange import GlooExchange
from .course import Course
from .holdings import HeldExamples, in_memory, populate, turn
from .job import FederateJob
from .model import build_model, plain_state, psi_record, readable
from .upload import upload_facts

__all__ = ["STATE", "FederateRank"]

STATE = "federation.pt"
"""The file of a checkpoint."""


class FederateRank(Rank[FederateJob]):
    """What one process does in a federation; see :class:`Rank`."""

    def _take_part(self, device: torch.device) -> None:
        job, config = self._job, self._job.config
        data = in_memory(build_data(config, self._objects, device))
        turn(config, data)
        self._exchange = self._meet()
        self._course = Course()
        self._seconds = self._rounds = 0.0
        self._saved = job.start
        training = self._build(data, device)
        if job.start:
            self._load(training)
        self._ready(device, upload=self._upload)
        self._work(training, data)
        self._finish(training, device)

    @property
    def _leads(self) -> bool:
        return self._member.rank == 0

    def _meet(self) -> Exchange:
        if self._job.ranks == 1:
            return ALONE
        return GlooExchange(self._member.store(), self._activities[0])

    def _build(self, data: MemoryData, device: torch.device) -> FederatedTraining:
        config = self._job.config
        network = build_network(config, self._objects, self._job.task)
        made = build_model(config, network, self._job.task)
        population = populate(config, data)
        training = FederatedTraining(
            made.model.to(device),
            HeldExamples(data, "train"),
            population,
            settings=config.federate,
            weights=config.train,
            plain=made.plain,
            seed=config.seed,
            criterion=made.criterion,
            judge=made.judge,
            exchange=self._exchange,
        )
        self._upload = upload_facts(training.traffic, population, config.federate.shares)
        return training

    def _work(self, training: FederatedTraining, data: MemoryData) -> None:
        """Go on until all rounds are done or somebody asks to stop; then save."""
        activity, config = self._activities[0], self._job.config
        every = config.evaluate.every or 0
        while training.round < self._job.steps and self._goes_on():
            activity.enter("busy", time.perf_counter(), training.round)
            begin = time.perf_counter()
            done = training.advance()
            seconds = time.perf_counter() - begin
            activity.turns += 1
            self._course.add(done)
            self._seconds, self._rounds = self._seconds + seconds, self._rounds + 1
            last = done.number == self._job.steps
            self._tell(training, done, seconds)
            if every and done.number % every == 0 and not (last and config.evaluate.final):
                self._evaluate(training, data, self._job.task.splits)
            if last and config.evaluate.final:
                self._evaluate(training, data, self._job.task.final_splits)
            if config.checkpoint.every and done.number % config.checkpoint.every == 0:
                self._save(training)
        if self._saved != training.round:
            self._save(training)
        activity.enter("done", time.perf_counter())

    def _goes_on(self) -> bool:
        """Whether to do another round; all ranks do the same ones."""
        stops = self._stop.is_set()
        if self._job.ranks == 1:
            return not stops
        (answer,) = self._exchange.share([torch.tensor([not stops])], source=0)
        return bool(answer)

    def _evaluate(
        self, training: FederatedTraining, data: MemoryData, splits: tuple[str, ...]
    ) -> None:
        """Evaluate on splits, the ranks together."""
        for split in splits:
            begin = time.perf_counter()
            batch = self._job.config.evaluate.batch_size or 1
            loss, accuracy = training.evaluate(
                HeldExamples(data, split), batch_size=batch, purpose=f"evaluate {split}"
            )
            if split == self._job.task.splits[0]:
                self._course.evaluated(training.round, accuracy)
            self._post(
                {
                    "event": "evaluation",
                    "step": training.round,
                    "split": split,
                    "losses": [_finite(loss)],
                    "accuracies": [accuracy],
                    "ensemble_accuracy": None,
                    "metrics": [{}],
                    "seconds": time.perf_counter() - begin,
                }
            )

    def _tell(self, training: FederatedTraining, done: Round, seconds: float) -> None:
        """Report every few rounds: bytes and clients are sums since the last report."""
        every = self._job.config.log.every
        if done.number % every and done.number not in (1, self._job.steps):
            return
        told = self._course.take()
        self._post(
            {
                "event": "round",
                "step": done.number,
                "steps": self._job.steps,
                "loss": _finite(done.loss),
                "psi_loss": _finite(done.judged),
                **told,
                "psi": psi_record(training.model),
                "seconds": seconds,
                "memory_bytes": memory_bytes(),
            }
        )

    def _post(self, report: dict[str, Any]) -> None:
        if self._leads:
            self._mail.post(report)

    def _save(self, training: FederatedTraining) -> None:
        """Write a checkpoint. A full disk costs the checkpoint, not the federation."""
        step, self._saved = training.round, training.round
        if not self._leads:
            return
        state = {"training": training.state_dict(), "course": self._course.state_dict()}
        try:
            shard = self._job.folder.checkpoints.write(step, STATE, state)
        except CheckpointError as error:
            self._post(
                {"event": "shards_failed", "step": step, "where": "rank 0", "text": str(error)}
            )
        else:
            self._post_shards(step, 0, [shard])

    def _load(self, training: FederatedTraining) -> None:
        checkpoints = self._job.folder.checkpoints
        state = checkpoints.read(checkpoints.path(self._job.start)).load(STATE)
        training.load_state_dict(state["training"])
        self._course.load_state_dict(state["course"])

    def _finish(self, training: FederatedTraining, device: torch.device) -> None:
        """Leave the network; report; then wait for the word to end."""
        if self._leads:
            self._leave(training)
        report = {
            "event": "finished",
            "rank": self._member.rank,
            "step": training.round,
            "seconds_per_round": self._seconds / self._rounds if self._rounds else None,
            "peak_memory_bytes": peak_memory_bytes(device),
        }
        if self._leads:
            report |= {"psi": readable(training.model), **self._course.totals()}
        self._mail.post(report)
        self._await_order("finish")

    def _leave(self, training: FederatedTraining) -> None:
        """Write ``model.pt``: a plain state_dict of the network."""
        path = self._job.folder.model
        part = path.with_suffix(".part")
        torch.save(plain_state(training.model), part)
        part.replace(path)


def _finite(value: float | None) -> float | None:
    # JSON has no NaN.
    return value if value is not None and math.isfinite(value) else None
