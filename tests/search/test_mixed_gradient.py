"""The mixed gradient against Eq. 4-6 spelled out, and its two limits."""

from __future__ import annotations

import pytest
import torch
from blockstep.models import network_of
from blockstep.search.mixed_gradient import Choices, build_graph, mixed_gradient
from blockstep.search.relaxation import Relaxation
from torch import Tensor, nn

from .relaxed import Case, batch, make_relaxation


def spelled_out(relaxation: Relaxation, choices: Choices, x: Tensor, y: Tensor) -> list[Tensor]:
    """Return Eq. 4-6 with the Jacobians' products taken one layer at a time, each by itself."""
    weights = [weight.requires_grad_() for weight in relaxation.initial()]
    relaxation.place(weights)
    shares, mixture = choices.alpha.softmax(-1), choices.beta.softmax(-1)
    inputs = [x]
    for layer in relaxation.layers:
        inputs.append(layer(inputs[-1]).detach())
    gradients: list[Tensor] = [torch.empty(0)] * len(weights)
    above = torch.empty(0)
    for index in reversed(range(relaxation.depth)):
        a = inputs[index + 1].requires_grad_()
        loss = relaxation.criterion(relaxation.mixed(index, a, mixture), y)
        own = relaxation.head_weights[index]
        delta, *heads = torch.autograd.grad(loss, [a, *(weights[i] for i in own)])
        for i, gradient in zip(own, heads, strict=True):
            gradients[i] = gradient
        if index < relaxation.depth - 1:
            delta = shares[index, 0] * delta + shares[index, 1] * above
        into = inputs[index].detach().requires_grad_()
        own = relaxation.layer_weights[index]
        made = relaxation.layers[index](into)
        *layers, above = torch.autograd.grad(made, [*(weights[i] for i in own), into], delta)
        for i, gradient in zip(own, layers, strict=True):
            gradients[i] = gradient
    return gradients


def test_equals_the_equations() -> None:
    """Every gradient of every layer and head."""
    case = Case(1)
    one = case.batches[0]
    expected = spelled_out(make_relaxation(), case.choices, one.x, one.y)
    gradients, losses = mixed_gradient(
        case.relaxation, case.relaxation.initial(), one.x, one.y, case.choices
    )
    assert losses.shape == (4,)
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other)
        assert not gradient.requires_grad


def test_with_a_graph_it_is_the_same() -> None:
    """The recursion that can be differentiated gives what one backward pass gives."""
    case = Case(1)
    one, weights = case.batches[0], case.relaxation.initial()
    plain, _ = mixed_gradient(case.relaxation, weights, one.x, one.y, case.choices)
    graph = build_graph(case.relaxation, weights, one.x, one.y, case.choices)
    for gradient, other in zip(graph.gradients, plain, strict=True):
        torch.testing.assert_close(gradient.detach(), other)


@pytest.mark.parametrize("local", [True, False])
def test_limits_are_greedy_learning_and_backpropagation(local: bool) -> None:
    """Shares of one and zero give layer-wise local learning, or plain backpropagation."""
    relaxation, one = make_relaxation(), batch(1)
    joints = relaxation.depth - 1
    alpha = torch.tensor([[60.0, -60.0] if local else [-60.0, 60.0]] * joints)
    beta = torch.zeros(joints, 2)
    gradients, _ = mixed_gradient(
        relaxation, relaxation.initial(), one.x, one.y, Choices(alpha, beta)
    )
    weights = [weight.requires_grad_() for weight in relaxation.initial()]
    relaxation.place(weights)
    a = one.x
    total = torch.zeros((), dtype=a.dtype)
    for index, layer in enumerate(relaxation.layers):
        a = layer(a.detach() if local else a)
        logits = relaxation.mixed(index, a, beta.softmax(-1))
        if local or index == joints:
            total = total + relaxation.criterion(logits, one.y)
    layers = [i for span in relaxation.layer_weights for i in span]
    expected = torch.autograd.grad(total, [weights[i] for i in layers])
    for i, other in zip(layers, expected, strict=True):
        torch.testing.assert_close(gradients[i], other)


def test_alpha_of_zero_is_not_backpropagation() -> None:
    """Half of each error remains: the pretraining is not a plain training."""
    relaxation, one = make_relaxation(), batch(1)
    equal = Choices(*relaxation.equal_choices())
    pretraining, _ = mixed_gradient(relaxation, relaxation.initial(), one.x, one.y, equal)
    plain = Choices(torch.tensor([[-60.0, 60.0]] * 3), equal.beta)
    backprop, _ = mixed_gradient(relaxation, relaxation.initial(), one.x, one.y, plain)
    assert not torch.allclose(pretraining[0], backprop[0], rtol=0.1)


def test_layers_without_weights_pass_the_errors_on() -> None:
    """Also as the first layer, whose output then needs no error."""
    layers = [nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)]
    network = network_of(nn.Sequential(*layers), name="gaps").module.double()
    pool = [[nn.Linear(width, 3).double()] for width in (4, 5, 5)]
    relaxation = Relaxation(network_of(network, name="gaps"), pool, criterion=nn.CrossEntropyLoss())
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(6, 2, 2, generator=draw, dtype=torch.float64)
    y = torch.randint(0, 3, (6,), generator=draw)
    choices = Choices(*(t.double() for t in relaxation.equal_choices()))
    plain, _ = mixed_gradient(relaxation, relaxation.initial(), x, y, choices)
    graph = build_graph(relaxation, relaxation.initial(), x, y, choices)
    for gradient, other in zip(graph.gradients, plain, strict=True):
        torch.testing.assert_close(gradient.detach(), other)
    alpha, beta, weights = graph.product(plain, with_weights=True)
    assert alpha.shape == (3, 2)
    assert beta.shape == (3, 1)
    assert len(weights) == len(plain)
