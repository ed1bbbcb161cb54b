"""A block of torch's pipeline by itself: what it hands on, what it refuses, how it is timed."""

from __future__ import annotations

import pytest
import torch
from blockstep.pipeline.block import Place
from blockstep.pipeline.message import Kind, Message
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.pipeline.pipelined_block import PipelinedBlock
from torch import nn

from tests.pipeline.parts import CPU, SEED, batch, differences, make_block, make_parts

CONFIG = OptimizationConfig(steps=4, lr=0.05, schedule="constant")


def block(
    index: int, blocks: int, body: nn.Module | None = None, *, channels_last: bool = False
) -> PipelinedBlock:
    """Make one block with four micro-batches."""
    made, head = make_parts(index, blocks)
    return PipelinedBlock(
        body or made,
        head if index == blocks else nn.Identity(),
        place=Place(index, blocks, CPU, SEED),
        microbatches=4,
        config=OptimizationConfig(**{**vars(CONFIG), "channels_last": channels_last}),
        criterion=nn.CrossEntropyLoss(),
    )


def test_the_first_message_tells_the_shapes_and_the_others_have_labels() -> None:
    """Two examples pass first, without a trace in running statistics; then labels alone."""
    first, second = block(1, 2), block(2, 2)
    before = first.body.state_dict()["1.running_mean"].clone()
    message = first.forward(batch(1))
    assert [tuple(one.shape) for one in message.tensors] == [(2, 6, 8, 8), (8,)]
    second.forward(message)
    assert torch.equal(first.body.state_dict()["1.running_mean"], before)
    for one, entry, leaving in (
        (first, (2, 3, 8, 8), (2, 6, 8, 8)),
        (second, (2, 6, 8, 8), (2, 5)),
    ):
        assert one.entry is not None
        assert one.exit is not None
        assert (one.entry.device.type, one.exit.device.type) == ("meta", "meta")
        assert (tuple(one.entry.shape), tuple(one.exit.shape)) == (entry, leaving)
        assert one.entry.requires_grad == (one is second)
    message = first.forward(batch(2))
    assert differences(message.tensors, (batch(2).tensors[1],)) == []
    assert message.kind == Kind.BATCH


def test_one_block_alone_is_a_block_with_chunks() -> None:
    """Its step has the weights of the plain block that adds up over parts, to the bit."""
    chunked = OptimizationConfig(**{**vars(CONFIG), "chunk": 2})
    plain, pipelined = make_block(chunked, parts=make_parts(1, 1)), block(1, 1)
    for step in range(1, 4):
        plain.step(batch(step))
        pipelined.step(batch(step))
    found, wanted = pipelined.state_dict(), plain.state_dict()
    scaler = {"scaler": wanted["scaler"]}
    assert differences({**found, **scaler}, wanted) == []
    assert pipelined.progress()["loss"] == pytest.approx(plain.progress()["loss"], abs=1e-6)


def test_a_later_block_is_timed_on_zeros() -> None:
    """It needs nothing but the labels of a batch that it has seen."""
    first, second = block(1, 2), block(2, 2)
    second.forward(first.forward(batch(1)))
    before = second.state_dict()["head"]["3.bias"].clone()
    second.step(Message(Kind.BATCH, 2, batch(2).tensors[1:]))
    assert not torch.equal(second.state_dict()["head"]["3.bias"], before)


def test_layouts_change_on_both_sides() -> None:
    """The layers see channels-last, the neighbours do not; gradients take the way back."""
    seen: list[bool] = []

    class Look(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.is_contiguous(memory_format=torch.channels_last))
            if x.requires_grad:
                x.register_hook(
                    lambda g: seen.append(g.is_contiguous(memory_format=torch.channels_last))
                )
            return x * 1.0

    made = block(1, 2, nn.Sequential(Look(), nn.Conv2d(6, 6, 1), Look()), channels_last=True)
    x = torch.randn(2, 6, 8, 8, requires_grad=True)
    output = made.part(x)
    assert output.is_contiguous()
    output.backward(torch.randn(2, 6, 8, 8))
    assert x.grad is not None
    assert x.grad.is_contiguous()
    assert seen == [True] * 4


@pytest.mark.parametrize("dims", [(0, 1), (0, 3)])
def test_an_output_without_rows_is_refused(dims: tuple[int, int]) -> None:
    """A micro-batch must stay one, with a row for each example."""
    body = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Flatten(*dims))
    with pytest.raises(RuntimeError, match=r"stage 1: 2 examples become .* cut elsewhere"):
        block(1, 2, body).forward(batch(1))
