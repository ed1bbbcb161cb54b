"""Means of loss and accuracy, and the guard against losses that are not finite."""

from __future__ import annotations

import math

import pytest
import torch
from blockstep.pipeline.meter import LossMeter
from blockstep.pipeline.stage import NonFiniteLossError


def note(meter: LossMeter, step: int, loss: float, correct: int, count: int, lr: float) -> None:
    """Add numbers as the tensors they are in a step."""
    meter.add(
        step=step,
        lr=lr,
        loss=torch.tensor(loss, requires_grad=True),
        correct=torch.tensor(correct),
        count=count,
    )


def test_means_weigh_every_example_the_same() -> None:
    """Loss and accuracy are means over examples, not over batches; lr is the last."""
    meter = LossMeter("stage 1")
    note(meter, 1, 2.0, 6, 8, 0.1)
    note(meter, 2, 5.0, 0, 4, 0.05)
    assert meter.means() == {"loss": 3.0, "accuracy": 0.5, "lr": 0.05}


def test_means_are_kept_separate_between_calls() -> None:
    """Each call covers exactly the steps since the call before."""
    meter = LossMeter("stage 1")
    note(meter, 1, 2.0, 1, 1, 0.1)
    meter.means()
    note(meter, 2, 4.0, 0, 1, 0.2)
    assert meter.means() == {"loss": 4.0, "accuracy": 0.0, "lr": 0.2}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_names_stage_step_and_rate(value: float) -> None:
    """The error names the stage, the step, the loss, the learning rate and what to change."""
    meter = LossMeter("stage 3")
    note(meter, 41, 1.0, 1, 2, 0.1)
    text = rf"^stage 3: the loss of step 42 is {value} at learning rate 0.025\. Lower train\.lr"
    with pytest.raises(NonFiniteLossError, match=text):
        note(meter, 42, value, 1, 2, 0.025)


def test_finite_losses_pass_the_check() -> None:
    """check() is silent for losses that are large but finite, and changes no mean."""
    meter = LossMeter("stage 1")
    note(meter, 1, 1e30, 1, 1, 0.1)
    meter.check()
    assert meter.means()["loss"] == pytest.approx(1e30)


def test_half_precision_losses_are_summed_in_single_precision() -> None:
    """The mean of bfloat16 losses is not rounded to bfloat16."""
    meter = LossMeter("stage 1")
    for step in range(1, 4):
        loss = torch.tensor(1.0 + 0.25 * step, dtype=torch.bfloat16)
        meter.add(step=step, lr=0.1, loss=loss, correct=torch.tensor(1), count=7)
    assert meter.means() == {"loss": 1.5, "accuracy": pytest.approx(1 / 7), "lr": 0.1}
