"""Training one block, against loops written by hand with nothing but PyTorch."""

from __future__ import annotations

import copy
import math
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from blockstep.pipeline.block import Block, InPlaceHeadError
from blockstep.pipeline.message import Kind, Message
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.pipeline.seed import derive
from blockstep.pipeline.stage import NonFiniteLossError
from torch import Tensor, nn
from torch.nn import functional as F

from tests.pipeline.parts import CLASSES, SEED, WIDTH, batch, differences, make_block, make_parts

STEPS = 20
SMOOTHING = 0.1


def smooth(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross entropy with smoothed labels."""
    return F.cross_entropy(logits, labels, label_smoothing=SMOOTHING)


def cosine(step: int) -> float:
    """Return the learning rate of a cosine from 0.1 to 0.001 over the steps."""
    return 0.001 + (0.1 - 0.001) * (0.5 * (1.0 + math.cos(math.pi * ((step - 1) / STEPS))))


def trained(config: OptimizationConfig, **options: Any) -> tuple[Block, list[Tensor]]:
    """Train one block for the steps; return it and what it handed on."""
    block = make_block(config, criterion=smooth, **options)
    return block, [block.step(batch(step)).tensors[0] for step in range(1, STEPS + 1)]


def check_equal(block: Block, body: nn.Module, head: nn.Module, optimizer: Any) -> None:
    """Weights, buffers and optimizer state agree bit for bit."""
    state = block.state_dict()
    assert differences(body.state_dict(), state["body"]) == []
    assert differences(head.state_dict(), state["head"]) == []
    assert differences(optimizer.state_dict(), state["optimizer"]) == []


def test_one_block_is_plain_backpropagation() -> None:
    """K=1 with SGD, momentum, weight decay, cosine, smoothed labels and BN is the plain loop."""
    config = OptimizationConfig(steps=STEPS, lr=0.1, momentum=0.9, weight_decay=5e-4)
    block, outputs = trained(config)

    body, head = make_parts(1, 1)
    network = nn.Sequential(body, head)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for step in range(1, STEPS + 1):
        x, y = batch(step).tensors
        optimizer.param_groups[0]["lr"] = cosine(step)
        optimizer.zero_grad()
        h = body(x)
        F.cross_entropy(head(h), y, label_smoothing=0.1).backward()
        optimizer.step()
        assert differences(h.detach(), outputs[step - 1]) == []
    check_equal(block, body, head, optimizer)
    assert body.state_dict()["1.num_batches_tracked"].item() == STEPS


def test_adamw_with_clipped_gradients_is_the_plain_loop() -> None:
    """AdamW with train.clip equals clip_grad_norm_ over the block and its head together."""
    config = OptimizationConfig(
        steps=STEPS,
        lr=0.003,
        optimizer="adamw",
        betas=[0.85, 0.98],
        weight_decay=0.02,
        schedule="constant",
        clip=0.5,
    )
    block, _ = trained(config)

    body, head = make_parts(1, 1)
    network = nn.Sequential(body, head)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=0.003, betas=(0.85, 0.98), weight_decay=0.02
    )
    norms = []
    for step in range(1, STEPS + 1):
        x, y = batch(step).tensors
        optimizer.zero_grad()
        smooth(network(x), y).backward()
        norms.append(float(nn.utils.clip_grad_norm_(network.parameters(), 0.5)))
        optimizer.step()
    assert max(norms) > 0.5, "nothing was clipped, so nothing was tested"
    check_equal(block, body, head, optimizer)


@pytest.mark.parametrize("chunk", [1, 3, 4, 8, 100])
def test_chunks_are_accumulated_like_the_whole_batch(chunk: int) -> None:
    """train.chunk sums the parts' mean losses by their share of the batch, in one update."""
    config = OptimizationConfig(steps=STEPS, lr=0.1, schedule="constant", chunk=chunk)
    parts = without_batch_norm() if chunk == 1 else make_parts(1, 1)
    block, outputs = trained(config, parts=copy.deepcopy(parts))

    body, head = parts
    network = nn.Sequential(body, head)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    for step in range(1, STEPS + 1):
        x, y = batch(step).tensors
        optimizer.zero_grad()
        pieces = []
        for begin in range(0, 8, chunk):
            labels = y[begin : begin + chunk]
            h = body(x[begin : begin + chunk])
            (smooth(head(h), labels) * (len(labels) / 8)).backward()
            pieces.append(h.detach())
        optimizer.step()
        assert differences(torch.cat(pieces), outputs[step - 1]) == []
    check_equal(block, body, head, optimizer)


def without_batch_norm() -> tuple[nn.Module, nn.Module]:
    """Make parts whose result does not depend on what else is in the batch."""
    body, head = make_parts(1, 1)
    del body[1]
    return body, head


def test_chunks_give_the_gradient_of_the_whole_batch() -> None:
    """Without batch normalization a step in chunks is a step on the batch, up to rounding."""
    whole, _ = trained(OptimizationConfig(steps=STEPS), parts=without_batch_norm())
    parts, _ = trained(OptimizationConfig(steps=STEPS, chunk=3), parts=without_batch_norm())
    for left, right in zip(whole.parameters, parts.parameters, strict=True):
        assert torch.allclose(left, right, rtol=1e-3, atol=1e-5)


def test_bfloat16_is_autocast() -> None:
    """precision=bfloat16 computes under autocast, keeps float32 weights, hands on bfloat16."""
    config = OptimizationConfig(steps=STEPS, precision="bfloat16", schedule="constant")
    block, outputs = trained(config)

    body, head = make_parts(1, 1)
    network = nn.Sequential(body, head)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    for step in range(1, STEPS + 1):
        x, y = batch(step).tensors
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = smooth(network(x), y)
        loss.backward()
        optimizer.step()
    check_equal(block, body, head, optimizer)
    assert {output.dtype for output in outputs} == {torch.bfloat16}
    assert {parameter.dtype for parameter in block.parameters} == {torch.float32}


@pytest.mark.parametrize("clip", [None, 0.05])
def test_float16_scales_the_loss(clip: float | None) -> None:
    """precision=float16 is GradScaler's loop; steps whose gradients overflow change nothing."""
    config = OptimizationConfig(
        steps=STEPS, precision="float16", schedule="constant", clip=clip, lr=0.001
    )
    steep = lambda logits, labels: 300.0 * smooth(logits, labels)  # noqa: E731
    block = make_block(config, criterion=steep)
    for step in range(1, STEPS + 1):
        block.step(batch(step))

    body, head = make_parts(1, 1)
    network = nn.Sequential(body, head)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9, weight_decay=1e-4)
    scaler = torch.amp.GradScaler("cpu")
    for step in range(1, STEPS + 1):
        x, y = batch(step).tensors
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = steep(network(x), y)
        scaler.scale(loss).backward()
        if clip is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(network.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() < 65536.0, "nothing overflowed, so nothing was tested"
    check_equal(block, body, head, optimizer)
    assert differences(scaler.state_dict(), block.state_dict()["scaler"]) == []


@pytest.mark.parametrize("chunk", [None, 3])
def test_channels_last_stays_channels_last(chunk: int | None) -> None:
    """With train.channels_last the output is channels-last and the numbers are the same."""
    keys: dict[str, Any] = {"steps": STEPS, "schedule": "constant", "lr": 0.01, "chunk": chunk}
    block, outputs = trained(OptimizationConfig(channels_last=True, **keys))
    _, others = trained(OptimizationConfig(**keys))
    for output, other in zip(outputs, others, strict=True):
        assert output.is_contiguous(memory_format=torch.channels_last)
        assert other.is_contiguous()
        assert torch.allclose(output, other, rtol=1e-3, atol=1e-3)
    weight = block.body.state_dict()["0.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last)


def in_place_head(*first: nn.Module) -> nn.Sequential:
    """Make a head that begins with ``first``."""
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(WIDTH * 64, CLASSES))


@pytest.mark.parametrize(
    "first",
    [(nn.LeakyReLU(0.5, inplace=True),), (nn.Flatten(2), nn.LeakyReLU(0.5, inplace=True))],
    ids=["direct", "through a view"],
)
def test_a_head_that_changes_the_activations_is_refused(first: tuple[nn.Module, ...]) -> None:
    """A head that works in place on the output is refused, naming the stage, before it learns."""
    parts = make_parts(1, 2)[0], in_place_head(*first)
    block = make_block(OptimizationConfig(), index=1, blocks=2, parts=parts)
    before = copy.deepcopy(block.state_dict()["head"])
    with pytest.raises(InPlaceHeadError, match=r"stage 1: .*ReLU\(inplace=False\)"):
        block.step(batch(1))
    assert differences(before, block.state_dict()["head"]) == []


def test_a_head_that_works_in_place_is_refused_before_it_is_compiled() -> None:
    """Compiled code would hide it, so the head is tried once without compiling."""
    parts = make_parts(1, 2)[0], in_place_head(nn.ReLU(inplace=True))
    block = make_block(OptimizationConfig(compile=True), blocks=2, parts=parts)
    with pytest.raises(InPlaceHeadError, match="stage 1"):
        block.step(batch(1))


def test_a_classifier_may_work_in_place() -> None:
    """Nobody learns from the last block's output, so its head may change it."""
    parts = make_parts(2, 2)[0][0], in_place_head(nn.LeakyReLU(0.5, inplace=True))
    block = make_block(OptimizationConfig(), index=2, blocks=2, parts=parts)
    x = torch.randn(8, WIDTH, 8, 8)
    block.step(Message(Kind.BATCH, 1, (x, batch(1).tensors[1])))


def test_no_gradient_leaves_a_block() -> None:
    """Neither the input nor the block before gets a gradient, and no graph is handed on."""
    first = make_block(OptimizationConfig(), index=1, blocks=2)
    second = make_block(OptimizationConfig(), index=2, blocks=2)
    x, y = batch(1).tensors
    x.requires_grad_()
    output = first.step(Message(Kind.BATCH, 1, (x, y)))
    assert x.grad is None
    h = output.tensors[0]
    assert not h.requires_grad
    assert h.grad_fn is None
    state = copy.deepcopy(first.state_dict())
    gradients = [parameter.grad for parameter in first.parameters]
    copies = copy.deepcopy(gradients)
    second.step(output)
    assert differences(copies, gradients) == []
    assert differences(state, first.state_dict()) == []


def test_each_block_learns_from_its_own_loss_only() -> None:
    """Two blocks are two networks trained one after the other on detached activations."""
    config = OptimizationConfig(steps=STEPS, schedule="constant", lr=0.05)
    blocks = [make_block(config, index=index, blocks=2, criterion=smooth) for index in (1, 2)]
    networks = [make_parts(index, 2) for index in (1, 2)]
    optimizers = [
        torch.optim.SGD(nn.Sequential(*parts).parameters(), 0.05, 0.9, weight_decay=1e-4)
        for parts in networks
    ]
    for step in range(1, STEPS + 1):
        message = batch(step)
        h, y = message.tensors
        for block, (body, head), optimizer in zip(blocks, networks, optimizers, strict=True):
            message = block.step(message)
            optimizer.zero_grad()
            h = body(h.detach())
            smooth(head(h), y).backward()
            optimizer.step()
    for block, (body, head), optimizer in zip(blocks, networks, optimizers, strict=True):
        check_equal(block, body, head, optimizer)


def mask(step: int, *, index: int = 1, seed: int = SEED) -> Tensor:
    """Return what dropout leaves of ones."""
    head = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, CLASSES))
    parts = nn.Dropout(0.5), head
    block = make_block(OptimizationConfig(), index=index, blocks=3, parts=parts, seed=seed)
    x, y = torch.ones(8, 3, 8, 8), torch.zeros(8, dtype=torch.int64)
    return block.step(Message(Kind.BATCH, step, (x, y))).tensors[0]


def test_dropout_depends_on_seed_step_and_stage_alone() -> None:
    """Dropout is the same whatever was drawn before, and another for another purpose."""
    expected = mask(5)
    torch.manual_seed(123)
    torch.rand(17)
    assert differences(mask(5), expected) == []
    others = [mask(6), mask(5, index=2), mask(5, seed=SEED + 1)]
    assert all(not torch.equal(other, expected) for other in others)


def test_dropout_draws_from_the_derived_seed() -> None:
    """The numbers of a step are those of a generator seeded with derive(seed, step, stage)."""
    torch.manual_seed(derive(SEED, "step", 5, "stage", 2))
    expected = F.dropout(torch.ones(8, 3, 8, 8), 0.5)
    assert differences(mask(5, index=2), expected) == []


def test_frozen_parameters_stay_as_they_are() -> None:
    """Parameters without requires_grad are in no optimizer and do not change."""
    body, head = make_parts(1, 1)
    body[0].requires_grad_(False)
    before = body.state_dict()["0.weight"].clone()
    block, _ = trained(OptimizationConfig(steps=STEPS), parts=(body, head))
    assert torch.equal(body.state_dict()["0.weight"], before)
    assert len(block.parameters) == 4


def test_labels_of_any_layout_can_travel_on() -> None:
    """A column of a table of labels is handed on as a tensor that fits into a message."""
    x, y = batch(1).tensors
    table = torch.stack([y, y + 1], dim=1)
    block = make_block(OptimizationConfig(), index=1, blocks=2)
    for step, call in ((Kind.BATCH, block.step), (Kind.SAMPLE, block.evaluate)):
        labels = call(Message(step, 1, (x, table[:, 0]))).tensors[1]
        assert torch.equal(labels, y)
        assert labels.stride() == (1,)


def test_progress_is_the_mean_of_the_steps() -> None:
    """progress() gives the loss and accuracy that numpy computes from the logits."""
    config = OptimizationConfig(steps=STEPS, schedule="constant", lr=0.05)
    block = make_block(config)
    body, head = make_parts(1, 1)
    losses, hits = [], []
    for step in (1, 2, 3):
        body.load_state_dict(block.body.state_dict())
        head.load_state_dict(block.head.state_dict())
        x, y = batch(step, size=8 if step < 3 else 4).tensors
        logits = head(body(x)).detach().double().numpy()
        shifted = logits - logits.max(1, keepdims=True)
        likelihoods = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        losses += (-likelihoods[np.arange(len(y)), y.numpy()]).tolist()
        hits += (logits.argmax(1) == y.numpy()).tolist()
        block.step(Message(Kind.BATCH, step, (x, y)))
    means = block.progress()
    assert means["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert means["accuracy"] == pytest.approx(np.mean(hits))
    assert means["lr"] == 0.05


def test_a_loss_that_is_not_finite_names_the_stage() -> None:
    """A NaN in the input raises at the step, with the stage's number."""
    block = make_block(OptimizationConfig(), index=2, blocks=3, parts=make_parts(1, 3))
    block.step(batch(1))
    x, y = batch(2).tensors
    x[0, 0, 0, 0] = math.nan
    with pytest.raises(NonFiniteLossError, match="stage 2: the loss of step 2 is nan"):
        block.step(Message(Kind.BATCH, 2, (x, y)))


def test_the_classifier_may_be_missing() -> None:
    """A head without parameters leaves all learning to the body, as when layers yield logits."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, CLASSES))
    block = make_block(OptimizationConfig(), parts=(body, nn.Identity()))
    before = copy.deepcopy(body.state_dict())
    block.step(batch(1))
    assert differences(before, body.state_dict()) != []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_block_learns_the_same() -> None:
    """train.compile gives the outputs and weights of the plain block, up to rounding."""
    keys: dict[str, Any] = {"steps": 4, "lr": 0.01, "schedule": "constant"}

    def make(config: OptimizationConfig) -> Block:
        torch.manual_seed(1)
        parts = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 16)), nn.Linear(16, CLASSES)
        return make_block(config, index=1, blocks=2, parts=parts)

    plain, compiled = (
        make(OptimizationConfig(**keys)),
        make(OptimizationConfig(compile=True, **keys)),
    )
    for step in range(1, 4):
        left, right = plain.step(batch(step)), compiled.step(batch(step))
        assert torch.allclose(left.tensors[0], right.tensors[0], rtol=1e-3, atol=1e-4)
        assert not right.tensors[0].requires_grad
    for left, right in zip(plain.parameters, compiled.parameters, strict=True):
        assert torch.allclose(left, right, rtol=1e-3, atol=1e-4)
    assert compiled.state_dict()["body"].keys() == plain.state_dict()["body"].keys()
