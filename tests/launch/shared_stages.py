"""Small trainings with replicas in the processes of a world, and the same in one process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from blockstep.launch.config import PipelineConfig
from blockstep.launch.training.placement import Placement
from blockstep.launch.training.wiring import wire
from blockstep.pipeline.block import Block
from blockstep.pipeline.crew import run_in_turns
from blockstep.pipeline.edge import connect
from blockstep.pipeline.feed import Agenda, Feed, StopRequest
from blockstep.pipeline.link import LocalLink, Sink
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.pipeline.replicas import OneReplica, Replicas, form_teams
from blockstep.pipeline.seed import derive
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from tests.pipeline.parts import CLASSES, CPU, SEED, WIDTH, Images, Records, make_worker
from tests.pipeline.parts import make_block as make

__all__ = [
    "AGENDA",
    "STEPS",
    "TOLERANCE",
    "Plan",
    "Typed",
    "alone",
    "by_stage",
    "farthest",
    "make_block",
    "result",
    "train",
    "weights",
]

STEPS = 6
BATCH = 7
AGENDA = Agenda(
    start=0,
    steps=STEPS,
    batch_size=BATCH,
    evaluate_every=3,
    evaluate_batch_size=5,
    splits=("validation",),
    final_splits=("test",),
    checkpoint_every=3,
)
TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5}


@dataclass(frozen=True)
class Plan:
    """A small training.

    Attributes:
        replicas: Of each stage.
        keys: The ``train.*`` keys.
        norm: Whether the blocks have batch normalisation.
        dropout: Of every block.
        wide: Whether heads are so large that their gradients are averaged in several pieces.
        dtype: Of all numbers.
        depth: Messages that a link holds.
        agenda: When what happens.
        broken: Step and rows whose images are not numbers.
    """

    replicas: tuple[int, ...]
    keys: dict[str, Any] = field(default_factory=dict)
    norm: bool = False
    dropout: float = 0.0
    wide: bool = False
    dtype: torch.dtype = torch.float64
    depth: int = 4
    agenda: Agenda = AGENDA
    broken: tuple[int, slice] | None = None

    @property
    def config(self) -> OptimizationConfig:
        """How the blocks learn."""
        return OptimizationConfig(**{"steps": STEPS, "lr": 0.05, "warmup": 2, **self.keys})

    @property
    def placement(self) -> Placement:
        """Which rank runs what."""
        blocks, ranks = len(self.replicas), sum(self.replicas)
        return Placement(blocks, ranks, self.replicas, "gloo", "cpu", (), False, "")


class Typed(Images):
    """The images in another type, some of them broken."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan
        self._x = self._x.to(plan.dtype)

    def train(self, *, batch_size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches, with the broken rows."""
        batches = super().train(batch_size=batch_size, start=start)
        for step, (x, y) in enumerate(batches, start=start + 1):
            if self._plan.broken is not None and step == self._plan.broken[0]:
                x[self._plan.broken[1]] = float("nan")
            yield x, y


def make_block(plan: Plan, stage: int, replicas: OneReplica | None = None) -> Block:
    """Make one block, with a layer that no step uses."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(SEED, "init", stage))
        body = nn.Sequential(
            nn.Conv2d(3 if stage == 1 else WIDTH, WIDTH, 3, padding=1),
            nn.BatchNorm2d(WIDTH) if plan.norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(plan.dropout),
        )
        inner = [nn.Linear(4 * WIDTH, 640), nn.ReLU(), nn.Linear(640, 640)] if plan.wide else []
        outer = nn.Linear(640 if plan.wide else 4 * WIDTH, CLASSES)
        head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), *inner, outer)
        head[0].register_parameter("unused", nn.Parameter(torch.ones(3)))
    return make(
        plan.config,
        index=stage,
        blocks=len(plan.replicas),
        parts=(body.to(plan.dtype), head.to(plan.dtype)),
        metrics={"confusion": MulticlassConfusionMatrix(CLASSES)},
        replicas=replicas,
    )


def result(block: Block, records: Records) -> dict[str, Any]:
    """Return what is compared of a stage."""
    reports = [report for report in records.mailbox.take() if report["event"] == "train"]
    return {
        "state": block.state_dict(),
        "evaluations": records.evaluations,
        "shards": records.shards,
        "losses": [(report["step"], report["loss"]) for report in reports],
    }


def train(rank: int, plan: Plan, folder: str, states: list[Any]) -> dict[str, Any] | None:
    """Train this rank's share; return its state and what it evaluated."""
    placement = plan.placement
    stages = [placement.ranks_of(stage) for stage in range(1, placement.blocks + 1)]
    team = form_teams(stages)
    used = rank < placement.ranks
    (stage,) = placement.stages(rank) if used else (0,)
    replicas, number, count = OneReplica(), 1, 1
    if team is not None:
        number, count = placement.replica_of(rank), placement.replicas[stage - 1]
        replicas = Replicas(team, stage=stage, number=number, count=count)
    feed = None
    if stage == 1:
        feed = Feed(Typed(plan), plan.agenda, stop=StopRequest(), replica=number, replicas=count)
    config = PipelineConfig(queue_messages=plan.depth, queue_bytes=1 << 20)
    if not used:
        # Every rank of the world creates every group.
        connect(placement.edges())
        return None
    wiring = wire(placement, config, rank=rank, feed=feed, device=CPU)
    wiring.greet()
    block = make_block(plan, stage, replicas)
    if states:
        block.load_state_dict(states[stage - 1])
    records = Records()
    worker = make_worker(
        block, wiring.inlets[0], wiring.outlets[0], records=records, every=1,
        folder=Path(folder) if number == 1 else None,
    )  # fmt: skip
    assert worker.run() == plan.agenda.steps
    wiring.close()
    return result(block, records)


def alone(plan: Plan, folder: Path) -> list[dict[str, Any]]:
    """Do the same in one process, each stage with the whole batch."""
    blocks = len(plan.replicas)
    links = [LocalLink(f"{k}", max_messages=1, max_bytes=1 << 30) for k in range(1, blocks)]
    inlets = [Feed(Typed(plan), plan.agenda, stop=StopRequest()), *links]
    stages = [make_block(plan, stage) for stage in range(1, blocks + 1)]
    records = [Records() for _ in stages]
    workers = [
        make_worker(block, inlet, outlet, records=kept, folder=folder, every=1)
        for block, inlet, outlet, kept in zip(
            stages, inlets, [*links, Sink()], records, strict=True
        )
    ]
    run_in_turns(workers)
    return [result(block, kept) for block, kept in zip(stages, records, strict=True)]


def by_stage(plan: Plan, results: list[Any]) -> list[list[dict[str, Any]]]:
    """Return the results of the replicas of each stage."""
    placement = plan.placement
    return [
        [results[rank] for rank in placement.ranks_of(stage)]
        for stage in range(1, placement.blocks + 1)
    ]


def weights(state: dict[str, Any]) -> dict[str, Any]:
    """Leave the running statistics out of a state: they belong to one replica."""
    kept = {}
    for name in ("body", "head"):
        module = {key: value for key, value in state[name].items() if ".running_" not in f".{key}"}
        kept[name] = {key: value for key, value in module.items() if "num_batches" not in key}
    return kept | {"optimizer": state["optimizer"]["state"]}


def farthest(left: Any, right: Any) -> float:
    """Return the largest difference of two nests of numbers, against the size of the tensor."""
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        return max((farthest(left[key], right[key]) for key in left), default=0.0)
    if isinstance(left, list | tuple):
        assert len(left) == len(right)
        return max((farthest(a, b) for a, b in zip(left, right, strict=True)), default=0.0)
    if left is None or isinstance(left, str):
        assert left == right
        return 0.0
    left, right = torch.as_tensor(left).double(), torch.as_tensor(right).double()
    assert left.shape == right.shape
    scale = max(1.0, float(right.abs().max()))
    return float((left - right).abs().max()) / scale
