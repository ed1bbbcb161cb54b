"""What a block reports of an evaluation, against numpy, and what it leaves untouched."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from blockstep.pipeline.block import Block
from blockstep.pipeline.message import Kind, Message
from blockstep.pipeline.optimization import OptimizationConfig
from torch import Tensor, nn

from tests.pipeline.parts import CLASSES, Images, batch, differences, make_block

SIZE = 6


def pipeline(blocks: int, **options: Any) -> list[Block]:
    """Make blocks that have learned a little, so that their statistics are not the initial ones."""
    config = OptimizationConfig(steps=10, lr=0.05)
    stages = [
        make_block(config, index=index, blocks=blocks, dropout=0.4, **options)
        for index in range(1, blocks + 1)
    ]
    for step in range(1, 4):
        message = batch(step)
        for stage in stages:
            message = stage.step(message)
    return stages


def evaluate(stages: list[Block], *, split: str = "test", step: int = 3) -> list[dict[str, Any]]:
    """Send an evaluation through all blocks; return their results."""
    images = Images(examples=48).evaluation(split, batch_size=SIZE)
    samples = [Message(Kind.SAMPLE, step, (x, y)) for x, y in images]
    begin, end = (Message(kind, step, text=split) for kind in (Kind.EVALUATE, Kind.EVALUATED))
    for message in (begin, *samples, end):
        for stage in stages:
            message = stage.evaluate(message)
    return [stage.evaluation() for stage in stages]


def outputs(stages: list[Block]) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the logits of every head for all test images at once, and the labels."""
    h, labels = next(Images(examples=48).evaluation("test", batch_size=100))
    logits = []
    with torch.no_grad():
        for stage in stages:
            h = stage.body.eval()(h)
            logits.append(stage.head.eval()(h).double().numpy())
    return logits, labels.numpy()


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log probabilities."""
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
def test_results_are_those_of_numpy(blocks: int) -> None:
    """Loss and accuracy of every block, and the last two heads' vote, equal numpy's."""
    stages = pipeline(blocks)
    results = evaluate(stages)
    logits, labels = outputs(stages)
    assert len(labels) % SIZE != 0, "the last batch must be short to be weighed"
    for result, values in zip(results, logits, strict=True):
        likelihoods = log_softmax(values)[np.arange(len(labels)), labels]
        assert result["loss"] == pytest.approx(-likelihoods.mean(), rel=1e-5)
        assert result["accuracy"] == pytest.approx((values.argmax(1) == labels).mean())
        assert (result["step"], result["split"], result["metrics"]) == (3, "test", {})
    assert [result["ensemble_accuracy"] for result in results[:-1]] == [None] * (blocks - 1)
    if blocks == 1:
        assert results[0]["ensemble_accuracy"] is None
        return
    vote = log_softmax(logits[-2]) + log_softmax(logits[-1])
    assert results[-1]["ensemble_accuracy"] == pytest.approx((vote.argmax(1) == labels).mean())


def test_the_vote_is_a_vote() -> None:
    """Where the last two heads disagree, the surer one decides, and not always the last."""
    results = []
    for sure, unsure in ((9.0, 1.0), (1.0, 9.0)):
        first, last = (make_block(OptimizationConfig(), index=k, blocks=2) for k in (1, 2))
        first.head = Constant([sure, 0.0, 0.0, 0.0, 0.0])
        last.head = Constant([0.0, unsure, 0.0, 0.0, 0.0])
        x, y = torch.zeros(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64)
        for message in (
            Message(Kind.EVALUATE, 1, text="test"),
            Message(Kind.SAMPLE, 1, (x, y)),
            Message(Kind.EVALUATED, 1, text="test"),
        ):
            last.evaluate(first.evaluate(message))
        result = last.evaluation()
        results.append((result["accuracy"], result["ensemble_accuracy"]))
    assert results == [(0.0, 1.0), (0.0, 0.0)]


class Constant(nn.Module):
    """A head that always says the same."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self._logits = torch.tensor(logits)

    def forward(self, h: Tensor) -> Tensor:
        """Say it."""
        return self._logits.expand(len(h), CLASSES)


def test_an_evaluation_changes_nothing() -> None:
    """Steps before and after an evaluation are those without it, bit for bit, dropout included."""
    plain, watched = pipeline(3), pipeline(3)
    before = copy.deepcopy([stage.state_dict() for stage in watched])
    evaluate(watched)
    evaluate(watched, split="validation")
    assert differences(before, [stage.state_dict() for stage in watched]) == []
    for step in range(4, 8):
        left = right = batch(step)
        for stage, other in zip(plain, watched, strict=True):
            left, right = stage.step(left), other.step(right)
        assert differences(left.tensors, right.tensors) == []
    for stage, other in zip(plain, watched, strict=True):
        assert differences(stage.state_dict(), other.state_dict()) == []
        assert differences(stage.progress(), other.progress()) == []


def test_an_evaluation_is_repeatable_and_starts_over() -> None:
    """A second evaluation gives the same numbers, and another split its own."""
    stages = pipeline(2)
    first = evaluate(stages)
    assert evaluate(stages) == first
    other = evaluate(stages, split="validation", step=9)
    assert (other[0]["split"], other[0]["step"]) == ("validation", 9)
    assert other[0]["loss"] != first[0]["loss"]
    assert evaluate(stages) == first


def test_an_evaluation_hands_on_no_graph() -> None:
    """Samples travel detached, and with the log-softmax of the head before the last only."""
    stages = pipeline(3)
    message = Message(Kind.SAMPLE, 1, batch(1).tensors)
    counts = []
    for stage in stages:
        message = stage.evaluate(message)
        assert not any(tensor.requires_grad for tensor in message.tensors)
        counts.append(len(message.tensors))
    assert counts == [2, 3, 2]


def test_the_examiner_judges_instead_of_the_local_loss() -> None:
    """Where the local loss is a training device, evaluations report the examiner's."""
    stages = pipeline(2, examiner=lambda logits, labels: logits.new_tensor(2.0) + len(labels))
    counts = [6, 6, 4]
    expected = sum((2.0 + count) * count for count in counts) / sum(counts)
    assert [result["loss"] for result in evaluate(stages)] == [pytest.approx(expected)] * 2


class Largest:
    """A metric: the largest logit seen."""

    def __init__(self) -> None:
        self.reset()

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Look at a batch."""
        assert logits.dtype == torch.float32
        assert len(logits) == len(labels)
        self.value = max(self.value, float(logits.max()))

    def compute(self) -> float:
        """Tell the largest."""
        return self.value

    def reset(self) -> None:
        """Forget."""
        self.value = -1e9


def test_further_metrics_see_every_batch_and_start_over() -> None:
    """Metrics get all logits of an evaluation and are reset before the next."""
    from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

    metrics = {
        "largest": Largest(),
        "top2": MulticlassAccuracy(CLASSES, top_k=2, average="micro"),
        "confusion": MulticlassConfusionMatrix(CLASSES),
    }
    stages = pipeline(1, metrics=metrics)
    evaluate(stages, split="validation")
    (result,) = evaluate(stages)
    (logits,), labels = outputs(stages)
    found = result["metrics"]
    assert found["largest"] == pytest.approx(logits.max(), rel=1e-5)
    best = np.argsort(-logits, axis=1)[:, :2]
    assert found["top2"] == pytest.approx((best == labels[:, None]).any(1).mean())
    confusion = np.zeros((CLASSES, CLASSES), dtype=int)
    np.add.at(confusion, (labels, logits.argmax(1)), 1)
    assert found["confusion"] == confusion.tolist()


def test_an_evaluation_without_examples_is_an_error() -> None:
    """An empty split is named instead of dividing by zero."""
    block = make_block(OptimizationConfig())
    block.evaluate(Message(Kind.EVALUATE, 1, text="validation"))
    with pytest.raises(RuntimeError, match="evaluation of 'validation' had no examples"):
        block.evaluate(Message(Kind.EVALUATED, 1, text="validation"))


def test_an_evaluation_computes_as_the_training_does() -> None:
    """With channels_last and bfloat16 samples are arranged and autocast as batches are."""
    config = OptimizationConfig(channels_last=True, precision="bfloat16")
    block = make_block(config, index=1, blocks=2)
    h, _, own = block.evaluate(Message(Kind.SAMPLE, 1, batch(1).tensors)).tensors
    assert h.dtype == torch.bfloat16
    assert h.is_contiguous(memory_format=torch.channels_last)
    assert own.dtype == torch.float32
    assert torch.allclose(own.exp().sum(1), torch.ones(8), atol=1e-5)
    # A body that leaves the layout as it comes.
    head = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, CLASSES))
    block = make_block(config, index=1, blocks=2, parts=(nn.ReLU(), head))
    h = block.evaluate(Message(Kind.SAMPLE, 1, batch(1).tensors)).tensors[0]
    assert h.is_contiguous(memory_format=torch.channels_last)
