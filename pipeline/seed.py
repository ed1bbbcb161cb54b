"""Random numbers that depend on what they are for, never on who draws first.

Every random decision of a run (order of the data, augmentation, dropout, initial weights) is
seeded with ``derive(seed, ...)`` of the run's seed and its purpose. Two processes, a resumed run
and the sequential run therefore draw the same numbers, and no generator state is ever saved.
"""

from __future__ import annotations

import hashlib
import json
import operator

import torch

__all__ = ["derive", "generator", "set_seed"]


def derive(seed: int, *parts: int | str) -> int:
    """Derive a seed from a run's seed and a purpose.

    Args:
        seed: The run's seed.
        parts: What the numbers are for, e.g. ``("step", 12, "stage", 2)``.

    Returns:
        A non-negative 63-bit integer, the same in every process and Python version.
    """
    plain = [part if isinstance(part, str) else operator.index(part) for part in (seed, *parts)]
    digest = hashlib.blake2b(json.dumps(plain).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, *parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Make a torch generator seeded with ``derive(seed, *parts)``.

    Args:
        seed: The run's seed.
        parts: What the numbers are for.
        device: Where the generator draws. Devices differ in the numbers they draw.
    """
    return torch.Generator(device=device).manual_seed(derive(seed, *parts))


def set_seed(seed: int, device: torch.device) -> None:
    """Seed what dropout draws from on ``device``.

    ``torch.manual_seed`` would seed every other GPU too, and queue work for those that are idle.
    """
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    torch.default_generator.manual_seed(seed)
