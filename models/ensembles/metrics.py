"""Accuracy, likelihood and calibration of an ensemble, from its members' logits.

An ensemble predicts the mean of its members' probabilities. Everything is computed in float64, and
the likelihood by a log-sum-exp: the mean of tiny probabilities keeps its logarithm.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "calibration_error",
    "ensemble_probabilities",
    "log_probabilities",
    "negative_log_likelihood",
    "scores",
    "top1",
]

BINS = 15


def log_probabilities(logits: Tensor) -> Tensor:
    """Return the logarithm of the members' mean probabilities, (B, classes) in float64.

    Args:
        logits: (members, B, classes).

    Raises:
        ValueError: The shape is another, or there is no member.
    """
    if logits.dim() != 3 or not len(logits):
        raise ValueError(
            f"logits of an ensemble are (members, examples, classes), not {tuple(logits.shape)}"
        )
    return logits.double().log_softmax(-1).logsumexp(0) - math.log(len(logits))


def ensemble_probabilities(logits: Tensor) -> Tensor:
    """Return the members' mean probabilities, (B, classes) in float64, of (members, B, classes)."""
    return log_probabilities(logits).exp()


def top1(log_probability: Tensor, labels: Tensor) -> float:
    """Return the share of examples whose likeliest class is their label; of ties, the first."""
    _check(log_probability, labels)
    return float((log_probability.argmax(-1) == labels).double().mean())


def negative_log_likelihood(log_probability: Tensor, labels: Tensor) -> float:
    """Return the mean of -log of the probability (B, classes) that each label (B,) got."""
    _check(log_probability, labels)
    return float(-log_probability.gather(1, labels[:, None].long()).double().mean())


def calibration_error(probability: Tensor, labels: Tensor, *, bins: int = BINS) -> float:
    """Return how far confidence is from accuracy: the expected calibration error.

    The mean over equal bins (a, b] of the confidence in the likeliest class, weighted by their
    numbers of examples, of |accuracy - mean confidence| (Guo et al., 2017).

    Args:
        probability: (B, classes).
        labels: (B,).
        bins: How many there are of confidence between 0 and 1.
    """
    _check(probability, labels)
    confidence, predicted = probability.double().max(-1)
    correct = (predicted == labels).double()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=confidence.device)
    place = torch.bucketize(confidence, edges[1:-1])
    gaps = torch.zeros(bins, dtype=torch.float64, device=confidence.device)
    gaps.index_add_(0, place, correct - confidence)
    return float(gaps.abs().sum() / len(labels))


def scores(logits: Tensor, labels: Tensor, *, bins: int = BINS) -> dict[str, float]:
    """Return ``top1``, ``nll`` and ``ece`` of the ensemble of (members, B, classes)."""
    log_probability = log_probabilities(logits)
    return {
        "top1": top1(log_probability, labels),
        "nll": negative_log_likelihood(log_probability, labels),
        "ece": calibration_error(log_probability.exp(), labels, bins=bins),
    }


def _check(predicted: Tensor, labels: Tensor) -> None:
    if predicted.dim() != 2 or labels.shape != predicted.shape[:1] or not len(labels):
        raise ValueError(
            f"predictions {tuple(predicted.shape)} and labels {tuple(labels.shape)} do not belong "
            "together; give (examples, classes) and (examples,), of at least one example"
        )
