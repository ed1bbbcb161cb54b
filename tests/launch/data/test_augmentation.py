"""Tests of `blockstep.launch.data.augmentation`."""

from __future__ import annotations

import pytest
import torch
from blockstep.launch.config import AugmentConfig
from blockstep.launch.data import DataError
from blockstep.launch.data.augmentation import Augmentation
from torch import Tensor

ALL = AugmentConfig(crop=2, resized_crop=True, flip=True, rotation=15.0, cutout=3)


def images() -> Tensor:
    """Noise (16, 3, 12, 12)."""
    return torch.randint(0, 256, (16, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator())


def augmentation(config: AugmentConfig = ALL, *, seed: int = 0) -> Augmentation:
    """With grey for cutout."""
    return Augmentation(config, fill=torch.full((3,), 99, dtype=torch.uint8), seed=seed)


def test_nothing_is_changed_by_default():
    """All off: the same bytes."""
    assert torch.equal(augmentation(AugmentConfig())(images(), 1), images())


def test_a_step_is_a_function_of_seed_and_step():
    """Whatever was drawn before; another step or seed changes the images otherwise."""
    torch.manual_seed(1)
    fifth = augmentation()(images(), 5)
    changes = augmentation()
    for step in (1, 2, 9):
        changes(images(), step)
    torch.manual_seed(2)
    assert torch.equal(changes(images(), 5), fifth)
    assert not torch.equal(changes(images(), 6), fifth)
    assert not torch.equal(augmentation(seed=1)(images(), 5), fifth)


def test_torch_s_own_generator_is_not_used():
    """Dropout draws the same numbers with augmentation and without."""
    state = torch.get_rng_state()
    augmentation()(images(), 1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig(crop=2),
        AugmentConfig(resized_crop=True),
        AugmentConfig(flip=True),
        AugmentConfig(rotation=15.0),
        AugmentConfig(cutout=3),
    ],
)
def test_each_key_switches_on_one_change(config: AugmentConfig):
    """It changes images, keeps their shape and type, and images differ in how."""
    same = images()[:1].expand(16, 3, 12, 12)
    changed = augmentation(config)(same, 1)
    assert len(augmentation(config).changes) == 1
    assert changed.dtype == torch.uint8
    assert changed.shape == same.shape
    assert len(changed.flatten(1).unique(dim=0)) > 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (AugmentConfig(crop=-1), "data.augment.crop=-1"),
        (AugmentConfig(cutout=-2), "data.augment.cutout=-2"),
        (AugmentConfig(rotation=200.0), r"data.augment.rotation=200.0: .* from 0 \(off\) to 180"),
    ],
)
def test_impossible_values_are_refused(config: AugmentConfig, message: str):
    """With the key, the value and the range."""
    with pytest.raises(DataError, match=message):
        augmentation(config)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_makes_the_same_changes():
    """Moved bytes are equal; interpolated ones differ by at most one."""
    moved = AugmentConfig(crop=2, flip=True, cutout=3)
    assert torch.equal(
        augmentation(moved)(images().cuda(), 3).cpu(), augmentation(moved)(images(), 3)
    )
    on_gpu = augmentation()(images().cuda(), 3).cpu().int()
    assert (on_gpu - augmentation()(images(), 3).int()).abs().max() <= 1
