"""Ensembles: what they do, from their members' logits and weights, and peers of SuperWeights.

It knows no process.
"""

from .anytime import Subset, best_by_cost, subsets
from .batch_ensemble import BatchEnsemble
from .deep import DeepEnsemble
from .diversity import disagreement, diversity
from .interpolation import interpolate, path_scores
from .metrics import (
    calibration_error,
    ensemble_probabilities,
    log_probabilities,
    negative_log_likelihood,
    scores,
    top1,
)
from .mimo import MIMO, mimo_batch
from .shapeshifter import ShapeShifters, shapeshifter
from .slimmable import Slimmable, Universal

__all__ = [
    "MIMO",
    "BatchEnsemble",
    "DeepEnsemble",
    "ShapeShifters",
    "Slimmable",
    "Subset",
    "Universal",
    "best_by_cost",
    "calibration_error",
    "disagreement",
    "diversity",
    "ensemble_probabilities",
    "interpolate",
    "log_probabilities",
    "mimo_batch",
    "negative_log_likelihood",
    "path_scores",
    "scores",
    "shapeshifter",
    "subsets",
    "top1",
]
