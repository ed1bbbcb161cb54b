"""Hyperparameters learned from examples that a part of the network has not seen.

Mlodozeniec, Reisser and Louizos, "Hyperparameter Optimization through Neural Network
Partitioning", ICLR 2023.
"""

from .chunks import Chunks, Draw
from .decay import SCALINGS, scaled_decays
from .examples import Examples, TensorExamples
from .learner import HyperLearner, PartitionLearner
from .objective import chunk_likelihood, chunk_likelihoods, log_likelihood
from .parallel import Ages, Ends, Part, PartitionRank, Whole
from .training import DivergedError, Measured, PartitionedTraining, Settings, StepLoss

__all__ = [
    "SCALINGS",
    "Ages",
    "Chunks",
    "DivergedError",
    "Draw",
    "Ends",
    "Examples",
    "HyperLearner",
    "Measured",
    "Part",
    "PartitionLearner",
    "PartitionRank",
    "PartitionedTraining",
    "Settings",
    "StepLoss",
    "TensorExamples",
    "Whole",
    "chunk_likelihood",
    "chunk_likelihoods",
    "log_likelihood",
    "scaled_decays",
]
