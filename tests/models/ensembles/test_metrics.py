"""Figures of an ensemble, by hand and against torchmetrics."""

from __future__ import annotations

import math

import pytest
import torch
from blockstep.models.ensembles import (
    calibration_error,
    disagreement,
    diversity,
    ensemble_probabilities,
    log_probabilities,
    negative_log_likelihood,
    scores,
    top1,
)
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError


def drawn(members: int = 3, examples: int = 400, classes: int = 7) -> tuple[Tensor, Tensor]:
    """Draw logits that know something of their labels."""
    torch.manual_seed(0)
    labels = torch.randint(0, classes, (examples,))
    logits = torch.randn(members, examples, classes) * 2
    logits[:, torch.arange(examples), labels] += 1.5
    return logits, labels


def test_against_torchmetrics() -> None:
    """Accuracy and the calibration error of 15 and of 4 bins; the likelihood by torch's loss."""
    logits, labels = drawn()
    probability = logits.double().softmax(-1).mean(0)
    assert torch.allclose(ensemble_probabilities(logits), probability)
    found = scores(logits, labels)
    accuracy = MulticlassAccuracy(7, average="micro")(probability, labels)
    assert found["top1"] == pytest.approx(accuracy.item())
    nll = torch.nn.functional.nll_loss(probability.log(), labels)
    assert found["nll"] == pytest.approx(nll.item())
    for bins in (15, 4):
        expected = MulticlassCalibrationError(7, n_bins=bins, norm="l1")(probability, labels)
        ours = calibration_error(probability, labels, bins=bins)
        assert ours == pytest.approx(expected.item(), abs=1e-6)
    assert found["ece"] == pytest.approx(calibration_error(probability, labels))


def test_a_likelihood_too_small_for_probabilities() -> None:
    """Two members that are sure of the wrong class: 2,000 nats, not infinity."""
    logits = torch.tensor([[[2000.0, 0.0]], [[2000.0, 0.0]]])
    log_probability = log_probabilities(logits)
    assert negative_log_likelihood(log_probability, torch.tensor([1])) == pytest.approx(2000)
    assert top1(log_probability, torch.tensor([1])) == 0.0


def test_calibration_by_hand() -> None:
    """Two examples at 0.8, one right, and one at 1.0, right: 2/3 of 0.3."""
    probability = torch.tensor([[0.8, 0.2], [0.8, 0.2], [1.0, 0.0]])
    assert calibration_error(probability, torch.tensor([0, 1, 0])) == pytest.approx(0.2, abs=1e-6)


def test_shapes_that_do_not_fit() -> None:
    """The error has both shapes."""
    logits, labels = drawn(examples=5)
    with pytest.raises(ValueError, match=r"\(members, examples, classes\), not \(5, 7\)"):
        log_probabilities(logits[0])
    with pytest.raises(ValueError, match=r"predictions \(5, 7\) and labels \(4,\)"):
        top1(logits[0], labels[:4])


def predictions(*rows: list[int]) -> Tensor:
    """Return logits of members that predict these classes surely."""
    return torch.nn.functional.one_hot(torch.tensor(rows), 3).double() * 20


def test_diversity_by_hand() -> None:
    """Errors 1/4, 2/4 and 1/4; disagreements 1/4, 2/4 and 3/4; the vote is never wrong here."""
    labels = torch.tensor([0, 1, 2, 0])
    logits = predictions([0, 1, 2, 1], [0, 1, 0, 1], [1, 1, 2, 0])
    apart = disagreement(logits)
    assert apart.tolist() == [[0, 0.25, 0.5], [0.25, 0, 0.75], [0.5, 0.75, 0]]
    found = diversity(logits, labels)
    assert found["disagreement"] == pytest.approx(0.5)
    ratios = [0.25 / 0.5, 0.5 / 0.25, 0.25 / 0.25, 0.75 / 0.25, 0.5 / 0.25, 0.75 / 0.5]
    assert found["by_member"] == pytest.approx(sum(ratios) / 6)
    assert found["by_ensemble"] == pytest.approx(0.5 / 0.25)
    assert math.isclose(1 - top1(log_probabilities(logits), labels), 0.25)


def test_diversity_without_a_denominator() -> None:
    """None, never infinity: one member, or no error."""
    labels = torch.tensor([0, 1])
    assert set(diversity(predictions([0, 1]), labels).values()) == {None}
    sure = diversity(predictions([0, 1], [0, 1]), labels)
    assert sure == {"disagreement": 0.0, "by_member": None, "by_ensemble": None}
