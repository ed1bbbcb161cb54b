"""Tests of `blockstep/launch/conf/data`."""

from __future__ import annotations

import re
from dataclasses import asdict, fields, is_dataclass
from importlib.resources import files
from typing import Any

import pytest
import yaml
from blockstep.launch.config import DataConfig, OptimizationConfig, TrainConfig
from blockstep.launch.data import DATA_SETS

FOLDER = files("blockstep.launch.conf") / "data"


def text(name: str) -> str:
    """One file."""
    return (FOLDER / f"{name}.yaml").read_text()


def unknown(given: dict[str, Any], config: Any) -> list[str]:
    """Keys that a dataclass lacks or whose values have another type."""
    wrong = []
    for key, value in given.items():
        field = getattr(config, key, None)
        if not any(field.name == key for field in fields(config)):
            wrong.append(key)
        elif is_dataclass(field):
            wrong += unknown(value, field)
        elif field is not None and type(value) is not type(field):
            wrong.append(f"{key}: {type(value).__name__}")
    return wrong


def test_every_data_set_has_its_file():
    """And no other file is there."""
    found = {file.name.removesuffix(".yaml") for file in FOLDER.iterdir()}
    assert found == set(DATA_SETS)


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_key_exists_with_its_type(name: str):
    """Only data and train, only keys of their dataclasses, values of the same type."""
    content = yaml.safe_load(text(name))
    assert set(content) == {"data", "train"}
    assert content["data"]["name"] == name
    assert unknown(content["data"], TrainConfig().data) == []
    assert unknown(content["train"], TrainConfig().train) == []
    assert text(name).startswith("# @package _global_\n")


def test_the_default_data_set_lists_every_key_with_a_comment():
    """digits.yaml is the reference of the data.* keys: all of them, their defaults, explained."""
    assert yaml.safe_load(text("digits"))["data"] == asdict(DataConfig())
    lines = text("digits").partition("train:")[0].splitlines()
    keys = [line for line in lines if re.match(r"\s+\w+: \S", line) and "augment:" not in line]
    assert len(keys) == 17
    assert all(re.search(r"  # \S", line) and len(line) <= 100 for line in keys)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cifar10", (64_000, 128, 0.1, 0.001, 1e-4, 0.1)),
        ("cifar100", (64_000, 128, 0.1, 0.001, 1e-4, 0.1)),
        ("tiny_imagenet", (30_000, 256, 0.1, 0.001, 1e-4, 0.1)),
        ("imagenet", (600_000, 256, 0.1, 1e-4, 5e-5, 0.1)),
    ],
)
def test_the_recipes_are_the_published_ones(name: str, expected: tuple[float, ...]):
    """SEDONA, appendix E: steps, batch, lr, its end, weight decay, label smoothing."""
    recipe = OptimizationConfig(**yaml.safe_load(text(name))["train"])
    assert expected == (
        recipe.steps,
        recipe.batch_size,
        recipe.lr,
        recipe.lr_min,
        recipe.weight_decay,
        recipe.label_smoothing,
    )
    assert (recipe.optimizer, recipe.momentum, recipe.schedule) == ("sgd", 0.9, "cosine")
