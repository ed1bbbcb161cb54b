"""Tests of `blockstep.launch.data.split`."""

from __future__ import annotations

import pytest
import torch
from blockstep.launch.config import DataConfig
from blockstep.launch.data import DataError
from blockstep.launch.data.part import MemoryPart, Parts
from blockstep.launch.data.split import divide, first, hold_out, quotas
from hypothesis import given
from hypothesis import strategies as st

LABELS = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)


def parts(*, validation: MemoryPart | None = None) -> Parts:
    """100 examples that are their own index."""
    train = MemoryPart(torch.arange(100)[:, None], LABELS)
    test = MemoryPart(torch.arange(5)[:, None], torch.zeros(5, dtype=torch.int64))
    return Parts("numbers", classes=3, train=train, test=test, validation=validation)


def chosen(divided: dict, split: str) -> list[int]:
    """The examples of a part."""
    return divided[split].x.flatten().tolist()


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any), st.floats(0, 1))
def test_quotas_keep_every_share(sizes: list[int], share: float):
    """They sum up exactly, never exceed a class, and are within one of the exact share."""
    count = int(share * sum(sizes))
    found = quotas(torch.tensor(sizes), count).tolist()
    assert sum(found) == count
    for size, quota in zip(sizes, found, strict=True):
        assert 0 <= quota <= size
        assert abs(quota - size * count / sum(sizes)) < 1


def test_held_out_examples_are_stratified_and_disjoint():
    """10 of 100 in the proportions 6 : 3 : 1, and nothing is in both parts."""
    kept, held = hold_out(LABELS, 10)
    assert LABELS[held].bincount().tolist() == [6, 3, 1]
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(100))
    assert kept.tolist() == sorted(kept.tolist())


def test_what_is_held_out_depends_on_its_seed_alone():
    """The same seed, the same examples, whatever torch has drawn before; another seed, others."""
    torch.manual_seed(1)
    once = hold_out(LABELS, 30)[1]
    torch.manual_seed(2)
    assert torch.equal(once, hold_out(LABELS, 30)[1])
    assert not torch.equal(once, hold_out(LABELS, 30, seed=1)[1])


def test_the_first_examples_of_each_class_are_taken():
    """A limit of 10 takes the first 6, 3 and 1."""
    assert first(LABELS, 10).tolist() == [0, 1, 2, 3, 4, 5, 60, 61, 62, 90]


def test_a_share_is_held_out_of_the_training_part():
    """20 % of 100 for validation; a smaller training part does not change them."""
    divided = divide(parts(), DataConfig(validation=0.2))
    assert (len(divided["train"]), len(divided["validation"])) == (80, 20)
    limited = divide(parts(), DataConfig(validation=0.2, train_examples=40))
    assert chosen(limited, "validation") == chosen(divided, "validation")
    assert set(chosen(limited, "train")) < set(chosen(divided, "train"))
    assert limited["train"].labels.bincount().tolist() == [24, 12, 4]


def test_no_share_means_no_validation():
    """All examples are trained on; a validation part of the data set's own stays unused."""
    own = MemoryPart(torch.tensor([[7]]), torch.tensor([0]))
    for data_set in (parts(), parts(validation=own)):
        divided = divide(data_set, DataConfig(validation=0.0))
        assert set(divided) == {"train", "test"}
        assert len(divided["train"]) == 100


def test_an_own_validation_part_is_used():
    """Nothing is taken from the training part then."""
    own = MemoryPart(torch.tensor([[7]]), torch.tensor([0]))
    divided = divide(parts(validation=own), DataConfig(validation=0.3))
    assert (len(divided["train"]), chosen(divided, "validation")) == (100, [7])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DataConfig(validation=0.001), "of the 100 training examples of numbers .* holds out 0"),
        (DataConfig(validation=0.999), "holds out 100"),
        (DataConfig(validation=1.5), r"data.validation=1.5: expected a share"),
        (DataConfig(train_examples=91), "data.train_examples=91: numbers has 90 training"),
        (DataConfig(train_examples=0), "data.train_examples=0"),
    ],
)
def test_impossible_sizes_are_refused(config: DataConfig, message: str):
    """With the key, the value and what there is."""
    with pytest.raises(DataError, match=message):
        divide(parts(), config)


def test_an_empty_part_is_refused():
    """A data set without test examples cannot be evaluated."""
    empty = MemoryPart(torch.empty(0, 1), torch.empty(0, dtype=torch.int64))
    data_set = Parts("numbers", classes=3, train=parts().train, test=empty)
    with pytest.raises(DataError, match="its test part has no examples"):
        divide(data_set, DataConfig())
