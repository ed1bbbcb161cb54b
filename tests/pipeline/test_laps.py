"""Computing and waiting told apart."""

from __future__ import annotations

import time

import torch
from blockstep.pipeline.laps import Laps


def test_only_laps_count() -> None:
    """Their seconds are added up until they are taken."""
    laps = Laps(torch.device("cpu"))
    for _ in range(2):
        with laps.lap():
            time.sleep(0.02)
        time.sleep(0.05)
    assert 0.04 <= laps.take() < 0.09
    assert laps.take() == 0.0
