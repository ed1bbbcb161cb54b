"""Processes that train beside a measurement, as the other devices of the same machine would.

They share its memory and caches, so a step takes longer beside them than alone.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier

import torch

from ...pipeline.block import autocast
from ...pipeline.memory import keep_freed_memory
from ...pipeline.optimizer import make_optimizer
from ..assembly import build_criterion, build_network
from ..job import Objects
from .config import PlanConfig
from .source import make_source

__all__ = ["neighbours"]

START_SECONDS = 300.0


@contextmanager
def neighbours(config: PlanConfig, count: int, *, batch: int) -> Iterator[None]:
    """Let processes train the plan's network for as long as the context lasts.

    Args:
        config: The plan, with its threads settled.
        count: How many.
        batch: Examples per step of each.

    Raises:
        threading.BrokenBarrierError: One of them does not begin to train.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(count + 1)
    processes = [
        context.Process(target=_train, args=(config, batch, barrier), daemon=True)
        for _ in range(count)
    ]
    try:
        for process in processes:
            process.start()
        barrier.wait(START_SECONDS)
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def _train(config: PlanConfig, batch: int, barrier: Barrier) -> None:
    """Train until the process is killed; meet the others after the first step."""
    keep_freed_memory()
    torch.set_num_threads(config.train.threads or 1)
    source = make_source(config)
    network = build_network(config, Objects(), source.task).module.train()
    x, y = source.batch(batch)
    if config.train.channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    optimizer = make_optimizer(network.parameters(), config.train)
    criterion = build_criterion(config.train)
    waiting = True
    while True:
        optimizer.zero_grad(set_to_none=True)
        with autocast(x.device, config.train.precision):
            loss = criterion(network(x), y)
        loss.backward()
        optimizer.step()
        if waiting:
            barrier.wait(START_SECONDS)
            waiting = False
