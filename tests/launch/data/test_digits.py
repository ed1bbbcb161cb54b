"""Tests of `blockstep.launch.data.digits`."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
import torch
from blockstep.launch.config import DataConfig
from blockstep.launch.data import MemoryData, load_data
from blockstep.launch.data.digits import LEVEL, digits
from blockstep.launch.data.part import MemoryPart, Parts
from sklearn.datasets import load_digits


def parts() -> tuple[MemoryPart, MemoryPart, MemoryPart]:
    """Train, validation and test."""
    read: Parts = digits(DataConfig())
    found = (read.train, read.validation, read.test)
    assert all(isinstance(part, MemoryPart) for part in found)
    return found  # pyright: ignore[reportReturnType]


def test_the_parts_have_their_published_sizes_and_all_classes():
    """1,257 / 180 / 360, every class within one example of its exact share."""
    labels = torch.cat([part.labels for part in parts()])
    assert [len(part) for part in parts()] == [1257, 180, 360]
    for part in parts():
        exact = labels.bincount() * len(part) / 1797
        assert (part.labels.bincount() - exact).abs().max() < 1.5


def test_the_parts_hold_every_image_once_and_divide_back():
    """No image is in two parts, and bytes divided by 15 are scikit-learn's levels 0..16."""
    everything = torch.cat([part.x for part in parts()])
    assert everything.shape == (1797, 1, 8, 8)
    assert everything.dtype == torch.uint8
    ours = Counter((image // LEVEL).numpy().tobytes() for image in everything.flatten(1))
    content = load_digits().data.astype(np.uint8)  # pyright: ignore[reportAttributeAccessIssue]
    assert ours == Counter(image.tobytes() for image in content)
    assert torch.equal(everything // LEVEL * LEVEL, everything)


def test_the_parts_never_change():
    """A fingerprint of the split, so that results stay comparable over versions."""
    labels = torch.cat([part.labels for part in parts()]).to(torch.uint8)
    digest = hashlib.sha256(labels.numpy().tobytes()).hexdigest()
    assert digest[:16] == "b7df8e0673412c98"


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_any_share_gives_the_own_validation_part(cpu: torch.device, share: float):
    """The seed of the run and the share change nothing about which examples are where."""
    data = load_data(DataConfig(validation=share), seed=5, device=cpu)
    assert isinstance(data, MemoryData)
    assert data.sizes == {"train": 1257, "validation": 180, "test": 360}
    labels = torch.cat([y for _, y in data.evaluation("validation", batch_size=50)])
    assert torch.equal(labels, parts()[1].labels)


def test_statistics_are_computed(cpu: torch.device):
    """Normalised training images have mean 0 and variance 1."""
    data = load_data(DataConfig(), seed=0, device=cpu)
    x = torch.cat([x for x, _ in data.evaluation("train", batch_size=500)])
    assert x.dtype == torch.float32
    assert x.double().mean().abs() < 1e-6
    assert abs(x.double().std(correction=0) - 1) < 1e-6
