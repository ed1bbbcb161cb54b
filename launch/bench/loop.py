"""Backpropagation as a plain PyTorch loop: what every speed-up is told against.

    python -m blockstep.launch.bench.loop WORDS

It takes the words of a training (``method=backprop``), the same network, data, order and
optimizer, and uses nothing of the runtime. It leaves the files that a comparison reads.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...pipeline.block import autocast
from ...pipeline.memory import keep_freed_memory
from ...pipeline.optimization import Schedule
from ...pipeline.optimizer import make_optimizer
from ...pipeline.recorder import WARM_UP_STEPS, peak_memory_bytes
from ..assembly import build_criterion, build_data, build_examiner, build_network, task_of
from ..compose import compose
from ..config import TrainConfig
from ..configfile import config_to_yaml
from ..data import Data
from ..devices import device_kind, device_of
from ..folder import RunFolder
from ..job import Objects

__all__ = ["main"]


class Loop:
    """The network, its optimizer and the steps of one training.

    Args:
        config: The configuration.
        device: Where it computes.
    """

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.data: Data = build_data(config, Objects(), device)
        self.task = task_of(self.data)
        self.network = build_network(config, Objects(), self.task).module.to(device)
        if config.train.channels_last:
            self.network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.optimizer = make_optimizer(list(self.network.parameters()), config.train)
        self.schedule = Schedule(config.train)
        self.criterion = build_criterion(config.train)
        self.examiner = build_examiner(config.train)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.train.precision == "float16")
        self.batches = self.data.train(batch_size=config.train.batch_size)

    def step(self, number: int) -> None:
        """Learn from the next batch."""
        x, y = next(self.batches)
        self.network.train()
        self.schedule.apply(self.optimizer, number)
        self.optimizer.zero_grad(set_to_none=True)
        for part, labels in self._parts(self._arrange(x), y):
            with autocast(self.device, self.config.train.precision):
                loss = self.criterion(self.network(part), labels)
            self.scaler.scale(loss * (len(labels) / len(y))).backward()
        if self.config.train.clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.train.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    @torch.no_grad()
    def evaluate(self, split: str) -> tuple[float, float]:
        """Return accuracy and loss on ``split``."""
        self.network.eval()
        size = self.config.evaluate.batch_size or self.config.train.batch_size
        correct, loss, count = 0, 0.0, 0
        for x, y in self.data.evaluation(split, batch_size=size):
            with autocast(self.device, self.config.train.precision):
                logits = self.network(self._arrange(x))
                loss += float(self.examiner(logits, y)) * len(y)
            correct += int((logits.argmax(-1) == y).sum())
            count += len(y)
        return correct / count, loss / count

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _parts(self, x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        chunk = self.config.train.chunk or len(y)
        yield from zip(x.split(chunk), y.split(chunk), strict=True)

    def _arrange(self, x: Tensor) -> Tensor:
        if x.dim() == 4 and self.config.train.channels_last:
            return x.contiguous(memory_format=torch.channels_last)
        return x


class Clock:
    """Times training steps: not those at the start and after each evaluation, as in the runtime.

    Args:
        loop: What is timed.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._skip = WARM_UP_STEPS
        self._began: float | None = None
        self.seconds, self.steps = 0.0, 0

    def step(self, number: int) -> None:
        """Do a step."""
        if not self._skip and self._began is None:
            self._loop.synchronize()
            self._began = time.perf_counter()
        self._loop.step(number)
        if self._began is None:
            self._skip -= 1
        else:
            self.steps += 1

    def pause(self) -> None:
        """Stop until the next steps have warmed up again."""
        if self._began is not None:
            self._loop.synchronize()
            self.seconds += time.perf_counter() - self._began
        self._began, self._skip = None, WARM_UP_STEPS


def train(loop: Loop, folder: RunFolder) -> dict[str, Any]:
    """Train to the end, and write down every evaluation.

    Returns:
        The summary.
    """
    config, task = loop.config, loop.task
    steps, every = config.train.steps, config.evaluate.every or max(1, config.train.steps // 10)
    clock = Clock(loop)
    test: float | None = None
    with folder.metrics.open("w") as file:
        for step in range(1, steps + 1):
            clock.step(step)
            splits = task.splits if step % every == 0 else ()
            if step == steps:
                splits = task.final_splits if config.evaluate.final else ()
            if splits or step == steps:
                clock.pause()
            for split in splits:
                accuracy, loss = loop.evaluate(split)
                test = accuracy if split == "test" else test
                file.write(json.dumps(_evaluation(step, split, accuracy, loss)) + "\n")
    batch = config.train.batch_size
    speed = clock.steps * batch / clock.seconds if clock.steps else None
    return _summary(loop, speed, test)


def _evaluation(step: int, split: str, accuracy: float, loss: float) -> dict[str, Any]:
    return {
        "event": "evaluation",
        "time": time.time(),
        "step": step,
        "split": split,
        "losses": [loss],
        "accuracies": [accuracy],
        "ensemble_accuracy": None,
    }


def _summary(loop: Loop, speed: float | None, test: float | None) -> dict[str, Any]:
    config = loop.config
    memory = peak_memory_bytes(loop.device)
    return {
        "command": "loop",
        "method": "backprop",
        "data": loop.task.data,
        "blocks": 1,
        "cuts": [],
        "heads": [],
        "steps": config.train.steps,
        "batch_size": config.train.batch_size,
        "seed": config.seed,
        "device": str(loop.device),
        "threads": torch.get_num_threads(),
        "test_accuracy": test,
        "block_accuracy": [] if test is None else [test],
        "images_per_second": speed,
        "efficiency": None,
        "stages": [{"stage": 1, "rank": 0, "head_params": 0, "peak_memory_bytes": memory}],
    }


def main(words: Sequence[str]) -> None:
    """Train as ``words`` say."""
    config = compose("train", words)
    folder = RunFolder(Path(config.runs) / str(config.name))
    folder.create()
    torch.set_num_threads(config.train.threads or 1)
    device = device_of(0, 0, kind=device_kind(config.device, ()), devices=())
    if device.type == "cpu":
        keep_freed_memory()
    folder.config.write_text(config_to_yaml(config))
    folder.write_json(folder.summary, train(Loop(config, device), folder))


if __name__ == "__main__":
    main(sys.argv[1:])
