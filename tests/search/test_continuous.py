"""Training with mixed choices, against the gradients of the search and against its limits."""

from __future__ import annotations

import pytest
import torch
from blockstep.models import network_of
from blockstep.pipeline.block import Block, Place
from blockstep.pipeline.message import Kind, Message
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.search.continuous import ContinuousBlock
from blockstep.search.mixed_gradient import Choices, mixed_gradient
from torch import nn

from .relaxed import batch, make_parts, make_relaxation

PLACE = Place(1, 1, torch.device("cpu"), 0)
CONFIG = OptimizationConfig(steps=10, lr=0.1, momentum=0.9, weight_decay=1e-2, schedule="constant")
CRITERION = nn.CrossEntropyLoss(label_smoothing=0.1)


def choices(*, alpha: list[float] | None = None) -> Choices:
    """Alpha as given for every layer, or anything; beta anything."""
    draw = torch.Generator().manual_seed(7)
    some = torch.randn(3, 2, generator=draw, dtype=torch.float64)
    beta = torch.randn(3, 2, generator=draw, dtype=torch.float64)
    return Choices(some if alpha is None else torch.tensor([alpha] * 3, dtype=torch.float64), beta)


def make_block(chosen: Choices, config: OptimizationConfig = CONFIG) -> ContinuousBlock:
    network, pool = make_parts()
    return ContinuousBlock(
        network, pool, choices=chosen, place=PLACE, config=config, criterion=CRITERION
    )


def message(step: int) -> Message:
    one = batch(step)
    return Message(Kind.BATCH, step, (one.x, one.y))


def test_learns_from_the_gradient_of_the_search() -> None:
    """Every weight of layers, heads and classifier has the inner step's gradient, bit for bit."""
    chosen, one = choices(), batch(1)
    block, relaxation = make_block(chosen), make_relaxation(fast=False)
    expected, losses = mixed_gradient(relaxation, relaxation.initial(), one.x, one.y, chosen)
    block.step(message(1))
    found = {id(p): p.grad for p in block.parameters}
    heads = block.modules["mixed_heads"].children()
    for index, layer in enumerate(block.body.children()):
        last = index == relaxation.depth - 1
        parts = ((layer, relaxation.layer_weights), (block.head if last else next(heads), None))
        for module, where in parts:
            spans = where or relaxation.head_weights
            for parameter, number in zip(module.parameters(), spans[index], strict=True):
                gradient = found.pop(id(parameter))
                assert gradient is not None
                assert torch.equal(gradient, expected[number])
    assert not found
    assert block.progress()["loss"] == pytest.approx(float(losses[-1]), rel=1e-6)


def test_without_local_errors_it_is_backpropagation() -> None:
    """The layers and the classifier are trained as if there were no heads, bit for bit."""
    network, _ = make_parts()
    plain = Block(
        network.body(1, 4), network.classifier, place=PLACE, config=CONFIG, criterion=CRITERION
    )
    mixed = make_block(choices(alpha=[-1000.0, 1000.0]))
    for step in range(1, 4):
        plain.step(message(step))
        mixed.step(message(step))
    ours, theirs = mixed.state_dict(), plain.state_dict()
    for name in ("body", "head"):
        for key, value in theirs[name].items():
            assert torch.equal(ours[name][key], value), key


def test_with_local_errors_alone_nothing_comes_from_above() -> None:
    """Another last layer makes no difference to the layers before it."""
    first, second = (make_block(choices(alpha=[1000.0, -1000.0])) for _ in range(2))
    with torch.no_grad():
        *_, changed = second.body.children()
        for parameter in changed.parameters():
            parameter.mul_(-3.0)
    for block in (first, second):
        block.step(message(1))
    ours, theirs = (list(block.body.parameters()) for block in (first, second))
    same = [torch.equal(one, other) for one, other in zip(ours, theirs, strict=True)]
    last = len(list(changed.parameters()))
    assert all(same[:-last])
    assert not any(same[-last:])


def test_saved_and_loaded_it_goes_on_the_same() -> None:
    """Heads and their momentum included."""
    whole, torn, later = (make_block(choices()) for _ in range(3))
    for step in range(1, 5):
        whole.step(message(step))
    for step in range(1, 3):
        torn.step(message(step))
    later.load_state_dict(torn.state_dict())
    for step in range(3, 5):
        later.step(message(step))
    for name in ("body", "head", "mixed_heads"):
        for key, value in whole.state_dict()[name].items():
            assert torch.equal(later.state_dict()[name][key], value), key


def test_a_head_that_works_in_place_is_refused() -> None:
    """The next layer would learn from something else."""
    network = network_of(nn.Sequential(*(nn.Linear(3, 3) for _ in range(3))), name="three")
    pool = [[nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 3))] for _ in range(2)]
    equal = Choices(torch.zeros(2, 2), torch.zeros(2, 1))
    block = ContinuousBlock(
        network, pool, choices=equal, place=PLACE, config=CONFIG, criterion=CRITERION
    )
    with pytest.raises(RuntimeError, match=r"in place|inplace"):
        block.step(Message(Kind.BATCH, 1, (torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))))
