"""Tests of `blockstep.launch.data.registry`, and of data sets by ``data._target_``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from blockstep.launch.config import DataConfig
from blockstep.launch.data import DATA_SETS, DataError, load_data

CPU = torch.device("cpu")

SOURCE = '''
import torch

class Squares:
    """Takes what it is given."""

    def __init__(self, count, root=None, seed=0):
        self.asked = (count, root, seed)
        x = torch.arange(float(count))[:, None]
        self.train = (x + seed, torch.arange(count) % 2)
        self.test = (x, torch.arange(count) % 2)

def plain(count=10):
    return {"train": (torch.zeros(count, 1), torch.arange(count) % 2),
            "test": (torch.zeros(4, 1), torch.arange(4) % 2)}
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of a user's own."""
    (tmp_path / "users_own_data.py").write_text(SOURCE)
    (tmp_path / "users_broken_data.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "users_own_data", raising=False)
    return "users_own_data"


def test_unknown_names_are_refused_with_a_suggestion():
    """The list of what there is, and the closest."""
    with pytest.raises(DataError, match=r"data=cifar11: .*did you mean cifar10") as caught:
        load_data(DataConfig(name="cifar11"), seed=0, device=CPU)
    assert all(name in str(caught.value) for name in DATA_SETS)


def test_a_class_gets_its_keys_and_root_and_seed(package: str):
    """What its signature has; the name of the class is that of the data set."""
    target = {"_target_": f"{package}.Squares", "count": 8}
    config = DataConfig(target=target, root="somewhere", validation=0.0)
    data = load_data(config, seed=5, device=CPU)
    assert data.name == "Squares"
    assert data.sizes == {"train": 8, "validation": 0, "test": 8}
    x, _ = next(data.evaluation("train", batch_size=8))
    assert x[0].item() == 5  # the seed of the run
    target["seed"] = 3
    data = load_data(config, seed=5, device=CPU)
    assert next(data.evaluation("train", batch_size=8))[0][0].item() == 3


def test_a_function_without_root_and_seed_is_called_without(package: str):
    """Only what it takes is given."""
    target = {"_target_": f"{package}.plain", "count": 6}
    data = load_data(DataConfig(target=target, validation=0.5), seed=0, device=CPU)
    assert data.sizes == {"train": 3, "validation": 3, "test": 4}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"_target_": "users_own_data.plain", "size": 1}, r"unexpected.*'size'; .*plain\(count=10"),
        ({"_target_": "users_own_data.Squares"}, "missing a required argument: 'count'"),
        ({"_target_": "users_own_data.Cubes"}, "it cannot be imported"),
        ({"_target_": "users_broken_data.Any"}, "it cannot be imported"),
        ({"_target_": "nowhere_at_all.Any"}, "it cannot be imported"),
    ],
)
def test_targets_that_cannot_be_called_are_explained(
    package: str, target: dict[str, object], message: str
):
    """The name, what is wrong, and what it takes."""
    with pytest.raises(DataError, match=message):
        load_data(DataConfig(target=target), seed=0, device=CPU)
