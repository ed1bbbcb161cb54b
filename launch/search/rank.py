"""One rank of a search, from joining the others to its last report.

rank 0   join -> build -> load -> go -> time the layers -> pretrain --+--> outer steps -> finish
rank 1   join -> build -> load -> go -> wait -------------------------+--> outer steps -> finish

Rank 0 decides when to stop, and the others ask it before every step that they do together. Rank 0
also writes the checkpoints and tells what was found: all ranks have the same.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from ...models import Network
from ...pipeline.checkpoint import CheckpointError
from ...pipeline.recorder import memory_bytes, peak_memory_bytes
from ...pipeline.stage import NonFiniteLossError
from ...search.exchange import ALONE, Exchange
from ...search.sedona import Search
from ..assembly import build_data, build_network
from ..data import Data
from ..measurement import measure_profile
from ..rank import Rank
from .checkpoint import SearchCheckpoints
from .exchange import GlooExchange
from .job import SearchJob
from .pace import Pace
from .relaxation import build_relaxation
from .source import DataSource

__all__ = ["SearchRank"]


class SearchRank(Rank[SearchJob]):
    """What one process does in a search; see :class:`Rank`."""

    def _take_part(self, device: torch.device) -> None:
        job, config = self._job, self._job.config
        self._data = build_data(config, self._objects, device)
        network = build_network(config, self._objects, job.task)
        self._exchange = self._meet()
        self._checkpoints = SearchCheckpoints(job.folder.checkpoints)
        self._pace = Pace()
        self._step = self._saved = job.start
        search = self._build(network, device)
        if job.start and (self._leads or job.start >= config.train.steps):
            self._checkpoints.read(job.start, search)
        self._ready(device)
        if self._leads:
            self._profile(network, self._data, device)
        self._work(search)
        self._finish(search, device)

    @property
    def _leads(self) -> bool:
        return self._member.rank == 0

    def _meet(self) -> Exchange:
        if self._job.ranks == 1:
            return ALONE
        return GlooExchange(self._member.store(), self._activities[0])

    def _build(self, network: Network, device: torch.device) -> Search:
        config = self._job.config
        source = DataSource(
            self._data,
            batch_size=config.train.batch_size,
            validation_batch=config.search.validation_batch,
        )
        return Search(
            build_relaxation(config, network, self._job.task, device=device),
            source,
            settings=config.search,
            optimization=config.train,
            seed=config.seed,
            exchange=self._exchange,
        )

    def _profile(self, network: Network, data: Data, device: torch.device) -> None:
        """Time layers and heads while the other ranks wait, once in a run's life."""
        job = self._job
        if not job.config.search.profile or job.folder.profile.exists():
            return
        self._activities[0].enter("busy", time.perf_counter())
        heads = list(job.config.search.heads)
        profile = measure_profile(job.config, network, data, heads=heads, device=device)
        self._mail.post({"event": "profiled", "profile": profile.to_json()})

    def _work(self, search: Search) -> None:
        """Go on until the search is done or somebody asks it to stop; then save."""
        activity, every = self._activities[0], self._job.config.checkpoint.every
        while not search.done and self._goes_on(search):
            activity.enter("busy", time.perf_counter(), self._step)
            begin = time.perf_counter()
            record = search.advance()
            if record["step"]:
                self._pace.add(record["phase"], time.perf_counter() - begin)
            self._check(record)
            activity.turns += 1
            self._step = self._done(record)
            if self._leads:
                self._tell(record)
                if every and self._step % every == 0:
                    self._save(search)
        if self._leads and self._saved != self._step:
            self._save(search)
        activity.enter("done", time.perf_counter())

    def _done(self, record: dict[str, Any]) -> int:
        """Return the steps of both phases that are done."""
        if record["phase"] == "search":
            return self._job.config.train.steps + record["step"]
        return record["step"] if self._leads else self._job.config.train.steps

    def _goes_on(self, search: Search) -> bool:
        """Whether to do another step; what all do together begins or ends on all ranks."""
        stops = self._stop.is_set()
        last = self._job.config.train.steps - 1
        alone = self._leads and search.phase == "pretrain" and self._step < last
        if self._job.ranks == 1 or (alone and not stops):
            return not stops
        (answer,) = self._exchange.share([torch.tensor([not stops])], source=0)
        return bool(answer)

    def _check(self, record: dict[str, Any]) -> None:
        """A pretraining that has exploded has no weights to go on with."""
        for layer, loss in enumerate(record.get("losses", ()), start=1):
            if not math.isfinite(loss):
                raise NonFiniteLossError(
                    f"the loss of layer {layer} at pretraining step {record['step']} is {loss} at "
                    f"learning rate {record['lr']:g}. Lower train.lr or add train.warmup; the "
                    "last good checkpoint is kept"
                )

    def _tell(self, record: dict[str, Any]) -> None:
        """Report every few steps, and whatever happens seldom."""
        # JSON has no NaN: the loss of a sample that exploded is null.
        told = {key: None if _is_lost(value) else value for key, value in record.items()}
        del told["phase"]
        step, every = record["step"], self._job.config.log.every
        evaluated = record["phase"] == "pretrain" and record.get("accuracy") is not None
        if step and (step % every == 0 or step in (1, record["steps"]) or evaluated):
            seconds = self._pace.take()
            memory = memory_bytes()
            self._mail.post(
                {"event": record["phase"], **told, "seconds": seconds, "memory_bytes": memory}
            )

    def _save(self, search: Search) -> None:
        """Write a checkpoint. A full disk costs the checkpoint, not the search."""
        step, self._saved = self._step, self._step
        self._find(search)
        try:
            shards = self._checkpoints.write(step, search)
        except CheckpointError as error:
            self._mail.post(
                {"event": "shards_failed", "step": step, "where": "rank 0", "text": str(error)}
            )
        else:
            self._post_shards(step, 0, shards)

    def _find(self, search: Search) -> None:
        """Tell alpha and beta as they are now."""
        found = {"alpha": search.alpha.tolist(), "beta": search.beta.tolist()}
        self._mail.post({"event": "found", "step": search.step, **found})

    def _finish(self, search: Search, device: torch.device) -> None:
        """Report; then wait for the word to end."""
        if self._leads:
            self._find(search)
        self._mail.post(
            {
                "event": "finished",
                "rank": self._member.rank,
                "step": self._step,
                "skipped": search.skipped,
                "lost": search.lost,
                "pace": self._pace.totals(),
                "peak_memory_bytes": peak_memory_bytes(device),
            }
        )
        self._await_order("finish")


def _is_lost(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
