"""PredSim's loss and its blocks, against NumPy and against a plain loop."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from blockstep.models import make_head
from blockstep.pipeline.block import Block, InPlaceHeadError, Place
from blockstep.pipeline.message import Kind, Message
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.pipeline.predsim import PredSimBlock, adjusted_cosine, predsim_loss
from torch import Tensor, nn
from torch.nn import functional as F

from tests.pipeline.parts import CLASSES, CPU, SEED, batch, differences, make_block

BETA = 0.99
STEPS = 20
CHANNELS = (6, 8, 8)


# --- The similarity -----------------------------------------------------------------------------


def numpy_similarity(z: Tensor) -> np.ndarray:
    """Compute the similarity matrix one pair at a time, in float64."""
    values = z.double().numpy()
    features = []
    for example in values:
        if values.ndim == 4 and values.shape[1] > 3 and values.shape[2] > 1:
            features.append([np.std(channel, ddof=1) for channel in example])
        else:
            features.append(example.ravel())
    size = len(features)
    matrix = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            a = np.asarray(features[row]) - np.mean(features[row])
            b = np.asarray(features[column]) - np.mean(features[column])
            norms = (1e-8 + np.sqrt((a**2).sum())) * (1e-8 + np.sqrt((b**2).sum()))
            matrix[row, column] = np.clip((a * b).sum() / norms, -1.0, 1.0)
    return matrix


@pytest.mark.parametrize(
    "shape", [(5, 6, 4, 4), (5, 4, 2, 1), (5, 6, 1, 1), (5, 6, 1, 3), (5, 3, 4, 4), (5, 9), (1, 9)]
)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_the_similarity_is_that_of_numpy(
    shape: tuple[int, ...], dtype: torch.dtype, error: float
) -> None:
    """Deviations of four and more channels of images, else all features, centred; cosine."""
    torch.manual_seed(0)
    z = torch.randn(shape, dtype=dtype)
    found = adjusted_cosine(z)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.double().numpy(), numpy_similarity(z), atol=error)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_labels_are_one_or_minus_one_over_the_others(classes: int) -> None:
    """The same class is 1, another is -1 / (classes - 1)."""
    y = torch.arange(2 * classes) % classes
    found = adjusted_cosine(F.one_hot(y, classes).double())
    same = y[:, None] == y[None, :]
    expected = torch.where(same, 1.0, -1.0 / (classes - 1)).double()
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=0.0)


def test_features_that_are_all_equal_are_like_nothing() -> None:
    """Silent maps have similarity 0, and a gradient that is a number."""
    h = torch.zeros(4, 6, 3, 3, requires_grad=True)
    found = adjusted_cosine(h)
    assert not found.any()
    (found - 1).square().sum().backward()
    assert h.grad is not None
    assert h.grad.isfinite().all()


def test_half_precision_compares_in_single() -> None:
    """Under autocast, maps of bfloat16 have the similarity of the same numbers as float32."""
    torch.manual_seed(0)
    z = torch.randn(5, 6, 4, 4).bfloat16()
    expected = adjusted_cosine(z.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = adjusted_cosine(z)
    assert torch.equal(found, expected)
    tiny = (torch.randn(5, 6) * 1e-4).half()
    np.testing.assert_allclose(adjusted_cosine(tiny).numpy(), numpy_similarity(tiny), atol=1e-3)


def test_smoothing_concerns_the_prediction_only() -> None:
    """The loss is (1 - beta) times the criterion plus beta times what it is at beta 1."""
    head: Any = make_head("predsim", shape=(6, 4, 4), classes=5)
    h, y = torch.randn(7, 6, 4, 4), torch.arange(7) % 5
    smooth = nn.CrossEntropyLoss(label_smoothing=0.3)
    losses = {
        beta: predsim_loss(head, h, y, criterion=smooth, beta=beta)[1].item()
        for beta in (0.0, 0.25, 1.0)
    }
    assert losses[0.0] == pytest.approx(smooth(head(h), y).item())
    difference = adjusted_cosine(head.similarity(h)) - adjusted_cosine(F.one_hot(y, 5).float())
    assert losses[1.0] == pytest.approx(difference.square().sum().item() / 49, rel=1e-5)
    assert losses[0.25] == pytest.approx(0.75 * losses[0.0] + 0.25 * losses[1.0], rel=1e-6)


# --- The blocks ---------------------------------------------------------------------------------


def make_bodies() -> list[nn.Module]:
    """Make three blocks for images (B, 3, 8, 8): strides, batch norms, a residual."""
    torch.manual_seed(3)
    bodies: list[nn.Module] = []
    before = 3
    for number, channels in enumerate(CHANNELS):
        bodies.append(
            nn.Sequential(
                nn.Conv2d(before, channels, 3, stride=1 + number % 2, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            )
        )
        before = channels
    return bodies


def make_heads(inputs: int = 24) -> list[nn.Module]:
    """Make the two heads and the classifier."""
    torch.manual_seed(4)
    shapes = ((6, 8, 8), (8, 4, 4))
    heads = [make_head("predsim", shape=s, classes=CLASSES, features=inputs) for s in shapes]
    classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES))
    return [*heads, classifier]


def make_blocks(config: OptimizationConfig, *, beta: float = BETA) -> list[Block]:
    """Make the three stages as a training does."""
    blocks: list[Block] = []
    for number, (body, head) in enumerate(zip(make_bodies(), make_heads(), strict=True), start=1):
        place = Place(number, 3, CPU, SEED)
        common: dict[str, Any] = {"place": place, "config": config}
        common["criterion"] = nn.CrossEntropyLoss()
        blocks.append(
            Block(body, head, **common) if place.last
            else PredSimBlock(body, head, beta=beta, **common)
        )  # fmt: skip
    return blocks


def sim(z: Tensor) -> Tensor:
    """Write the similarity down once more, as the paper has it."""
    if z.dim() == 4:
        z = z.std(dim=(2, 3))
    z = z - z.mean(dim=1, keepdim=True)
    z = z / (1e-8 + torch.linalg.norm(z, dim=1, keepdim=True))
    return torch.mm(z, z.t()).clamp(min=-1, max=1)


def plain_predsim(steps: int, keys: dict[str, Any]) -> list[dict[str, Any]]:
    """Train block after block in one loop with nothing but PyTorch; return each one's weights."""
    bodies, windows = make_bodies(), ((4, 4), (4, 2))  # 6 x 2 x 2 and 8 x 1 x 2 of 24 numbers
    predictors = [nn.Linear(24, CLASSES), nn.Linear(16, CLASSES)]
    for predictor in predictors:
        nn.init.zeros_(predictor.weight)
        nn.init.zeros_(predictor.bias)
    convolutions = [nn.Conv2d(c, c, 3, padding=1, bias=False) for c in CHANNELS[:2]]
    *heads, classifier = make_heads()
    for convolution, head in zip(convolutions, heads, strict=True):
        convolution.load_state_dict({"weight": head.state_dict()["embedding.weight"]})
    optimizers = [
        torch.optim.SGD([*body.parameters(), *(p for m in more for p in m.parameters())], **keys)
        for body, more in zip(
            bodies, [*zip(convolutions, predictors, strict=True), (classifier,)], strict=True
        )
    ]
    for step in range(1, steps + 1):
        h, y = batch(step).tensors
        targets = sim(torch.eye(CLASSES)[y])
        for k in range(3):
            optimizers[k].zero_grad()
            h = bodies[k](h.detach())
            if k < 2:
                pooled = F.avg_pool2d(h, windows[k]).reshape(len(y), -1)
                prediction = F.cross_entropy(predictors[k](pooled), y)
                similarity = F.mse_loss(sim(convolutions[k](h)), targets)
                loss = (1 - BETA) * prediction + BETA * similarity
            else:
                loss = F.cross_entropy(classifier(h), y)
            loss.backward()
            optimizers[k].step()
    states: list[dict[str, Any]] = []
    for k in range(2):
        head = {f"predictor.{name}": value for name, value in predictors[k].state_dict().items()}
        head["embedding.weight"] = convolutions[k].weight.detach()
        states.append({"body": bodies[k].state_dict(), "head": head})
    states.append({"body": bodies[2].state_dict(), "head": classifier.state_dict()})
    return states


def test_blocks_are_the_plain_loop() -> None:
    """20 steps of three blocks give the weights of a loop over blocks, bit for bit."""
    keys: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}
    blocks = make_blocks(OptimizationConfig(steps=STEPS, schedule="constant", **keys))
    for step in range(1, STEPS + 1):
        message = batch(step)
        for block in blocks:
            message = block.step(message)
    expected = plain_predsim(STEPS, keys)
    for block, state in zip(blocks, expected, strict=True):
        found = block.state_dict()
        assert differences(state["body"], found["body"]) == []
        assert not differences(
            dict(sorted(state["head"].items())), dict(sorted(found["head"].items()))
        )


def test_the_embedding_learns_and_the_gradient_stays_in_the_block() -> None:
    """All of a block moves; the block before does not learn from it."""
    blocks = make_blocks(OptimizationConfig(steps=STEPS, lr=0.05))
    before = [copy.deepcopy(block.state_dict()) for block in blocks]
    first = blocks[0].step(batch(1))
    assert not first.tensors[0].requires_grad
    second = copy.deepcopy(blocks[0].state_dict())
    blocks[1].step(first)
    assert differences(second, blocks[0].state_dict()) == []
    for block, old in zip(blocks[:2], before, strict=False):
        for name in ("embedding.weight", "predictor.bias"):
            assert not torch.equal(old["head"][name], block.state_dict()["head"][name]), name


def test_without_the_similarity_it_is_a_plain_block() -> None:
    """Beta 0: body and predictor have the weights of a block whose head only predicts."""
    config = OptimizationConfig(steps=STEPS, lr=0.05)
    mixed = make_blocks(config, beta=0.0)[0]
    plain = make_block(config, parts=(make_bodies()[0], make_heads()[0]))
    for step in range(1, 6):
        mixed.step(batch(step))
        plain.step(batch(step))
    ours, theirs = mixed.state_dict(), plain.state_dict()
    assert differences(ours["body"], theirs["body"]) == []
    for name in ("predictor.weight", "predictor.bias"):
        assert torch.equal(ours["head"][name], theirs["head"][name])


def test_what_is_reported() -> None:
    """The mixed loss and the predictor's accuracy in training, its cross entropy in evaluation."""
    block = make_blocks(OptimizationConfig(steps=STEPS, lr=1e-9, lr_min=0.0, weight_decay=0.0))[0]
    head: Any = block.head
    with torch.no_grad():
        head.predictor.weight.normal_()
    x, y = batch(1).tensors
    block.body.train()
    h = copy.deepcopy(block.body)(x)
    similarity = F.mse_loss(sim(head.similarity(h)), sim(torch.eye(CLASSES)[y]))
    expected = (1 - BETA) * F.cross_entropy(head(h), y) + BETA * similarity
    block.step(batch(1))
    progress = block.progress()
    assert progress["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert progress["accuracy"] == (head(h).argmax(1) == y).double().mean().item()
    block.evaluate(Message(Kind.EVALUATE, 1, text="test"))
    block.evaluate(Message(Kind.SAMPLE, 1, (x, y)))
    block.evaluate(Message(Kind.EVALUATED, 1))
    loss = F.cross_entropy(head(block.body(x)), y)
    assert block.evaluation()["loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_it_resumes_bit_for_bit() -> None:
    """Saved after two steps and loaded elsewhere, it goes on the same."""
    config = OptimizationConfig(steps=STEPS, lr=0.05)
    whole, torn, later = (make_blocks(config)[0] for _ in range(3))
    for step in range(1, 5):
        whole.step(batch(step))
        if step <= 2:
            torn.step(batch(step))
    later.load_state_dict(torn.state_dict())
    for step in (3, 4):
        later.step(batch(step))
    assert differences(whole.state_dict(), later.state_dict()) == []


@pytest.mark.parametrize("keys", [{"precision": "bfloat16"}, {"channels_last": True}])
def test_other_precisions_and_layouts(keys: dict[str, Any]) -> None:
    """The loss is near that of float32 in the usual layout."""
    losses = []
    for more in ({}, keys):
        block = make_blocks(OptimizationConfig(steps=STEPS, lr=0.05, **more))[0]
        for step in range(1, 6):
            block.step(batch(step))
        losses.append(block.progress()["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_compiled_it_learns_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """train.compile gives the losses and weights of the plain block, up to rounding.

    The graph is captured and differentiated as always, but run without making kernels for it.
    """
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))

    def make(*, compiled: bool) -> Block:
        torch.manual_seed(1)
        body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 16))
        head = make_head("predsim", shape=(16,), classes=CLASSES)
        config = OptimizationConfig(steps=4, lr=0.01, schedule="constant", compile=compiled)
        place = Place(1, 2, CPU, SEED)
        return PredSimBlock(body, head, place=place, config=config, criterion=nn.CrossEntropyLoss())

    plain, compiled = make(compiled=False), make(compiled=True)
    for step in range(1, 4):
        for block in (plain, compiled):
            block.step(batch(step))
    assert compiled.progress()["loss"] == pytest.approx(plain.progress()["loss"], rel=1e-3)
    for left, right in zip(plain.parameters, compiled.parameters, strict=True):
        assert torch.allclose(left, right, rtol=1e-3, atol=1e-4)


def test_a_similarity_that_works_in_place_is_refused() -> None:
    """The next block would learn from something else."""
    head: Any = make_heads()[0]
    head.embedding = nn.ReLU(inplace=True)
    body = nn.Conv2d(3, 6, 3, padding=1)
    block = PredSimBlock(
        body, head, place=Place(1, 2, CPU, 0), config=OptimizationConfig(),
        criterion=nn.CrossEntropyLoss(),
    )  # fmt: skip
    with pytest.raises(InPlaceHeadError, match="in place"):
        block.step(batch(1))
