"""From a decided training to the blocks that learn."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from ...models import Network
from ...pipeline.block import Block, Place
from ..assembly import build_criterion, build_examiner, build_metrics
from .job import TrainJob

__all__ = ["build_block", "whole_network_block"]


def build_block(
    job: TrainJob, stage: int, *, network: Network, heads: Sequence[nn.Module], device: torch.device
) -> Block:
    """Make the stage that trains block ``stage``, from 1."""
    first, last = job.decoupling.bounds()[stage - 1]
    config = job.config.train
    place = Place(stage, job.decoupling.blocks, device, job.config.seed)
    return Block(
        network.body(first, last),
        network.classifier if place.last else heads[stage - 1],
        place=place,
        config=config,
        criterion=build_criterion(config),
        examiner=build_examiner(config),
        metrics=build_metrics(config, job.task.classes),
    )


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
