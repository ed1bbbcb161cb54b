"""The presets of `superweight`, against the settings of the supplement."""

from __future__ import annotations

import pytest
from blockstep.launch.compose import compose
from blockstep.launch.job import Task
from blockstep.launch.superweight.config import SuperWeightConfig
from blockstep.launch.superweight.members import (
    budget_of,
    build_ensemble,
    build_members,
    uses_of_members,
)
from blockstep.pipeline.optimization import Schedule

CIFAR, IMAGENET = 50_000, 1_281_167
"""Training images of CIFAR and of ImageNet."""


def rates(config: SuperWeightConfig, images: int, epochs: list[int]) -> list[float]:
    """Return the learning rate of the last step of some epochs, from 1."""
    schedule, steps = Schedule(config.train), images // config.train.batch_size
    return [schedule.lr(epoch * steps) for epoch in epochs]


LEARNED = {
    "cifar_multi_width": ["wrn28-7", "wrn28-4", "wrn28-3"],
    "cifar_multi_depth": ["wrn28-7", "wrn28-4", "wrn16-7", "wrn16-4"],
    "cifar_heterogeneous": ["wrn34-8", "wrn28-12", "wrn28-10", "wrn28-8"],
    "cifar_families": ["mobilenetv2", "wrn28-5"],
}


@pytest.mark.parametrize("name", LEARNED)
def test_heterogeneous_ensembles(name: str):
    """200 epochs with cutout, a fifth of 0.1 after 60, 120, 160; clusters by tau 0.1."""
    config = compose("superweight", [f"preset={name}"])
    train, settings = config.train, config.superweight
    assert config.members == LEARNED[name]
    assert train.steps == 200 * (CIFAR // train.batch_size)
    expected = [0.1, 0.02, 0.02, 0.004, 0.004, 0.0008]
    assert rates(config, CIFAR, [60, 61, 120, 121, 160, 161]) == pytest.approx(expected)
    assert (train.momentum, train.nesterov, train.weight_decay) == (0.9, True, 5e-4)
    assert (settings.sharing, settings.clusters) == ("learned", 4)
    assert (settings.tau, settings.beta) == (0.1, 0.9)
    assert settings.search_steps == 20 * (CIFAR // train.batch_size)
    assert settings.unshare_step == 10 * (CIFAR // train.batch_size)
    augment = config.data.augment
    assert (augment.crop, augment.flip, augment.cutout) == (4, True, 16)
    assert (config.data.name, config.data.validation) == ("cifar100", 0.0)


def test_the_accounts_of_the_supplement_s_four_members():
    """Templates fill 18M and no more; heads and norms are those of the four networks."""
    config = compose("superweight", ["preset=cifar_multi_depth"])
    sizes = {"train": CIFAR, "validation": 0, "test": 10_000}
    task = Task("cifar100", 100, (3, 32, 32), "float32", sizes)
    networks = build_members(config, task)
    uses = uses_of_members(config, networks)
    assert budget_of(config, uses) == 18_000_000
    accounts = build_ensemble(config, task, budget=18_000_000, phase="first").accounts()
    assert 0.97 * 18_000_000 <= accounts["templates"] <= 18_000_000
    assert (accounts["heads"], accounts["norms"]) == (141_200, 29_696)


def test_the_homogeneous_ensemble():
    """Nothing is learned, no cutout, and the last milestone is after 180 epochs."""
    config = compose("superweight", ["preset=cifar_homogeneous"])
    assert config.members == ["wrn28-10"] * 4
    assert (config.budget, config.superweight.sharing) == ("36.5M", "own")
    assert config.data.augment.cutout == 0
    expected = [0.1, 0.02, 0.004, 0.004, 0.0008]
    assert rates(config, CIFAR, [60, 61, 121, 180, 181]) == pytest.approx(expected)


def test_one_network_on_imagenet():
    """90 epochs, ten of warm-up to 1.6, a tenth after 30, 60, 80; norms do not decay."""
    config = compose("superweight", ["preset=imagenet_npas"])
    train = config.train
    assert (config.members, config.model["name"]) == ([], "wrn50-2")
    assert train.steps == 90 * (IMAGENET // 1024)
    expected = [0.16, 1.6, 1.6, 0.16, 0.016, 0.0016]
    assert rates(config, IMAGENET, [1, 10, 30, 31, 61, 81]) == pytest.approx(expected)
    assert (train.nesterov, train.weight_decay, train.label_smoothing) == (False, 1e-4, 0.1)
    assert not config.superweight.decay_norms
    assert config.data.augment.resized_crop


def test_the_defaults_are_the_supplement_s_stages():
    """A tenth of the training learns clusters, coefficients part after a twentieth."""
    config = compose("superweight", ["train.steps=1000"])
    settings = config.superweight
    assert (settings.search_steps, settings.unshare_step) == (100, 50)
    assert config.train.milestones == [300, 600, 800]
    kept = compose("superweight", ["train.steps=1000", "train.milestones=[7]"])
    assert kept.train.milestones == [7]
