"""Evaluation mode for a moment."""

from __future__ import annotations

import pytest
from blockstep.models.mode import evaluating
from torch import nn


def test_every_part_gets_its_own_mode_back() -> None:
    """Parts in different modes all evaluate inside, and are as before outside."""
    first = nn.Sequential(nn.BatchNorm1d(2).eval(), nn.Dropout())
    second = nn.Dropout()
    with evaluating(first, second):
        assert not any(module.training for module in (*first.modules(), second))
    assert [module.training for module in first.modules()] == [True, False, True]
    assert second.training


def test_modes_come_back_after_an_error() -> None:
    """Also when what was tried fails."""
    module = nn.Dropout()
    with pytest.raises(RuntimeError), evaluating(module):
        raise RuntimeError
    assert module.training
