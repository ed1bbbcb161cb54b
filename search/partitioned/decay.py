"""The weight decay of each partition.

Earlier partitions learn from fewer examples, so a prior on the weights counts for more there. With
N_k examples in chunks 1..k, N in all, and the mean loss of an example, it is

    reciprocal   decay * N / N_k            what a Gaussian prior gives (appendix B, I.1)
    sqrt         decay * sqrt(N / N_k)      what the CIFAR experiments state (appendix I.4)
    none         decay
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["SCALINGS", "scaled_decays"]

SCALINGS = ("reciprocal", "sqrt", "none")


def scaled_decays(decay: float, sizes: Sequence[int], scaling: str) -> list[float]:
    """Return the weight decay of each partition.

    Args:
        decay: Of the last partition, which learns from all examples.
        sizes: Examples in each chunk.
        scaling: One of ``SCALINGS``.

    Raises:
        ValueError: The scaling is unknown.
    """
    if scaling not in SCALINGS:
        raise ValueError(f"the scaling of weight decay is {scaling!r}; valid are {SCALINGS}")
    power = {"reciprocal": 1.0, "sqrt": 0.5, "none": 0.0}[scaling]
    total = sum(sizes)
    return [decay * math.pow(total / sum(sizes[:k]), power) for k in range(1, len(sizes) + 1)]
