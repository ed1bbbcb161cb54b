"""Small ensembles in training, for tests: in one process, or as ranks of the tests' world."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist
from blockstep.launch.superweight.exchange import GlooCompany
from blockstep.models.ensembles import BatchEnsemble, DeepEnsemble
from blockstep.models.ensembles.trainable import (
    GeneratedMembers,
    JointMembers,
    SeparateMembers,
    Trainable,
)
from blockstep.models.superweight import Sharing, superweights
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.pipeline.worker import Activity
from blockstep.search.sharing.company import ONE, Company, Post
from blockstep.search.sharing.plan import Plan
from blockstep.search.sharing.training import EnsembleTraining
from torch import Tensor, nn

CLASSES = 3
WIDTHS = (4, 6, 4)
BUDGET = 900
PLAN = Plan(
    steps=4, search_steps=2, unshare_step=2, similarity_batches=2, budget=BUDGET, beta=0.999
)
TOGETHER = ((Post(0), Post(1), Post(2)),)
"""One rank with all members."""


def net(width: int, *, depth: int, plain: bool = False) -> nn.Sequential:
    """Convolutions with norms and dropout, or without, so that parts of a batch do not matter."""
    layers: list[nn.Module] = [nn.Conv2d(1, width, 3, padding=1, bias=False)]
    for _ in range(depth):
        norm = [] if plain else [nn.BatchNorm2d(width), nn.Dropout(0.1)]
        layers += [*norm, nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


class Examples:
    """Batches that follow from their step."""

    def train(self, *, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of 6 examples."""
        while True:
            start += 1
            generator = torch.Generator().manual_seed(start)
            x = torch.randn(6, 1, 5, 5, generator=generator)
            yield x, torch.randint(CLASSES, (6,), generator=generator)

    def epoch(self, *, start: int) -> Iterable[Tensor]:
        """Two batches."""
        return [x for x, _ in islice(self.train(start=start), 2)]


def make_with(kind: str, plain: bool) -> Any:
    """Return what makes an ensemble of a kind."""

    def make(phase: str, sharing: Sharing | None) -> Trainable:
        with torch.random.fork_rng():
            torch.manual_seed(3 if phase == "first" else 4)
            depths = (2, 1, 2)
            nets = [net(w, depth=d, plain=plain) for w, d in zip(WIDTHS, depths, strict=True)]
            if kind == "deep":
                return SeparateMembers(DeepEnsemble(nets))
            if kind == "batch_ensemble":
                return JointMembers(BatchEnsemble(nets[0], 3))
            return GeneratedMembers(
                superweights(
                    nets, BUDGET, clusters=2, sharing=sharing, own_coefficients=phase == "main"
                )
            )

    return make


def training(
    kind: str = "superweight",
    *,
    plan: Plan = PLAN,
    posts: Sequence[Sequence[Post]] = TOGETHER,
    company: Company = ONE,
    plain: bool = False,
    optimizer: str = "sgd",
) -> EnsembleTraining:
    """Make a training at its first step."""
    return EnsembleTraining(
        plan,
        make_with(kind, plain),
        Examples(),
        optimization=OptimizationConfig(
            steps=plan.steps, lr=0.05, optimizer=optimizer, lr_min=0.0, weight_decay=1e-3
        ),
        criterion=nn.CrossEntropyLoss(),
        networks=[f"net{width}" for width in WIDTHS],
        seed=5,
        device=torch.device("cpu"),
        posts=posts,
        company=company,
    )


def state_of(one: EnsembleTraining) -> dict[str, Any]:
    """Return everything that a checkpoint of this rank has."""
    found = {"shared": one.shared_state()}
    found |= {f"member {number}": one.member_state(number) for number in one.kept_members()}
    return copy.deepcopy(found)  # a checkpoint is written at once; this one is kept


def ranks_state(
    rank: int, folder: str, kind: str, posts: Sequence[Sequence[Post]], plain: bool, plan: Plan
) -> dict[str, Any]:
    """Train to the end as one of the world's ranks; return its state and all logits."""
    store = dist.FileStore(f"{folder}/store", dist.get_world_size())
    company = GlooCompany(store, Activity(), posts)
    one = training(kind, plan=plan, posts=posts, company=company, plain=plain)
    while not one.done:
        one.advance()
    logits = one.logits(lambda: [x for x, _ in islice(Examples().train(start=90), 2)])
    return {**state_of(one), "logits": logits}


def stopping(rank: int, folder: str, posts: Sequence[Sequence[Post]]) -> list[bool]:
    """Train three steps; the last rank is asked to stop before the third."""
    store = dist.FileStore(f"{folder}/store", dist.get_world_size())
    one = training(posts=posts, company=GlooCompany(store, Activity(), posts))
    asked = rank == dist.get_world_size() - 1
    return [one.advance(stop=asked and step == 2)["stop"] for step in range(3)]
