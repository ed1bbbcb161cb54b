"""What is learned about a network: where to cut it and which heads to use."""

from .balance import balanced_cuts, best_cuts, predicted
from .decoupling import Decoupling, DecouplingError
from .measurement import profile_network
from .profile import Profile, ProfileError
from .published import PUBLISHED, published
from .split import random_split, uniform

__all__ = [
    "PUBLISHED",
    "Decoupling",
    "DecouplingError",
    "Profile",
    "ProfileError",
    "balanced_cuts",
    "best_cuts",
    "predicted",
    "profile_network",
    "published",
    "random_split",
    "uniform",
]
