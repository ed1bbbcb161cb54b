"""Concrete variables: masks and dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from blockstep.models import make_network
from blockstep.models.hyperparameters import (
    ConcreteDropout,
    ConcreteMask,
    concrete,
    learn_dropout,
)
from torch import nn


def test_concrete_variables() -> None:
    """Above one half with the probability of the logit; near 0 and 1 when cold."""
    torch.manual_seed(0)
    logits = torch.tensor([-2.0, 0.0, 1.5])
    z = concrete(logits, (20000, 3), 0.1)
    torch.testing.assert_close((z > 0.5).float().mean(0), logits.sigmoid(), atol=0.01, rtol=0)
    assert ((z - 0.5).abs() > 0.4).float().mean() > 0.8
    warm = concrete(logits, (20000, 3), 5.0)
    assert ((warm - 0.5).abs() > 0.4).float().mean() < 0.1


def test_concrete_gradients_are_those_of_the_formula() -> None:
    """dz / d logit = z (1 - z) / T."""
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    z = concrete(logits, (4,), 0.5)
    (grad,) = torch.autograd.grad(z.sum(), logits)
    torch.testing.assert_close(grad, (z * (1 - z) / 0.5).detach())


def test_a_mask_is_drawn_for_every_example() -> None:
    """In training; in evaluation the probabilities, the same every time."""
    mask = ConcreteMask(5, initial=1.0)
    x = torch.ones(4, 5)
    one, two = mask(x), mask(x)
    assert not torch.equal(one, two)
    assert len(one.flatten().unique()) == 20
    mask.eval()
    torch.testing.assert_close(mask(x), torch.full((4, 5), 0.7310586))
    assert mask.readable()["probability"] == pytest.approx([0.7310586] * 5)


def test_dropout_keeps_the_mean() -> None:
    """It divides by the probability to keep; evaluation keeps everything."""
    torch.manual_seed(0)
    dropout = ConcreteDropout(0.3)
    x = torch.ones(200, 200)
    y = dropout(x)
    assert y.mean().item() == pytest.approx(1.0, abs=0.02)
    assert (y < 0.5).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert dropout.eval()(x) is x
    assert dropout.readable()["rate"] == pytest.approx([0.3])


def test_dropouts_rate_has_a_gradient() -> None:
    """Where dropping costs, the gradient lowers the rate."""
    torch.manual_seed(0)
    dropout = ConcreteDropout(0.3)
    dropout(torch.ones(100, 100)).sub(1).pow(2).mean().backward()
    assert dropout.keep.grad is not None
    assert dropout.keep.grad < 0


def test_learn_dropout_replaces_every_dropout() -> None:
    """With its rate, its mode, and the type of the network."""
    network = make_network("mnist_cnn", classes=2, size=4, dropout=0.2, width=0.1).module.double()
    network.get_submodule("hidden.0").eval()
    assert learn_dropout(network) == [
        f"hidden.{i}.{j}" for i, j in ((0, 3), (1, 3), (2, 3), (3, 2))
    ]
    made = [part for part in network.modules() if isinstance(part, ConcreteDropout)]
    assert [part.training for part in made] == [False, True, True, True]
    assert {part.keep.dtype for part in made} == {torch.float64}
    assert all(part.readable()["rate"] == pytest.approx([0.2]) for part in made)
    assert network(torch.zeros(1, 3, 4, 4).double()).shape == (1, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConcreteDropout(0.0), r"rate=0\.0 has no logit to learn; give .* \(0, 1\)"),
        (lambda: ConcreteDropout(0.5, temperature=0.0), r"temperature=0\.0: .* above 0"),
        (lambda: ConcreteMask(0), "inputs=0"),
        (lambda: ConcreteMask(3)(torch.zeros(2, 4)), r"has 3 inputs, the examples .* \(4,\)"),
        (lambda: learn_dropout(nn.Sequential(nn.ReLU())), "Sequential has no nn.Dropout in it"),
        (
            lambda: learn_dropout(nn.Sequential(nn.Dropout(0.0))),
            r"the dropout 0: rate=0\.0 has no logit",
        ),
    ],
)
def test_what_cannot_be_learned(make: Callable[[], Any], message: str) -> None:
    """Refused with the value."""
    with pytest.raises(ValueError, match=message):
        make()
