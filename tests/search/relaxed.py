"""A small relaxation in double precision, and the slow ways of computing with it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from blockstep.models import Network, network_of
from blockstep.search.descent import Descent, Point
from blockstep.search.hypergradient import Batch
from blockstep.search.mixed_gradient import Choices, mixed_gradient
from blockstep.search.relaxation import Relaxation
from torch import Tensor, nn

__all__ = [
    "CLASSES",
    "DECAY",
    "SIZE",
    "Case",
    "batch",
    "make_parts",
    "make_relaxation",
    "outer_loss",
]

CLASSES, SIZE, CHANNELS = 3, 6, 4
DECAY = Descent(momentum=0.9, weight_decay=1e-2)


def _layer(inputs: int, *, dropout: float) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, CHANNELS, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(CHANNELS), nn.SiLU(), nn.Dropout(dropout))


def _head(*, deep: bool) -> nn.Sequential:
    depthwise = nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1, groups=CHANNELS)
    parts = [depthwise, nn.BatchNorm2d(CHANNELS), nn.SiLU()] if deep else []
    return nn.Sequential(
        *parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, CLASSES)
    )


def make_network(depth: int = 4, *, dropout: float = 0.0) -> Network:
    """Return a network of ``depth`` layers, smooth so that differences approximate derivatives."""
    layers = [_layer(2 if number == 0 else CHANNELS, dropout=dropout) for number in range(depth)]
    last = nn.Sequential(layers[-1], nn.AdaptiveAvgPool2d(1), nn.Flatten())
    last.append(nn.Linear(CHANNELS, CLASSES))
    return network_of(nn.Sequential(*layers[:-1], last), name="small")


def make_parts(
    depth: int = 4,
    *,
    dropout: float = 0.0,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> tuple[Network, list[list[nn.Sequential]]]:
    """Return a network, and two candidate heads for each layer but the last."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = make_network(depth, dropout=dropout)
        network.module.to(dtype)
        pool = [[_head(deep=deep).to(dtype) for deep in (False, True)] for _ in range(depth - 1)]
    return network, pool


def make_relaxation(
    depth: int = 4,
    *,
    dropout: float = 0.0,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    fast: bool = True,
) -> Relaxation:
    """Return a relaxation with two candidate heads per layer."""
    network, pool = make_parts(depth, dropout=dropout, dtype=dtype, seed=seed)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    return Relaxation(network, pool, criterion=criterion, fast=fast)


def batch(number: int, *, size: int = 8, dtype: torch.dtype = torch.float64) -> Batch:
    """Return batch ``number``."""
    draw = torch.Generator().manual_seed(number)
    x = torch.randn(size, 2, SIZE, SIZE, generator=draw, dtype=dtype)
    y = torch.randint(0, CLASSES, (size,), generator=draw)
    return Batch(x, y, lr=0.1 / (1 + number), seed=number)


class Case:
    """A starting point with momentum, T batches, a validation batch, alpha and beta."""

    def __init__(self, steps: int, *, dropout: float = 0.0, seed: int = 0) -> None:
        self.relaxation = make_relaxation(dropout=dropout, seed=seed)
        draw = torch.Generator().manual_seed(seed + 100)
        weights = self.relaxation.initial()
        momentum = [0.1 * _normal(weight.shape, draw) for weight in weights]
        self.point = Point(weights, momentum)
        self.batches = [batch(number) for number in range(1, steps + 1)]
        held_out = batch(99, size=16)
        self.validation = held_out.x, held_out.y
        joints = self.relaxation.depth - 1
        self.choices = Choices(_normal((joints, 2), draw), _normal((joints, 2), draw))


def outer_loss(case: Case, choices: Choices) -> float:
    """Return the validation loss after the inner steps: the function that is differentiated."""
    return float(outer_loss_at(case.relaxation, case.point, case.batches, case.validation, choices))


def outer_loss_at(
    relaxation: Relaxation,
    point: Point,
    batches: Sequence[Batch],
    validation: tuple[Tensor, Tensor],
    choices: Choices,
) -> Tensor:
    """Go the inner steps with first derivatives only."""
    for one in batches:
        torch.manual_seed(one.seed)
        gradients, _ = mixed_gradient(relaxation, point.weights, one.x, one.y, choices)
        point = DECAY.step(point, gradients, one.lr)
    relaxation.place(point.weights)
    with torch.no_grad():
        return relaxation.criterion(relaxation.logits(validation[0]), validation[1])


def _normal(shape: Sequence[int], draw: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=draw, dtype=torch.float64)
