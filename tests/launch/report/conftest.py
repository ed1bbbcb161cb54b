"""Folders of runs that never ran, in the true formats, from a simulated pipeline."""

from __future__ import annotations

import json
import math
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from blockstep.launch.config import TrainConfig
from blockstep.launch.configfile import config_to_yaml
from blockstep.pipeline.timeline import StepTimes, Timeline

START = 1_760_000_000.0
CLOCK = 5_000.0
"""What the monotonic clock of the machine shows when the run begins."""


@dataclass
class Plan:
    """What a simulated run is like."""

    blocks: int = 3
    steps: int = 120
    every: int = 10
    seed: int = 0
    accuracy: float = 0.95
    evaluate: int = 40
    queue: int = 4
    busy: tuple[float, ...] = (0.012, 0.016, 0.009)
    warm_up: float = 0.05
    ended: bool = True
    failure: str | None = None
    until: int | None = None
    gpu: bool = False
    summary: dict[str, Any] = field(default_factory=dict)
    config: Callable[[TrainConfig], None] = lambda config: None

    def seconds(self, stage: int) -> float:
        """Return the time a stage computes per step."""
        return self.busy[(stage - 1) % len(self.busy)]


@dataclass
class Simulation:
    """A pipeline of stages with bounded links between them, without any network."""

    plan: Plan
    times: dict[int, list[StepTimes]] = field(default_factory=dict)
    timelines: dict[int, Timeline] = field(default_factory=dict)

    def run(self) -> None:
        """Work out when each stage does each step."""
        plan, rng = self.plan, random.Random(self.plan.seed)
        stages = range(1, plan.blocks + 1)
        self.times = {stage: [] for stage in stages}
        self.timelines = {stage: Timeline() for stage in stages}
        free = dict.fromkeys(stages, CLOCK)
        taken: dict[int, list[float]] = {stage: [] for stage in stages}
        for step in range(1, (plan.until or plan.steps) + 1):
            ready = CLOCK
            for stage in stages:
                begin = free[stage]
                wait_in = max(0.0, ready - begin)
                taken[stage].append(begin + wait_in)
                busy = plan.seconds(stage) * rng.uniform(0.85, 1.25)
                busy += plan.warm_up / stage if step == 1 else 0.0
                done = begin + wait_in + busy
                ready = done
                if stage < plan.blocks:
                    # The link has room once the next stage took the step before by its length.
                    before = step - plan.queue - 1
                    later = taken[stage + 1]
                    room = later[before] if 0 <= before < len(later) else done
                    ready = max(done, room)
                times = StepTimes(step, begin, wait_in, busy, ready - done)
                self.times[stage].append(times)
                self.timelines[stage].add(times)
                free[stage] = ready
                if plan.evaluate and step % plan.evaluate == 0:
                    free[stage] = self._mark(stage, step, free[stage])

    def _mark(self, stage: int, step: int, now: float) -> float:
        timeline = self.timelines[stage]
        timeline.mark("evaluate", step=step, begin=now, seconds=0.03)
        timeline.mark("checkpoint", step=step, begin=now + 0.031, seconds=0.006)
        return now + 0.04

    def end(self, stage: int, step: int) -> float:
        """Return when a stage was done with a step, in unix seconds."""
        times = self.times[stage][step - 1]
        return START + times.begin + times.seconds - CLOCK


def _train_record(simulation: Simulation, stage: int, step: int) -> dict[str, Any]:
    plan, rng = simulation.plan, random.Random(f"{simulation.plan.seed} {stage} {step}")
    interval = simulation.times[stage][step - plan.every : step]
    count = len(interval)
    progress = step / plan.steps
    skill = plan.accuracy * (1 - math.exp(-4 * progress)) * (0.8 + 0.2 * stage / plan.blocks)
    gpu = {
        "utilization": 90.0 - 5 * stage,
        "memory_bytes": 4e9,
        "power_watts": 300.0 + stage,
        "temperature": 55.0 + progress,
    }
    return {
        "event": "train",
        "time": round(simulation.end(stage, step), 3),
        "step": step,
        "stage": stage,
        "loss": 2.3 * math.exp(-3 * progress) * (1.1 - 0.1 * stage) + rng.uniform(0, 0.1),
        "accuracy": min(1.0, max(0.0, skill + rng.uniform(-0.03, 0.03))),
        "lr": 0.05 * (1 + math.cos(math.pi * progress)),
        "images_per_second": count * 32 / sum(times.seconds for times in interval),
        "busy": sum(times.busy for times in interval) / count,
        "wait_in": sum(times.wait_in for times in interval) / count,
        "wait_out": sum(times.wait_out for times in interval) / count,
        "queue_depth": rng.randint(0, plan.queue) if stage > 1 else 0,
        "queue_bytes": 4096 * rng.randint(0, plan.queue),
        "staleness": rng.uniform(0, plan.queue) if stage > 1 else 0.0,
        "memory_bytes": int(4.0e8 + 2e7 * stage + 1e6 * progress),
        "gpu": gpu if plan.gpu else None,
    }


def _evaluation_record(plan: Plan, split: str, step: int, time: float) -> dict[str, Any]:
    rng = random.Random(f"{plan.seed} {split} {step}")
    reached = plan.accuracy * (1 - math.exp(-5 * step / plan.steps))
    accuracies = [
        reached * (0.8 + 0.2 * block / plan.blocks) - rng.uniform(0, 0.02)
        for block in range(1, plan.blocks + 1)
    ]
    return {
        "event": "evaluation",
        "time": time,
        "step": step,
        "split": split,
        "losses": [2.0 * (1 - accuracy) for accuracy in accuracies],
        "accuracies": accuracies,
        "ensemble_accuracy": accuracies[-1] + 0.004 if plan.blocks > 1 else None,
        "metrics": [{"f1": accuracy - 0.01} for accuracy in accuracies],
        "seconds": 0.03,
    }


def _records(simulation: Simulation) -> list[dict[str, Any]]:
    plan = simulation.plan
    last, stop = plan.blocks, plan.until or plan.steps
    records: list[dict[str, Any]] = [{"event": "start", "time": START - 1, "step": 0}]
    speed = 32 / (sum(plan.seconds(stage) for stage in range(1, plan.blocks + 1)) * 1.05)
    records.append({"event": "measured", "time": START, "backprop_images_per_second": speed})
    for step in range(plan.every, stop + 1, plan.every):
        stages = range(1, last + 1)
        records += [_train_record(simulation, stage, step) for stage in stages]
    for step in range(plan.evaluate, stop + 1, plan.evaluate):
        time = simulation.end(last, step) + 0.035
        records.append(_evaluation_record(plan, "validation", step, time))
        path = f"checkpoints/step-{step}"
        checkpoint = {"event": "checkpoint", "time": time + 0.01, "step": step, "path": path}
        records.append({**checkpoint, "bytes": 3_456_789, "best": step == plan.evaluate})
    end = simulation.end(last, stop) + 0.1
    if plan.failure is not None:
        records.append({"event": "failed", "time": end, "step": stop, "text": plan.failure})
    elif plan.ended:
        records.append(_evaluation_record(plan, "test", stop, end))
        records.append({"event": "end", "time": end + 0.01, "step": stop})
    return sorted(records, key=lambda record: record["time"])


def _summary(simulation: Simulation, cuts: list[int], test: dict[str, Any]) -> dict[str, Any]:
    plan = simulation.plan
    busy = {s: line.median_busy() or 0.0 for s, line in simulation.timelines.items()}
    waits = {s: line.mean_waits() for s, line in simulation.timelines.items()}
    times = simulation.times[plan.blocks][10:]
    speed = len(times) * 32 / sum(one.seconds for one in times)
    slowest = max(busy, key=lambda stage: busy[stage])
    whole = sum(plan.seconds(stage) for stage in busy) * 1.05
    stages = [
        {
            "stage": stage,
            "rank": stage - 1,
            "pid": 4000 + stage,
            "host": "here",
            "device": "cpu",
            "params": 120_000 * stage,
            "head_params": 34_000,
            "wait_in": waits[stage][0],
            "wait_out": waits[stage][1],
            "images_per_second": speed,
            "busy": busy[stage],
            "peak_memory_bytes": 450_000_000 + 1_000_000 * stage,
        }
        for stage in busy
    ]
    return {
        "command": "train",
        "method": "decoupled",
        "runtime": "pipeline",
        "network": "resnet18",
        "data": "digits",
        "blocks": plan.blocks,
        "cuts": cuts,
        "heads": ["aux1"] * len(cuts),
        "steps": plan.until or plan.steps,
        "batch_size": 32,
        "seed": plan.seed,
        "device": "cpu",
        "threads": 1,
        "test_accuracy": test["accuracies"][-1],
        "ensemble_accuracy": test["ensemble_accuracy"],
        "block_accuracy": test["accuracies"],
        "seconds": simulation.end(plan.blocks, plan.until or plan.steps) - START,
        "images_per_second": speed,
        "backprop_images_per_second": 32 / whole,
        "speedup_vs_backprop": speed * whole / 32,
        "efficiency": speed * busy[slowest] / 32,
        "slowest_alone": busy[slowest] * 0.93,
        "slowest_stage": slowest,
        "stages": stages,
        **plan.summary,
    }


def _trace(simulation: Simulation) -> dict[str, Any]:
    events: list[dict[str, Any]] = []
    for stage, timeline in simulation.timelines.items():
        name = f"stage {stage} (rank {stage - 1})"
        events.append({"name": "process_name", "ph": "M", "pid": stage, "args": {"name": name}})
        events.extend(timeline.events(stage))
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def write_folder(folder: Path, plan: Plan) -> Path:
    """Write the files of a run."""
    folder.mkdir(parents=True)
    simulation = Simulation(plan)
    simulation.run()
    cuts = [2 * stage for stage in range(1, plan.blocks)]
    config = TrainConfig(blocks=plan.blocks, seed=plan.seed, name=folder.name, device="cpu")
    config.train.steps, config.train.batch_size, config.train.threads = plan.steps, 32, 1
    config.log.every, config.pipeline.link = plan.every, "gloo"
    plan.config(config)
    (folder / "config.yaml").write_text(config_to_yaml(config))
    heads = ["aux1"] * len(cuts)
    decoupling = {"format": 1, "network": "resnet18", "layers": 9, "cuts": cuts, "heads": heads}
    decoupling["layers"] = 2 * plan.blocks + 1
    (folder / "decoupling.json").write_text(json.dumps(decoupling))
    ranks = [
        {
            "rank": stage - 1,
            "stage": stage,
            "pid": 1 << 30,
            "host": socket.gethostname(),
        }
        for stage in range(1, plan.blocks + 1)
    ]
    (folder / "ranks.json").write_text(json.dumps(ranks))
    records = _records(simulation)
    lines = [json.dumps(record) + "\n" for record in records]
    (folder / "metrics.jsonl").write_text("".join(lines))
    if plan.ended and plan.failure is None:
        test = next(record for record in records if record.get("split") == "test")
        (folder / "trace.json").write_text(json.dumps(_trace(simulation)))
        (folder / "summary.json").write_text(json.dumps(_summary(simulation, cuts, test)))
    return folder


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """Write the folder of a run: ``write_run("name", blocks=2, seed=1)``; see :class:`Plan`."""

    def write(name: str = "first", **plan: Any) -> Path:
        return write_folder(tmp_path / name, Plan(**plan))

    return write
