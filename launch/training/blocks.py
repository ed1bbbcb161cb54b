"""From a decided training to the blocks that learn."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from ...models import Network
from ...models.predsim import PredSim
from ...pipeline.block import Block, Place
from ...pipeline.delayed_gradients import DelayedGradientsBlock
from ...pipeline.features_replay import FeaturesReplayBlock
from ...pipeline.pipelined_block import PipelinedBlock
from ...pipeline.predsim import PredSimBlock, predsim_loss
from ...pipeline.replicas import OneReplica
from ...search.continuous import ContinuousBlock
from ...search.measurement import HeadLoss
from ...search.mixed_gradient import Choices
from ..assembly import build_criterion, build_examiner, build_metrics
from ..config import TrainConfig
from ..pool import candidates
from .job import TrainJob
from .runtime import runtime_of

__all__ = ["BUILDERS", "build_block", "head_loss", "whole_network_block"]


def build_block(
    job: TrainJob,
    stage: int,
    *,
    network: Network,
    heads: Sequence[nn.Module],
    device: torch.device,
    replicas: OneReplica | None = None,
) -> Block:
    """Make the stage that trains block ``stage``, from 1, by the method and runtime of the run.

    Args:
        job: The run.
        stage: Which stage.
        network: The network.
        heads: The head of each block but the last.
        device: Where the stage computes.
        replicas: The ranks that share the stage; None where there is only this one.
    """
    made = {"network": network, "heads": heads, "device": device, "replicas": replicas}
    if runtime_of(job.config).schedule:
        kind = partial(PipelinedBlock, microbatches=job.config.pipeline.microbatches)
        return _decoupled(job, stage, kind=kind, **made)
    return BUILDERS[job.config.method](job, stage, **made)


def _decoupled(
    job: TrainJob,
    stage: int,
    *,
    network: Network,
    heads: Sequence[nn.Module],
    device: torch.device,
    replicas: OneReplica | None,
    kind: Callable[..., Block] = Block,
) -> Block:
    first, last = job.decoupling.bounds()[stage - 1]
    place = Place(stage, job.decoupling.blocks, device, job.config.seed)
    head = network.classifier if place.last else heads[stage - 1]
    if kind is Block and isinstance(head, PredSim):
        # It only predicts; what gets no gradient needs no optimizer.
        head.embedding.requires_grad_(False)
    return kind(network.body(first, last), head, place=place, replicas=replicas, **_common(job))


def _predsim(job: TrainJob, stage: int, **made: Any) -> Block:
    if stage == job.decoupling.blocks:
        return _decoupled(job, stage, **made)
    return _decoupled(job, stage, kind=partial(PredSimBlock, beta=job.config.predsim.beta), **made)


def _continuous(
    job: TrainJob,
    stage: int,
    *,
    network: Network,
    heads: Sequence[nn.Module],
    device: torch.device,
    replicas: OneReplica | None,
) -> Block:
    found = job.decoupling
    assert found.pool is not None
    pool = list(candidates(network, found.pool, job.task, job.config.seed, key="decoupling"))
    return ContinuousBlock(
        network,
        pool,
        choices=Choices(torch.tensor(found.alpha), torch.tensor(found.beta)),
        place=Place(stage, 1, device, job.config.seed),
        replicas=replicas,
        **_common(job),
    )


def _common(job: TrainJob) -> dict[str, Any]:
    config = job.config.train
    return {
        "config": config,
        "criterion": build_criterion(config),
        "examiner": build_examiner(config),
        "metrics": build_metrics(config, job.task.classes),
    }


BUILDERS: Mapping[str, Callable[..., Block]] = {
    "decoupled": _decoupled,
    "sedona": _decoupled,
    "sedona_continuous": _continuous,
    "dgl": _decoupled,
    "predsim": _predsim,
    "features_replay": partial(_decoupled, kind=FeaturesReplayBlock),
    "ddg": partial(_decoupled, kind=DelayedGradientsBlock),
    "backprop": _decoupled,
}
"""How the methods make their stages."""


def head_loss(config: TrainConfig) -> HeadLoss | None:
    """Return how a head's loss comes about; None if it is the criterion of the head's logits."""
    if config.method != "predsim":
        return None
    criterion, beta = build_criterion(config.train), config.predsim.beta
    return lambda head, h, y: predsim_loss(head, h, y, criterion=criterion, beta=beta)[1]


def whole_network_block(job: TrainJob, network: Network, device: torch.device) -> Block:
    """Make a copy of the whole network as one block: plain backpropagation, to compare with."""
    copied = copy.deepcopy(network)
    return Block(
        copied.body(1, len(copied.layers)),
        copied.classifier,
        place=Place(1, 1, device, job.config.seed),
        config=job.config.train,
        criterion=build_criterion(job.config.train),
    )
