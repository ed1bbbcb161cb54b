"""Networks whose weights are divided into partitions, to learn hyperparameters in one run.

Mlodozeniec, Reisser and Louizos, "Hyperparameter Optimization through Neural Network
Partitioning", ICLR 2023.
"""

from .kinds import KINDS, Rules
from .module import PartitionedModule, partition
from .shares import MAX_PARTITIONS, check_proportions, exact_sizes

__all__ = [
    "KINDS",
    "MAX_PARTITIONS",
    "PartitionedModule",
    "Rules",
    "check_proportions",
    "exact_sizes",
    "partition",
]
