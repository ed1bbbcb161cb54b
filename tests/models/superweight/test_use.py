"""Which weights take part."""

from __future__ import annotations

import torch
from blockstep.models.superweight import uses_of
from torch import nn

from tests.models.superweight.parts import Small, meta_uses


def test_every_convolution_of_a_wide_resnet() -> None:
    """The stem and the shortcuts too, in the network's order, by kernel size."""
    uses = meta_uses("wrn28-10")
    assert len(uses) == 28
    assert [use.family for use in uses].count("1x1") == 3
    assert (uses[0].name, uses[0].shape) == ("conv1.weight", (16, 3, 3, 3))
    assert sum(use.numel for use in uses) == 36_454_832


def test_what_does_not_learn_or_is_a_head_keeps_its_weight() -> None:
    """A tied weight is one use; frozen weights are none; the last linear layer is the head."""
    assert [use.name for use in uses_of([Small()])] == ["first.weight", "again.weight"]
    linear = uses_of([Small(), Small()], linear=True)
    names = ["first.weight", "again.weight", "hidden.weight"]
    assert [use.key for use in linear] == [(m, name) for m in (0, 1) for name in names]
    assert linear[2].family == "linear"
    assert linear[2].shape == (6, 4)


def test_families() -> None:
    """Depthwise and grouped kernels, and those of other dimensions, are apart."""
    module = nn.Sequential(
        nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 8, 3),
        nn.Conv1d(8, 8, 3), nn.Conv2d(8, 8, (1, 3)),
    )  # fmt: skip
    families = [use.family for use in uses_of([module])]
    assert families == ["3x3 depthwise", "3x3 grouped", "3x3", "3", "1x3"]
    assert [use.shape[1] for use in uses_of([module])][:3] == [1, 4, 8]


def test_a_module_that_is_one_convolution() -> None:
    """Its weight has the name that its state_dict gives it."""
    conv = nn.Conv2d(3, 4, 1)
    assert [use.name for use in uses_of([conv])] == ["weight"]
    assert "weight" in conv.state_dict()
    assert isinstance(conv.weight, torch.nn.Parameter)
