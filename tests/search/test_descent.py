"""The inner optimizer against torch's, and its adjoint against autograd."""

from __future__ import annotations

import torch
from blockstep.search.descent import Adjoint, Descent, Point
from torch import Tensor

DESCENT = Descent(momentum=0.9, weight_decay=0.01)


def tensors(seed: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(3, generator=draw), torch.randn(2, 2, generator=draw)]


def test_equals_torchs_optimizer_bit_for_bit() -> None:
    """Over several steps with different learning rates."""
    parameters = [tensor.clone().requires_grad_() for tensor in tensors(0)]
    optimizer = torch.optim.SGD(parameters, lr=1.0, momentum=0.9, weight_decay=0.01)
    point = Point(tensors(0), [torch.zeros_like(tensor) for tensor in tensors(0)])
    for step in range(1, 5):
        gradients, lr = tensors(step), 0.1 / step
        optimizer.param_groups[0]["lr"] = lr
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
        point = DESCENT.step(point, gradients, lr)
        for parameter, weight in zip(parameters, point.weights, strict=True):
            assert torch.equal(parameter.detach(), weight)


def test_a_step_leaves_its_point_as_it_was() -> None:
    """Snapshots are points; they are never changed."""
    point = Point(tensors(0), tensors(1))
    DESCENT.step(point, tensors(2), 0.1)
    for now, before in zip(
        [*point.weights, *point.momentum], [*tensors(0), *tensors(1)], strict=True
    ):
        assert torch.equal(now, before)


def test_adjoint_is_the_derivative() -> None:
    """Of a function of the point after the step, through gradients that depend on the weights."""
    start = [tensor.double().requires_grad_() for tensor in (*tensors(0), *tensors(1))]
    weights, momentum = start[:2], start[2:]
    after = Adjoint([t.double() for t in tensors(2)], [t.double() for t in tensors(3)])
    gradients = [weight.sin() for weight in weights]
    velocity = [
        0.9 * m + g + 0.01 * w for m, g, w in zip(momentum, gradients, weights, strict=True)
    ]
    moved = [w - 0.1 * v for w, v in zip(weights, velocity, strict=True)]
    value = sum(
        (a * b).sum()
        for a, b in zip([*after.weights, *after.momentum], [*moved, *velocity], strict=True)
    )
    assert isinstance(value, Tensor)
    expected = torch.autograd.grad(value, start)
    directions = DESCENT.by_gradients(after, 0.1)
    through = [u * w.detach().cos() for u, w in zip(directions, weights, strict=True)]
    before = DESCENT.back(after, directions, through)
    for one, other in zip([*before.weights, *before.momentum], expected, strict=True):
        torch.testing.assert_close(one, other)
