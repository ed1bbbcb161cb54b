"""One rank of a training, from joining the others to its last report.

join -> build the stages -> load the checkpoint -> link -> "ready" ... go
  [rank 0: time backpropagation; the other replicas of stage 1 wait for that]
  -> work until the stop passes -> "finished" ... [slowest stage: time it alone] -> finish
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from ...models import Network, parameters
from ...pipeline.agreement import AgreedStop
from ...pipeline.block import Block
from ...pipeline.checkpoint import CheckpointError
from ...pipeline.crew import run_in_threads, run_in_turns
from ...pipeline.feed import Agenda, Feed
from ...pipeline.feedback import FeedbackWorker
from ...pipeline.feedback_block import FeedbackBlock
from ...pipeline.gpu import watch_gpu
from ...pipeline.link import Inlet, Outlet
from ...pipeline.mailbox import NoMailbox
from ...pipeline.memory import give_back_freed_memory
from ...pipeline.pipelined_block import PipelinedBlock
from ...pipeline.recorder import Recorder
from ...pipeline.replay import NoReplay, Replay, Ring
from ...pipeline.replicas import OneReplica, Replicas, form_teams
from ...pipeline.stage import Stage
from ...pipeline.watchdog import order, ordered
from ...pipeline.worker import Activity, Worker
from ..assembly import build_data, build_heads, build_network
from ..config import ProfileConfig
from ..rank import POLL_SECONDS, Rank
from .blocks import build_block
from .delay import delay_of, slowed
from .feedback import wire_back
from .job import TrainJob
from .measure import seconds_alone, seconds_of_backprop
from .method import METHODS
from .profiler import profiler_of
from .runtime import runtime_of
from .wiring import Wiring, wire

if TYPE_CHECKING:
    from ...pipeline.pipelining import Pipelining

__all__ = ["TrainRank"]

WARN_SECONDS = 1.0
MEASURED = "measured"


class TrainRank(Rank[TrainJob]):
    """What one process does in a training; see :class:`Rank`."""

    def _begin(self) -> Sequence[Activity]:
        self._placement = self._job.placement
        self._stages = self._placement.stages(self._member.rank)
        self._replica = self._placement.replica_of(self._member.rank)
        self._wiring: Wiring | None = None
        self._wiring_back: Wiring | None = None
        self._pipelining: Pipelining | None = None
        return [Activity(since=time.perf_counter()) for _ in self._stages]

    def _take_part(self, device: torch.device) -> None:
        network, blocks = self._build(device)
        self._load(blocks)
        feed = self._feed(device) if 1 in self._stages else None
        self._wiring = wire(
            self._placement,
            self._job.config.pipeline,
            rank=self._member.rank,
            feed=feed,
            device=device,
        )
        self._wiring.greet()
        if METHODS[self._job.config.method].feedback:
            self._wiring_back = self._link_back(device)
        if runtime_of(self._job.config).schedule:
            self._pipelining = self._join_pipeline(blocks)
        self._ready(
            device,
            stages=self._stages,
            replica=self._replica,
            parameters=[parameters(block.body) for block in blocks],
            head_parameters=[
                sum(parameters(part) for name, part in block.modules.items() if name != "body")
                for block in blocks
            ],
        )
        if feed is not None and self._backprop_is_wanted():
            self._measure_backprop(network, device)
        workers = self._hire(blocks, self._wiring, device)
        step = self._work(workers)
        self._finish(workers, step, device)

    def _link_back(self, device: torch.device) -> Wiring:
        """Make the links that error signals travel on, and try them."""
        bounds, rank = self._job.config.pipeline, self._member.rank
        wiring = wire_back(self._placement, bounds, rank=rank, device=device)
        wiring.greet()
        return wiring

    def _join_pipeline(self, blocks: Sequence[Block]) -> Pipelining:
        """Get what torch's pipelining needs."""
        from .pipelining import make_pipelining

        return make_pipelining(self._job.config.runtime, self._placement, blocks)

    def _build(self, device: torch.device) -> tuple[Network, list[Block]]:
        job = self._job
        network = build_network(job.config, self._objects, job.task)
        heads = build_heads(network, job.decoupling, job.task, job.config.seed)
        self._team = team = self._meet()
        blocks = [
            build_block(job, stage, network=network, heads=heads, device=device, replicas=team)
            for stage in self._stages
        ]
        return network, blocks

    def _meet(self) -> OneReplica:
        """Join the ranks that share this one's stage, if there are any."""
        placement = self._placement
        stages = [placement.ranks_of(stage) for stage in range(1, placement.blocks + 1)]
        team = form_teams(stages, backend=placement.link)
        if team is None:
            return OneReplica()
        (stage,), (activity,) = self._stages, self._activities

        def tell(state: str) -> None:
            if activity.state != "done":
                activity.enter(state, time.perf_counter())

        count = placement.replicas[stage - 1]
        return Replicas(team, stage=stage, number=self._replica, count=count, tell=tell)

    def _load(self, blocks: Sequence[Block]) -> None:
        if self._job.start == 0:
            return
        checkpoints = self._job.folder.checkpoints
        checkpoint = checkpoints.read(checkpoints.path(self._job.start))
        for block in blocks:
            block.load_state_dict(
                checkpoint.load(f"stage-{block.index}.pt", device=block.place.device)
            )

    def _feed(self, device: torch.device) -> Feed:
        job, config = self._job, self._job.config
        self._data = build_data(config, self._objects, device)
        agenda = Agenda(
            start=job.start,
            steps=config.train.steps,
            batch_size=config.train.batch_size,
            evaluate_every=config.evaluate.every or 0,
            evaluate_batch_size=config.evaluate.batch_size or config.train.batch_size,
            splits=job.task.splits,
            final_splits=job.task.final_splits if config.evaluate.final else (),
            checkpoint_every=config.checkpoint.every,
            checkpoint_evaluated=config.checkpoint.best and job.task.splits == ("validation",),
        )
        replicas = self._placement.replicas[0]
        if replicas == 1:
            return Feed(self._data, agenda, stop=self._stop)
        stop = AgreedStop(self._member.store(), self._stop, first=self._replica == 1)
        return Feed(self._data, agenda, stop=stop, replica=self._replica, replicas=replicas)

    def _backprop_is_wanted(self) -> bool:
        measured = "backprop_seconds" in self._job.measured
        return bool(self._job.config.measure.backprop) and not measured

    def _measure_backprop(self, network: Network, device: torch.device) -> None:
        """Time the reference that the speed-up is told against, once in a run's life.

        One rank does so. The other replicas of its stage would begin with step 1; they wait.
        """
        if self._replica > 1:
            self._await_order(MEASURED)
            return
        job = self._job
        steps = job.config.measure.backprop
        batches = self._data.train(batch_size=job.config.train.batch_size)
        seconds = seconds_of_backprop(job, network, batches, steps=steps, device=device)
        give_back_freed_memory()
        self._mail.post({"event": "measured", "backprop_seconds": seconds})
        if self._placement.replicas[0] > 1:
            order(self._store, MEASURED)

    def _hire(self, blocks: Sequence[Block], wiring: Wiring, device: torch.device) -> list[Worker]:
        config = self._job.config
        # The figures of a stage are those of its first replica.
        first = self._replica == 1
        post, profile = (self._mail, config.profile) if first else (NoMailbox(), ProfileConfig())
        workers = []
        ends = zip(blocks, wiring.inlets, wiring.outlets, self._activities, strict=True)
        for block, inlet, outlet, activity in ends:
            replay = self._replay(block, inlet)
            around = profiler_of(block.index, profile, self._job.folder.path)
            recorder = Recorder(
                block,
                post,
                every=config.log.every,
                batch_size=config.train.batch_size,
                device=device,
                gpu=watch_gpu(device),
                replay=replay,
            )
            worker = self._worker(
                block,
                inlet,
                outlet,
                recorder=recorder,
                save=self._save,
                evaluated=partial(self._evaluated, block.index),
                device=device,
                activity=activity,
                replay=replay,
                around=slowed(around, delay_of(config.pipeline, block.index)),
            )
            workers.append(worker)
        return workers

    def _replay(self, block: Block, inlet: Inlet) -> NoReplay:
        """Let a stage learn again while its link is empty; the first one has no link."""
        wanted = self._job.config.replay
        if not wanted.batches or block.index == 1:
            return NoReplay()
        return Replay(block, inlet, Ring(wanted.batches, reuse=wanted.reuse))

    def _worker(self, block: Block, inlet: Inlet, outlet: Outlet, **options: Any) -> Worker:
        """Make the loop of a stage, with the links back where it has them."""
        if self._pipelining is not None and isinstance(block, PipelinedBlock):
            from .pipelining import PipelinedWorker

            return PipelinedWorker(block, inlet, outlet, pipelining=self._pipelining, **options)
        back = self._wiring_back
        if back is None or not isinstance(block, FeedbackBlock):
            return Worker(block, inlet, outlet, **options)
        place = self._stages.index(block.index)
        signals, errors = back.inlets[place], back.outlets[place]
        return FeedbackWorker(block, inlet, outlet, signals=signals, back=errors, **options)

    def _evaluated(self, stage: int, result: dict[str, Any]) -> None:
        """Tell the results. On a CPU, what only the evaluation needed goes back to the kernel."""
        if self._replica == 1:
            self._mail.post({"event": "evaluated", "stage": stage, **result})
        give_back_freed_memory()

    def _work(self, workers: Sequence[Worker]) -> int:
        assert self._wiring is not None
        if len(workers) == 1:
            step = workers[0].run()
        elif self._placement.in_turns:
            step = run_in_turns(workers)
        else:
            back = self._wiring_back.links if self._wiring_back is not None else []
            turns = self._pipelining.turns if self._pipelining is not None else []
            step = run_in_threads(workers, [*self._wiring.links, *back, *turns])
        self._wiring.close()
        if self._wiring_back is not None:
            self._wiring_back.close()
        return step

    def _save(self, step: int, stage: Stage) -> None:
        """Write a shard. A full disk costs the checkpoint, not the training.

        Replicas are equal: the first one's state is that of the stage.
        """
        if self._replica > 1:
            return
        checkpoints = self._job.folder.checkpoints
        try:
            shard = checkpoints.write(step, f"stage-{stage.index}.pt", stage.state_dict())
        except CheckpointError as error:
            where = f"stage {stage.index}"
            self._mail.post(
                {"event": "shards_failed", "step": step, "where": where, "text": str(error)}
            )
        else:
            self._post_shards(step, stage.index, [shard])

    def _finish(self, workers: Sequence[Worker], step: int, device: torch.device) -> None:
        """Report; then wait for the word to end, or to time the slowest stage alone."""
        for worker in workers:
            recorder, index = worker.recorder, worker.stage.index
            sent = self._bytes_per_step(step, worker.stage)
            self._mail.post(
                {
                    "event": "finished",
                    "step": step,
                    "stage": index,
                    "replica": self._replica,
                    "rank": self._member.rank,
                    "summary": {**recorder.summary(), "bytes_per_step": sent},
                    "spans": recorder.timeline.events(index, replica=self._replica),
                }
            )
        while not ordered(self._store, "finish"):
            alone = ordered(self._store, "alone")
            if alone is not None and int(alone) in self._stages:
                self._measure_alone(workers[self._stages.index(int(alone))], device)
                self._await_order("finish")
            time.sleep(POLL_SECONDS)

    def _bytes_per_step(self, step: int, stage: Stage) -> float | None:
        """Return what this rank sent to others per training step.

        What several stages of a rank sent by their links is told with the first of them.
        """
        sent = stage.trained_bytes if isinstance(stage, PipelinedBlock) else 0
        if stage.index == self._stages[0]:
            links = [wiring for wiring in (self._wiring, self._wiring_back) if wiring is not None]
            sent += sum(wiring.trained_bytes for wiring in links) + self._team.trained_bytes
        steps = step - self._job.start
        return sent / steps if steps else None

    def _measure_alone(self, worker: Worker, device: torch.device) -> None:
        """Time a stage; its replicas do so together, because each waits for the others."""
        seconds = None
        if worker.last_batch is not None:
            config = self._job.config
            seconds = seconds_alone(
                worker.stage,
                worker.last_batch,
                steps=config.measure.alone,
                device=device,
                around=slowed(
                    lambda step: nullcontext(), delay_of(config.pipeline, worker.stage.index)
                ),
            )
        if self._replica == 1:
            self._mail.post({"event": "alone", "stage": worker.stage.index, "seconds": seconds})

    def _warn(self, text: str) -> None:
        for wiring in (self._wiring, self._wiring_back):
            if wiring is not None:
                wiring.warn(text, WARN_SECONDS)
