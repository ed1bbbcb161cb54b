"""Data sets whose images are turned once."""

from __future__ import annotations

import pytest
import torch
from blockstep.launch.config import DataConfig
from blockstep.launch.data import load_data
from blockstep.launch.data.error import DataError

CPU = torch.device("cpu")


def images(*, rotate: bool, seed: int = 0) -> torch.Tensor:
    """Return test images of digits, black as 0."""
    config = DataConfig(rotate=rotate, normalize=False, size=12)
    return next(load_data(config, seed=seed, device=CPU).evaluation("test", batch_size=200))[0]


def test_every_image_is_turned_once_whatever_the_seed():
    """The same in every run; about as much light, in other places, at angles of all kinds."""
    plain, turned = images(rotate=False), images(rotate=True)
    assert torch.equal(turned, images(rotate=True, seed=5))
    assert torch.equal(plain, images(rotate=False, seed=5))
    light, same = plain.sum((1, 2, 3)), (plain == turned).flatten(1).all(1)
    assert (turned.sum((1, 2, 3)) / light).mean() == pytest.approx(1, abs=0.1)
    assert same.double().mean() < 0.05
    # A turn by half is a mirror image both ways: some images are nearer to it than to themselves.
    upside_down = plain.flip(2, 3)
    nearer = (turned - upside_down).square().sum((1, 2, 3)) < (turned - plain).square().sum(
        (1, 2, 3)
    )
    assert 0.3 < nearer.double().mean() < 0.7


def test_vectors_cannot_be_turned():
    """They are refused with the key."""
    with pytest.raises(DataError, match="rotate=true: the examples"):
        load_data(DataConfig("input_selection", rotate=True), seed=0, device=CPU)
