"""The hypergradient against finite differences, a full unroll and another library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchopt
from blockstep.search.hypergradient import Hypergradient, hypergradient
from blockstep.search.mixed_gradient import Choices
from torch import Tensor

from .relaxed import DECAY, Case, make_relaxation, outer_loss


def found(case: Case, **options: Any) -> Hypergradient:
    return hypergradient(
        case.relaxation,
        case.point,
        case.batches,
        case.validation,
        case.choices,
        descent=DECAY,
        **options,
    )


def differences(loss: Callable[[Choices], float], choices: Choices) -> tuple[Tensor, Tensor]:
    """Return central differences of ``loss``, two widths extrapolated to none."""

    def slope(which: int, index: int, width: float) -> float:
        sides = []
        for sign in (1.0, -1.0):
            values = [choices.alpha.clone(), choices.beta.clone()]
            values[which].view(-1)[index] += sign * width
            sides.append(loss(Choices(*values)))
        return (sides[0] - sides[1]) / (2 * width)

    def gradient(which: int, like: Tensor) -> Tensor:
        slopes = [
            (4 * slope(which, index, 1e-3) - slope(which, index, 2e-3)) / 3
            for index in range(like.numel())
        ]
        return torch.tensor(slopes, dtype=torch.float64).view_as(like)

    return gradient(0, choices.alpha), gradient(1, choices.beta)


def relative_error(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_equals_finite_differences(steps: int) -> None:
    """With batch norm, momentum and weight decay, to a relative error of 1e-6 and better."""
    case = Case(steps)
    gradient = found(case)
    alpha, beta = differences(lambda choices: outer_loss(case, choices), case.choices)
    assert relative_error(gradient.alpha, alpha) < 1e-6
    assert relative_error(gradient.beta, beta) < 1e-6
    assert alpha.norm() > 1e-4
    assert beta.norm() > 1e-5


def test_dropout_draws_the_same_when_a_step_is_rebuilt() -> None:
    """The hypergradient is that of the steps that were done, masks included."""
    case = Case(3, dropout=0.3)
    gradient = found(case)
    alpha, beta = differences(lambda choices: outer_loss(case, choices), case.choices)
    # The validation loss has a mask of its own in training mode; it is the same each time only if
    # what was drawn before it is the same, which is what the last step's seed provides.
    assert relative_error(gradient.alpha, alpha) < 1e-6
    assert relative_error(gradient.beta, beta) < 1e-6


@pytest.mark.parametrize("kept", [1, 2, 4])
def test_kept_graphs_change_nothing(kept: int) -> None:
    """Rebuilding a step and keeping its graph differ by the order of a few additions."""
    rebuilt, graphs = found(Case(4)), found(Case(4), keep_graphs=kept)
    assert relative_error(rebuilt.alpha, graphs.alpha) < 1e-12
    assert relative_error(rebuilt.beta, graphs.beta) < 1e-12
    assert float(rebuilt.loss) == pytest.approx(float(graphs.loss), rel=1e-14)


def test_stock_operations_give_the_same() -> None:
    """The second derivatives of torch's own operations agree with ours."""
    case, stock = Case(3), Case(3)
    stock.relaxation = make_relaxation(fast=False)
    assert relative_error(found(case).alpha, found(stock).alpha) < 1e-10
    assert relative_error(found(case).beta, found(stock).beta) < 1e-10


def test_loss_and_hits_are_those_after_the_steps() -> None:
    """The loss that is reported is the one that is differentiated."""
    case = Case(2)
    gradient = found(case)
    assert float(gradient.loss) == pytest.approx(outer_loss(case, case.choices), rel=1e-12)
    assert 0 <= int(gradient.correct) <= len(case.validation[1])


@pytest.mark.parametrize("mode", ["batch", "running"])
def test_running_statistics_are_left_as_they_were(mode: str) -> None:
    """Inner steps are imagined: they leave no trace in the buffers."""
    case = Case(2)
    before = [buffer.clone() for buffer in case.relaxation.buffers()]
    found(case, batch_norm=mode, keep_graphs=1)
    for buffer, old in zip(case.relaxation.buffers(), before, strict=True):
        assert torch.equal(buffer, old)


def test_running_mode_uses_the_averages_after_the_inner_steps() -> None:
    """Its loss is that of a network in evaluation mode."""
    case = Case(3)
    running = found(case, batch_norm="running")
    outer_loss(case, case.choices)  # leaves the relaxation after the steps
    case.relaxation.train(False)
    with torch.no_grad():
        logits = case.relaxation.logits(case.validation[0])
    # outer_loss evaluated one batch in training mode after the steps, so only nearly equal.
    expected = case.relaxation.criterion(logits, case.validation[1])
    assert float(running.loss) == pytest.approx(float(expected), rel=0.2)
    assert float(running.loss) != float(found(Case(3)).loss)


def test_equals_torchopt_with_another_formula_for_the_gradient() -> None:
    """An independent library's SGD over one combined loss, unrolled whole.

    The combined loss has the mixed errors of Eq. 4 times the shares of the layers below, which
    are divided out again; the heads' gradients are divided by their own share too (Eq. 6).
    """
    case = Case(3)
    case.point.momentum[:] = [torch.zeros_like(m) for m in case.point.momentum]
    relaxation = make_relaxation(fast=False)
    alpha, beta = (t.clone().requires_grad_() for t in (case.choices.alpha, case.choices.beta))
    weights = tuple(weight.clone().requires_grad_() for weight in case.point.weights)
    lr = [0.0]
    optimizer = torchopt.sgd(lambda step: lr[0], momentum=0.9, weight_decay=1e-2)
    state = optimizer.init(weights)
    for one in case.batches:
        lr[0] = one.lr
        gradients = combined_gradients(relaxation, weights, one.x, one.y, alpha, beta)
        updates, state = optimizer.update(gradients, state, params=weights, inplace=False)
        weights = torchopt.apply_updates(weights, updates, inplace=False)
    relaxation.place(list(weights))
    loss = relaxation.criterion(relaxation.logits(case.validation[0]), case.validation[1])
    by_alpha, by_beta = torch.autograd.grad(loss, [alpha, beta])
    gradient = found(case)
    assert relative_error(gradient.alpha, by_alpha) < 1e-9
    assert relative_error(gradient.beta, by_beta) < 1e-9


def combined_gradients(
    relaxation: Any, weights: tuple[Tensor, ...], x: Tensor, y: Tensor, alpha: Tensor, beta: Tensor
) -> tuple[Tensor, ...]:
    """Return Eq. 5 and 6 by differentiating one loss and dividing."""
    relaxation.place(list(weights))
    shares, mixture = alpha.softmax(-1), beta.softmax(-1)
    losses = []
    a = x
    for index, layer in enumerate(relaxation.layers):
        a = layer(a)
        losses.append(relaxation.criterion(relaxation.mixed(index, a, mixture), y))
    total = losses[-1]
    for index in reversed(range(relaxation.depth - 1)):
        total = shares[index, 1] * total + shares[index, 0] * losses[index]
    raw = torch.autograd.grad(total, weights, create_graph=True)
    gradients = list(raw)
    below = torch.ones((), dtype=x.dtype)
    for index in range(relaxation.depth):
        last = index == relaxation.depth - 1
        for i in relaxation.layer_weights[index]:
            gradients[i] = raw[i] / below
        for i in relaxation.head_weights[index]:
            gradients[i] = raw[i] / (below if last else below * shares[index, 0])
        if not last:
            below = below * shares[index, 1]
    return tuple(gradients)
