"""Small trainings by torch's pipelining in the processes of a world, and the same in one loop."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from blockstep.launch.config import PipelineConfig
from blockstep.launch.training.pipelining import PipelinedWorker, make_pipelining
from blockstep.launch.training.placement import Placement
from blockstep.launch.training.wiring import wire
from blockstep.pipeline.block import Place
from blockstep.pipeline.crew import run_in_threads
from blockstep.pipeline.edge import connect, new_group
from blockstep.pipeline.feed import Agenda, Feed, StopRequest
from blockstep.pipeline.link import LinkClosedError, LocalLink, Sink
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.pipeline.pipelined_block import PipelinedBlock
from blockstep.pipeline.pipelining import Pipelining
from blockstep.pipeline.seed import derive
from torch import Tensor, nn

from tests.pipeline.parts import CPU, SEED, Images, Records, make_parts, make_worker

__all__ = [
    "AGENDA",
    "DROPOUT",
    "STEPS",
    "Plan",
    "accuracies",
    "fail",
    "fail_alone",
    "make_block",
    "merged",
    "reference",
    "train",
]

STEPS = 20
DROPOUT = 0.3
AGENDA = Agenda(start=0, steps=STEPS, batch_size=8)


@dataclass(frozen=True)
class Plan:
    """A small training.

    Attributes:
        runtime: The schedule.
        blocks: How many.
        microbatches: Of each batch.
        keys: The ``train.*`` keys.
        agenda: When what happens.
        depth: Messages that a link holds.
        broken_at: Step whose images are not numbers.
        exits_at: Step in which the process of the last block ends.
        raises_at: Step in which the last block raises.
    """

    runtime: str
    blocks: int
    microbatches: int = 4
    keys: dict[str, Any] = field(default_factory=dict)
    agenda: Agenda = AGENDA
    depth: int = 2
    broken_at: int = 0
    exits_at: int = 0
    raises_at: int = 0

    @property
    def config(self) -> OptimizationConfig:
        """How the blocks learn."""
        keys = {"lr": 0.05, "warmup": 3, "schedule": "constant", "nesterov": True, **self.keys}
        return OptimizationConfig(steps=STEPS, **keys)

    @property
    def placement(self) -> Placement:
        """Which rank runs what."""
        chunks = 2 if self.runtime == "interleaved_1f1b" else 1
        ranks = self.blocks // chunks
        return Placement(
            self.blocks, ranks, (1,) * self.blocks, "gloo", "cpu", (), False, "", chunks
        )


class Disturbed(nn.Module):
    """Does something in one of its forward passes in training.

    Args:
        number: Which, from 1.
        act: What.
    """

    def __init__(self, number: int, act: Callable[[], Any]) -> None:
        super().__init__()
        self._left = number
        self._act = act

    def forward(self, x: Tensor) -> Tensor:
        """Pass the input on."""
        self._left -= self.training
        if self._left == 0:
            self._act()
        return x


def complain() -> None:
    """Raise an error."""
    raise ValueError("the block is broken")


def make_block(plan: Plan, stage: int) -> PipelinedBlock:
    """Make one block with batch norm and dropout; only the last has a head."""
    body, head = make_parts(stage, plan.blocks, dropout=DROPOUT)
    step = plan.exits_at or plan.raises_at
    if step and stage == plan.blocks:
        act = (lambda: os._exit(7)) if plan.exits_at else complain
        body.append(Disturbed(step * plan.microbatches, act))
    return PipelinedBlock(
        body,
        head if stage == plan.blocks else nn.Identity(),
        place=Place(stage, plan.blocks, CPU, SEED),
        microbatches=plan.microbatches,
        config=plan.config,
        criterion=nn.CrossEntropyLoss(),
    )


def train(
    rank: int, plan: Plan, folder: str, states: dict[int, Any]
) -> dict[int, dict[str, Any]] | None:
    """Train this rank's blocks; return, per stage, its state and what it told."""
    placement = plan.placement
    if rank >= placement.ranks:
        # Every rank of the world creates every group.
        connect(placement.edges())
        new_group(list(range(placement.ranks)), "gloo")
        return None
    stages = placement.stages(rank)
    source = Images(broken_at=plan.broken_at)
    feed = Feed(source, plan.agenda, stop=StopRequest()) if 1 in stages else None
    config = PipelineConfig(queue_messages=plan.depth, queue_bytes=1 << 20)
    wiring = wire(placement, config, rank=rank, feed=feed, device=CPU)
    wiring.greet()
    blocks = [make_block(plan, stage) for stage in stages]
    for block in blocks:
        if states:
            block.load_state_dict(states[block.index])
    pipelining = make_pipelining(plan.runtime, placement, blocks)
    records = [Records() for _ in blocks]
    workers = [
        make_worker(
            block, inlet, outlet, kind=PipelinedWorker, records=kept, every=1,
            folder=Path(folder), pipelining=pipelining,
        )
        for block, inlet, outlet, kept in zip(
            blocks, wiring.inlets, wiring.outlets, records, strict=True
        )
    ]  # fmt: skip
    if len(workers) == 1:
        step = workers[0].run()
    else:
        step = run_in_threads(workers, [*wiring.links, *pipelining.turns])
    assert step == plan.agenda.steps
    wiring.close()
    return {
        block.index: {
            "state": block.state_dict(),
            "evaluations": kept.evaluations,
            "shards": kept.shards,
            "trained_bytes": block.trained_bytes,
            "reports": [one for one in kept.mailbox.take() if one["event"] == "train"],
        }
        for block, kept in zip(blocks, records, strict=True)
    }


def fail(rank: int, plan: Plan, folder: str) -> tuple[str, str]:
    """Train until something goes wrong; return the error's type and text."""
    try:
        train(rank, plan, folder, {})
    except LinkClosedError as error:
        return "echo", str(error)
    except Exception as error:
        return type(error).__name__, str(error)
    return "", ""


def fail_alone(rank: int, plan: Plan) -> tuple[str, str]:
    """Train all blocks on rank 0 alone; return the error's type and text."""
    group = new_group([0], "gloo")
    if rank > 0:
        return "", ""
    blocks = [make_block(plan, stage) for stage in range(1, plan.blocks + 1)]
    pipelining = Pipelining(plan.runtime, blocks, group=group)
    links = [LocalLink(f"{stage}", max_messages=1, max_bytes=1 << 20) for stage in range(1, 4)]
    feed = Feed(Images(broken_at=plan.broken_at), plan.agenda, stop=StopRequest())
    workers = [
        make_worker(block, inlet, outlet, kind=PipelinedWorker, pipelining=pipelining)
        for block, inlet, outlet in zip(blocks, [feed, *links], [*links, Sink()], strict=True)
    ]
    try:
        run_in_threads(workers, [*links, *pipelining.turns])
    except Exception as error:
        return type(error).__name__, str(error)
    return "", ""


def merged(results: list[Any]) -> dict[int, dict[str, Any]]:
    """Return the results of all ranks by stage."""
    found = {stage: one for result in results if result for stage, one in result.items()}
    return dict(sorted(found.items()))


def reference(plan: Plan) -> list[dict[str, Any]]:
    """Train the network as a whole; return the state of each block and of the head.

    One plain loop: the gradients of equal parts of each batch are added up, their losses weighed
    by the number of parts.
    """
    parts = [make_parts(k, plan.blocks, dropout=DROPOUT) for k in range(1, plan.blocks + 1)]
    bodies, classifier = [body for body, _ in parts], parts[-1][1]
    network = nn.Sequential(*bodies, classifier)
    config = plan.config
    if config.channels_last:
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    kinds: dict[str, Any] = {
        "sgd": lambda one: torch.optim.SGD(one, momentum=0.9, weight_decay=1e-4, nesterov=True),
        "adamw": lambda one: torch.optim.AdamW(one, weight_decay=1e-4),
    }
    optimizer = kinds[config.optimizer](network.parameters())
    source = Images().train(batch_size=plan.agenda.batch_size)
    for step in range(1, plan.agenda.steps + 1):
        optimizer.param_groups[0]["lr"] = config.lr * min(1.0, step / config.warmup)
        optimizer.zero_grad()
        x, y = next(source)
        for number, (rows, labels) in enumerate(
            zip(x.chunk(plan.microbatches), y.chunk(plan.microbatches), strict=True)
        ):
            (_loss(plan, bodies, classifier, rows, labels, step, number)).backward()
        if config.clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), config.clip)
        optimizer.step()
    return [
        {"body": body.state_dict(), "head": classifier.state_dict() if body is bodies[-1] else {}}
        for body in bodies
    ]


def _loss(
    plan: Plan,
    bodies: list[Any],
    classifier: nn.Module,
    h: Tensor,
    labels: Tensor,
    step: int,
    number: int,
) -> Tensor:
    if plan.config.channels_last:
        h = h.contiguous(memory_format=torch.channels_last)
    half = plan.config.precision == "bfloat16"
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        for stage, body in enumerate(bodies, start=1):
            torch.manual_seed(derive(SEED, "step", step, "stage", stage, "part", number))
            h = body(h)
        loss = nn.functional.cross_entropy(classifier(h), labels)
    return loss / plan.microbatches


def accuracies(plan: Plan, states: dict[int, Any], split: str) -> tuple[float, float]:
    """Return loss and accuracy of the whole network on a split, worked out in one go."""
    network = nn.Sequential()
    for stage in range(1, plan.blocks + 1):
        body, head = make_parts(stage, plan.blocks, dropout=DROPOUT)
        body.load_state_dict(states[stage]["body"])
        network.append(body)
        if stage == plan.blocks:
            head.load_state_dict(states[stage]["head"])
            network.append(head)
    network.eval()
    ((x, y),) = Images().evaluation(split, batch_size=10**6)
    with torch.no_grad():
        logits = network(x)
    loss = nn.functional.cross_entropy(logits, y).item()
    return loss, (logits.argmax(-1) == y).double().mean().item()
