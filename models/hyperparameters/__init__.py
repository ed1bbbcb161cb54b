"""Hyperparameters that the forward pass uses, and that gradients can therefore learn."""

from .affine import Affine, AffineGenerators, AffineRanges, warp
from .augerino import Augerino
from .averaging import Averaged
from .concrete import concrete
from .dropout import ConcreteDropout, learn_dropout
from .found import AUGMENTATIONS, KINDS, Psi, attach, found, put
from .hyperparameter import Hyperparameter
from .mask import ConcreteMask

__all__ = [
    "AUGMENTATIONS",
    "KINDS",
    "Affine",
    "AffineGenerators",
    "AffineRanges",
    "Augerino",
    "Averaged",
    "ConcreteDropout",
    "ConcreteMask",
    "Hyperparameter",
    "Psi",
    "attach",
    "concrete",
    "found",
    "learn_dropout",
    "put",
    "warp",
]
