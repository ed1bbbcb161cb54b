"""Schedules and optimizers against torch's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from blockstep.pipeline.optimization import OptimizationConfig, Schedule
from blockstep.pipeline.optimizer import make_optimizer
from torch import nn
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    SequentialLR,
)

STEPS = 40


def ours(**keys: Any) -> list[float]:
    """Return the learning rate of every step."""
    schedule = Schedule(OptimizationConfig(steps=STEPS, lr=0.3, **keys))
    return [schedule.lr(step) for step in range(1, STEPS + 1)]


def theirs(make: Any) -> list[float]:
    """Return the learning rates that a torch scheduler gives to the same steps."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler: LRScheduler = make(optimizer)
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def warm_up(optimizer: torch.optim.Optimizer, steps: int) -> LinearLR:
    """Rise linearly to the full rate in ``steps`` steps, which all have a rate above 0."""
    return LinearLR(optimizer, start_factor=1 / steps, end_factor=1.0, total_iters=steps - 1)


@pytest.mark.parametrize("lr_min", [0.0, 0.001, 0.3])
def test_cosine_is_torchs_cosine(lr_min: float) -> None:
    """schedule=cosine equals CosineAnnealingLR over all steps."""
    expected = theirs(lambda opt: CosineAnnealingLR(opt, T_max=STEPS, eta_min=lr_min))
    assert ours(schedule="cosine", lr_min=lr_min) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("milestones", [[], [1], [10, 20, 35], [40]])
def test_multistep_is_torchs_multistep(milestones: list[int]) -> None:
    """schedule=multistep equals MultiStepLR: step m is the last with the old rate."""
    expected = theirs(lambda opt: MultiStepLR(opt, milestones, gamma=0.2))
    rates = ours(schedule="multistep", milestones=milestones, gamma=0.2)
    assert rates == pytest.approx(expected, rel=1e-9)
    for milestone in milestones:
        if milestone < STEPS:
            assert rates[milestone] == pytest.approx(0.2 * rates[milestone - 1])


def test_constant_is_constant() -> None:
    """schedule=constant keeps train.lr."""
    assert (
        ours(schedule="constant") == theirs(lambda opt: ConstantLR(opt, factor=1.0)) == [0.3] * 40
    )


@pytest.mark.parametrize("steps", [2, 7])
def test_warm_up_is_torchs_linear_warm_up_before_a_cosine(steps: int) -> None:
    """warmup equals LinearLR followed by CosineAnnealingLR over the rest."""

    def make(opt: torch.optim.Optimizer) -> LRScheduler:
        cosine = CosineAnnealingLR(opt, T_max=STEPS - steps, eta_min=0.01)
        return SequentialLR(opt, [warm_up(opt, steps), cosine], milestones=[steps])

    expected = theirs(make)
    assert ours(schedule="cosine", lr_min=0.01, warmup=steps) == pytest.approx(expected, rel=1e-6)


def test_warm_up_before_constant_and_multistep() -> None:
    """Step n of w warm-up steps has n/w of the rate; milestones count all steps."""
    rates = ours(schedule="constant", warmup=4)
    assert rates[:6] == pytest.approx([0.075, 0.15, 0.225, 0.3, 0.3, 0.3])
    rates = ours(schedule="multistep", warmup=2, milestones=[4], gamma=0.1)
    assert rates[:6] == pytest.approx([0.15, 0.3, 0.3, 0.3, 0.03, 0.03])


def test_a_run_that_only_warms_up() -> None:
    """warmup as long as the run, or longer, never divides by zero."""
    assert ours(warmup=STEPS)[-1] == pytest.approx(0.3)
    assert ours(warmup=2 * STEPS)[-1] == pytest.approx(0.15)


def test_the_rate_never_leaves_its_bounds_after_the_last_step() -> None:
    """Steps beyond train.steps stay at lr_min, as in a run that was measured longer."""
    schedule = Schedule(OptimizationConfig(steps=10, lr=0.3, lr_min=0.01))
    assert [schedule.lr(step) for step in (11, 12, 30)] == pytest.approx([0.01] * 3)


def test_apply_sets_the_rate_of_all_groups() -> None:
    """apply() sets the rate of a step in every parameter group and returns it."""
    groups = [{"params": [nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    optimizer = torch.optim.SGD(groups, lr=9.0)
    rate = Schedule(OptimizationConfig(steps=10, lr=0.3)).apply(optimizer, 5)
    assert rate == Schedule(OptimizationConfig(steps=10, lr=0.3)).lr(5)
    assert [group["lr"] for group in optimizer.param_groups] == [rate, rate]


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_momentum_is_forgotten_where_the_rate_falls(make: Any) -> None:
    """reset_momentum equals an optimizer made anew after each milestone; without, it is kept."""

    def train(*, reset: bool, anew: bool) -> float:
        config = OptimizationConfig(
            lr=0.1, schedule="multistep", milestones=[3, 7], gamma=0.5, reset_momentum=reset
        )
        keys: dict[str, Any] = {"momentum": 0.9} if make is torch.optim.SGD else {}
        weight = nn.Parameter(torch.tensor([3.0]))
        optimizer = make([weight], lr=0.1, **keys)
        for step in range(1, 11):
            if anew and step in (4, 8):
                optimizer = make([weight], lr=0.1, **keys)
            Schedule(config).apply(optimizer, step)
            optimizer.zero_grad()
            (weight**2).sum().backward()
            optimizer.step()
        return weight.item()

    assert train(reset=True, anew=False) == train(reset=False, anew=True)
    assert train(reset=True, anew=False) != train(reset=False, anew=False)


OPTIMIZERS: dict[str, tuple[dict[str, Any], Any]] = {
    "sgd": (
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.01),
    ),
    "adam": (
        {"betas": [0.8, 0.95], "weight_decay": 0.01},
        lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.95), weight_decay=0.01),
    ),
    "adamw": (
        {"betas": [0.8, 0.95], "weight_decay": 0.01},
        lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.8, 0.95), weight_decay=0.01),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_is_torchs_with_the_keys_given(name: str) -> None:
    """Each optimizer moves a weight exactly as torch's own with the same hyperparameters."""
    keys, make = OPTIMIZERS[name]
    left, right = nn.Parameter(torch.tensor([3.0])), nn.Parameter(torch.tensor([3.0]))
    mine = make_optimizer([left], OptimizationConfig(optimizer=name, lr=0.1, **keys))
    other = make([right])
    for _ in range(5):
        for weight, optimizer in ((left, mine), (right, other)):
            optimizer.zero_grad()
            (weight**2).sum().backward()
            optimizer.step()
    assert type(mine) is type(other)
    assert left.item() == right.item()


def test_an_unknown_optimizer_is_refused() -> None:
    """An unknown optimizer is refused with the key, the value and what would be valid."""
    config = OptimizationConfig(optimizer="lion")
    with pytest.raises(ValueError, match=r"train\.optimizer=lion: valid are sgd, adam, adamw"):
        make_optimizer([nn.Parameter(torch.zeros(1))], config)


def test_an_unknown_schedule_is_refused() -> None:
    """A misspelt schedule is refused instead of being taken for another."""
    with pytest.raises(ValueError, match=r"train\.schedule=linear: valid are constant, cosine"):
        Schedule(OptimizationConfig(schedule="linear"))
