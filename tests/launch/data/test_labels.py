"""Tests of `blockstep.launch.data.labels`."""

from __future__ import annotations

import pytest
import torch
from blockstep.launch.data import DataError
from blockstep.launch.data.labels import check_labels


def test_labels_inside_the_classes_pass():
    """The bounds themselves are allowed, and no labels at all."""
    check_labels(torch.tensor([0, 9]), 10, source="file")
    check_labels(torch.tensor([], dtype=torch.int64), 10, source="file")


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_outside_is_named(label: int):
    """The message holds the source, the index, the value and the classes."""
    message = rf"file: the label of example 2 .* is {label}, but the 10 classes are 0..9"
    with pytest.raises(DataError, match=message):
        check_labels(torch.tensor([0, 9, label, label]), 10, source="file")
