"""Tests of `blockstep.launch.data.preparation` and of the statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from blockstep.launch.config import AugmentConfig
from blockstep.launch.data import DataError
from blockstep.launch.data.part import Statistics
from blockstep.launch.data.preparation import ImagePreparation, Normalization, Unprepared


def test_statistics_equal_numpy_s(cpu: torch.device):
    """Mean and standard deviation over all pixels of each channel, in [0, 1]."""
    x = torch.randint(0, 256, (20, 3, 5, 4), dtype=torch.uint8)
    found = Statistics.of(x)
    pixels = x.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(found.mean, pixels.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(found.std, pixels.std((0, 2, 3)), rtol=1e-12)


def test_normalization_is_its_formula(cpu: torch.device):
    """(x / 255 - mean) / std in each channel, as float32."""
    x = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 2, 16, 16)
    found = Normalization(Statistics((0.5, 0.1), (0.25, 2.0)), device=cpu)(x)
    assert found.dtype == torch.float32
    expected = np.arange(256).reshape(16, 16) / 255
    np.testing.assert_allclose(found[0, 0].numpy(), (expected - 0.5) / 0.25, atol=1e-6)
    np.testing.assert_allclose(found[0, 1].numpy(), (expected - 0.1) / 2.0, atol=1e-6)


def test_without_statistics_the_range_is_0_to_1(cpu: torch.device):
    """Black is 0 and white is 1."""
    x = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 1, 3)
    assert Normalization(None, device=cpu)(x).flatten().tolist() == pytest.approx([0, 0.2, 1])


def test_a_constant_channel_stays_finite(cpu: torch.device):
    """A channel without variance is shifted to 0."""
    x = torch.full((2, 1, 3, 3), 77, dtype=torch.uint8)
    assert not Normalization(Statistics.of(x), device=cpu)(x).abs().max() > 1e-5


def test_only_training_is_augmented_and_cutout_leaves_the_mean(cpu: torch.device):
    """Evaluation has no random changes; a square that covers all leaves about 0."""
    statistics = Statistics((0.3,), (0.2,))
    prepared = ImagePreparation(
        AugmentConfig(cutout=40),
        statistics=statistics,
        normalize=True,
        channels=1,
        seed=0,
        device=cpu,
    )
    x = torch.full((2, 1, 8, 8), 200, dtype=torch.uint8)
    expected = (200 / 255 - 0.3) / 0.2
    assert prepared.evaluate(x).flatten().tolist() == pytest.approx([expected] * 128, rel=1e-5)
    assert prepared.train(x, 1).abs().max() < 0.51 / 255 / 0.2


def test_other_inputs_are_passed_through_and_not_augmented():
    """The same tensor; an augmentation that would do nothing is refused with its key."""
    x = torch.randn(3, 4)
    prepared = Unprepared(AugmentConfig())
    assert prepared.train(x, 1) is x
    assert prepared.evaluate(x) is x
    with pytest.raises(DataError, match=r"data.augment.flip=True: only images of bytes"):
        Unprepared(AugmentConfig(flip=True))
