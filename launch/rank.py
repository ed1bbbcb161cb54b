"""One rank of a run, from joining the others to its last report.

join -> build the stages -> load the checkpoint -> link -> "ready" ... go
  [rank of stage 1: time backpropagation]
  -> work until the stop passes -> "finished" ... [slowest stage: time it alone] -> finish
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from ..models import Network, parameters
from ..pipeline.block import Block
from ..pipeline.checkpoint import CheckpointError
from ..pipeline.crew import run_in_threads, run_in_turns
from ..pipeline.feed import Agenda, Feed, StopRequest
from ..pipeline.gpu import watch_gpu
from ..pipeline.link import LinkClosedError
from ..pipeline.mailbox import StoreMailbox
from ..pipeline.memory import keep_freed_memory
from ..pipeline.recorder import Recorder
from ..pipeline.stage import Stage
from ..pipeline.watchdog import Pulse, ordered
from ..pipeline.worker import Activity, RemoteError, Worker
from .assembly import build_block, build_data, build_heads, build_network
from .job import Job, Objects
from .measure import seconds_alone, seconds_of_backprop
from .membership import Membership
from .profiler import profiler_of
from .wiring import Wiring, wire

__all__ = ["Rank"]

POLL_SECONDS = 0.02
WARN_SECONDS = 1.0
ECHO_SECONDS = 3.0


class Rank:
    """What one process does in a run.

    Args:
        job: The run.
        objects: What a Python caller brought along.
        member: Which rank this is.
        stop: Ends the run early, with a checkpoint, when set.
    """

    def __init__(
        self, job: Job, objects: Objects, member: Membership, *, stop: StopRequest
    ) -> None:
        self._job = job
        self._objects = objects
        self._member = member
        self._stop = stop
        self._placement = job.placement
        self._stages = self._placement.stages(member.rank)
        self._store = member.store()
        self._mail = StoreMailbox(member.store(), member.rank)
        self._activities = [Activity(since=time.perf_counter()) for _ in self._stages]
        self._wiring: Wiring | None = None

    def run(self) -> None:
        """Take part in the run until it ends; report what goes wrong and raise it."""
        pulse = Pulse(
            self._member.store(),
            self._member.rank,
            self._activities,
            stop=self._stop,
            post=self._mail,
        )
        try:
            self._take_part()
        except BaseException as error:
            self._report(error)
            raise
        pulse.end()

    def _take_part(self) -> None:
        device = self._join()
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
        self._ready(blocks, device)
        if feed is not None:
            self._measure_backprop(network, device)
        workers = self._hire(blocks, self._wiring, device)
        step = self._work(workers)
        self._finish(workers, step, device)

    def _join(self) -> torch.device:
        config = self._job.config
        torch.set_num_threads(config.train.threads or 1)
        device = self._placement.device(self._member.rank, self._member.local_rank)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        else:
            keep_freed_memory()
        dist.init_process_group(
            "gloo",
            store=self._member.store(),
            rank=self._member.rank,
            world_size=self._member.world,
            timeout=timedelta(seconds=config.pipeline.start_timeout),
        )
        return device

    def _build(self, device: torch.device) -> tuple[Network, list[Block]]:
        job = self._job
        network = build_network(job.config, self._objects, job.task)
        heads = build_heads(network, job.decoupling, job.task, job.config.seed)
        blocks = [
            build_block(job, stage, network=network, heads=heads, device=device)
            for stage in self._stages
        ]
        return network, blocks

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
            evaluate_batch_size=config.evaluate.batch_size,
            splits=job.task.splits,
            final_splits=job.task.final_splits if config.evaluate.final else (),
            checkpoint_every=config.checkpoint.every,
            checkpoint_evaluated=config.checkpoint.best and job.task.splits == ("validation",),
        )
        return Feed(self._data, agenda, stop=self._stop)

    def _ready(self, blocks: Sequence[Block], device: torch.device) -> None:
        """Say so, and wait until all ranks have: what is measured next needs them idle."""
        self._mail.post(
            {
                "event": "ready",
                "rank": self._member.rank,
                "stages": self._stages,
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "device": str(device),
                "threads": torch.get_num_threads(),
                "parameters": [parameters(block.body) for block in blocks],
                "head_parameters": [parameters(block.head) for block in blocks],
            }
        )
        self._await_order("go")

    def _measure_backprop(self, network: Network, device: torch.device) -> None:
        """Time the reference that the speed-up is told against, once in a run's life."""
        job = self._job
        steps = job.config.measure.backprop
        if not steps or "backprop_seconds" in job.measured:
            return
        batches = self._data.train(batch_size=job.config.train.batch_size)
        seconds = seconds_of_backprop(job, network, batches, steps=steps, device=device)
        self._mail.post({"event": "measured", "backprop_seconds": seconds})

    def _hire(self, blocks: Sequence[Block], wiring: Wiring, device: torch.device) -> list[Worker]:
        config = self._job.config
        workers = []
        ends = zip(blocks, wiring.inlets, wiring.outlets, self._activities, strict=True)
        for block, inlet, outlet, activity in ends:
            recorder = Recorder(
                block,
                self._mail,
                every=config.log.every,
                batch_size=config.train.batch_size,
                device=device,
                gpu=watch_gpu(device),
            )
            worker = Worker(
                block,
                inlet,
                outlet,
                recorder=recorder,
                save=self._save,
                evaluated=lambda result, stage=block.index: self._mail.post(
                    {"event": "evaluated", "stage": stage, **result}
                ),
                device=device,
                activity=activity,
                profiler=profiler_of(block.index, config.profile, self._job.folder.path),
            )
            workers.append(worker)
        return workers

    def _work(self, workers: Sequence[Worker]) -> int:
        assert self._wiring is not None
        if len(workers) == 1:
            step = workers[0].run()
        elif self._placement.in_turns:
            step = run_in_turns(workers)
        else:
            step = run_in_threads(workers, self._wiring.local)
        self._wiring.close()
        return step

    def _save(self, step: int, stage: Stage) -> None:
        """Write a shard. A full disk costs the checkpoint, not the training."""
        checkpoints = self._job.folder.checkpoints
        try:
            shard = checkpoints.write(step, f"stage-{stage.index}.pt", stage.state_dict())
        except CheckpointError as error:
            self._mail.post(
                {"event": "shard_failed", "step": step, "stage": stage.index, "text": str(error)}
            )
        else:
            self._mail.post(
                {"event": "shard", "step": step, "stage": stage.index, "shard": asdict(shard)}
            )

    def _finish(self, workers: Sequence[Worker], step: int, device: torch.device) -> None:
        """Report; then wait for the word to end, or to time the slowest stage alone."""
        for worker in workers:
            recorder, index = worker.recorder, worker.stage.index
            self._mail.post(
                {
                    "event": "finished",
                    "step": step,
                    "stage": index,
                    "rank": self._member.rank,
                    "summary": recorder.summary(),
                    "spans": recorder.timeline.events(index),
                }
            )
        while not ordered(self._store, "finish"):
            alone = ordered(self._store, "alone")
            if alone is not None and int(alone) in self._stages:
                self._measure_alone(workers[self._stages.index(int(alone))], device)
                self._await_order("finish")
            time.sleep(POLL_SECONDS)

    def _measure_alone(self, worker: Worker, device: torch.device) -> None:
        seconds = None
        if worker.last_batch is not None:
            steps = self._job.config.measure.alone
            seconds = seconds_alone(worker.stage, worker.last_batch, steps=steps, device=device)
        self._mail.post({"event": "alone", "stage": worker.stage.index, "seconds": seconds})

    def _await_order(self, name: str) -> None:
        while not ordered(self._store, name):
            time.sleep(POLL_SECONDS)

    def _report(self, error: BaseException) -> None:
        """Tell the monitor, then the stages behind; what they report next is only an echo."""
        report: dict[str, Any] = {
            "event": "failed",
            "rank": self._member.rank,
            "stages": self._stages,
            "step": max(activity.step for activity in self._activities),
            "error": type(error).__name__,
            "text": str(error),
            "traceback": "".join(traceback.format_exception(error)),
            "echo": isinstance(error, LinkClosedError | RemoteError),
        }
        try:
            self._mail.post(report)
            if self._wiring is not None:
                self._wiring.warn(f"{type(error).__name__}: {error}", WARN_SECONDS)
        except Exception:
            # The store or the link may be what failed; the first error is raised anyway.
            traceback.print_exc()
        if report["echo"]:
            # torchrun calls the error that it hears first the root cause; this one is not.
            time.sleep(ECHO_SECONDS)
