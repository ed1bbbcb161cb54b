"""Tests of `blockstep.launch.data.few_classes`, in memory and streamed."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from blockstep.launch.config import AugmentConfig, DataConfig
from blockstep.launch.data import Data, DataError, data_from, load_data
from blockstep.launch.data.few_classes import FewClasses, Subset
from blockstep.launch.data.order import Order
from torch import Tensor
from torch.utils.data import Dataset

CPU = torch.device("cpu")
LABELS = torch.tensor([0] * 6 + [1] * 8 + [2] * 10 + [4] * 12)[
    torch.randperm(36, generator=torch.Generator().manual_seed(0))
]
"""Four classes of 6, 8, 10 and 12 examples; nothing is of class 3."""


def few(
    classes: int, *, until: int | None = None, batch_size: int = 5, seed: int = 0
) -> FewClasses:
    """Batches of the labels above."""
    order = Order(len(LABELS), batch_size=batch_size, seed=seed)
    subset = Subset(classes, until)
    return FewClasses(order, LABELS, subset=subset, batch_size=batch_size, seed=seed)


class Images(Dataset):
    """60 images of six classes, each image full of its number."""

    def __init__(self, *, told: bool = True) -> None:
        self.classes = 6
        if told:
            self.targets = [index % 6 for index in range(60)]

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.full((1, 8, 8), index, dtype=torch.uint8), index % 6


def streamed(config: DataConfig, *, seed: int = 0, told: bool = True) -> Data:
    """A data set that is read item by item, in this process."""
    config.workers, config.validation = 0, 0.0
    parts = SimpleNamespace(train=Images(told=told), test=Images())
    return data_from(parts, config, seed=seed, device=CPU, name="images")


def held(config: DataConfig, *, seed: int = 0) -> Data:
    """A data set in memory."""
    return load_data(config, seed=seed, device=CPU)


def same(ours: list[tuple[Tensor, Tensor]], theirs: list[tuple[Tensor, Tensor]]) -> bool:
    """Whether all batches are equal bit for bit."""
    pairs = zip(ours, theirs, strict=True)
    return all(torch.equal(x, v) and torch.equal(y, w) for (x, y), (v, w) in pairs)


# --- The batches of a step ----------------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_a_batch_has_different_examples_of_few_classes(classes: int):
    """At most so many classes, the size of a batch, and no example twice."""
    batches = few(classes)
    seen = set()
    for step in range(1, 200):
        _, examples = batches.at(step)
        assert len(set(examples.tolist())) == 5
        found = LABELS[examples].unique().tolist()
        assert len(found) <= classes
        seen.add(tuple(found))
    assert {label for labels in seen for label in labels} == {0, 1, 2, 4}
    assert max(map(len, seen)) == classes


def test_every_example_of_the_drawn_classes_is_equally_likely():
    """And every pair of classes, however many examples it has: within five standard deviations.

    A batch of 14 always shows both classes, since no class has so many examples.
    """
    steps, batch_size = 3000, 14
    batches = few(2, batch_size=batch_size)
    pairs: Counter[tuple[int, ...]] = Counter()
    counts: dict[tuple[int, ...], Counter[int]] = {}
    for step in range(1, steps + 1):
        examples = batches.at(step)[1]
        pair = tuple(LABELS[examples].unique().tolist())
        pairs[pair] += 1
        counts.setdefault(pair, Counter()).update(examples.tolist())
    assert sorted(pairs) == [(0, 1), (0, 2), (0, 4), (1, 2), (1, 4), (2, 4)]
    for pair, times in pairs.items():
        assert abs(times - steps / 6) < 5 * (steps * 5 / 36) ** 0.5
        pool = [place for place, label in enumerate(LABELS.tolist()) if label in pair]
        share = batch_size / len(pool)
        deviation = (times * share * (1 - share)) ** 0.5
        assert all(abs(counts[pair][one] - times * share) <= 5 * deviation for one in pool)


def test_a_step_does_not_depend_on_the_steps_before():
    """Any step asked first, or in any order, has the same examples; another seed has others."""
    expected = {step: few(2).at(step)[1].tolist() for step in range(1, 30)}
    backward = few(2)
    assert all(backward.at(step)[1].tolist() == expected[step] for step in reversed(range(1, 30)))
    assert few(2, seed=1).at(1)[1].tolist() != expected[1]
    assert len({tuple(examples) for examples in expected.values()}) == 29


def test_torch_s_own_generator_has_no_part_in_it():
    """Neither read nor moved."""
    state = torch.get_rng_state()
    first = few(2).at(3)[1]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert torch.equal(few(2).at(3)[1], first)
    torch.set_rng_state(state)


def test_after_the_last_step_batches_are_the_usual_ones():
    """Those that the step would have had anyway, epoch included; before, steps are epochs."""
    batches, usual = few(2, until=10), Order(36, batch_size=5, seed=0)
    assert [batches.at(step)[0] for step in (1, 10)] == [-1, -10]
    for step in (11, 12, 30):
        epoch, examples = batches.at(step)
        assert (epoch, examples.tolist()) == (usual.at(step)[0], usual.at(step)[1].tolist())


def test_what_cannot_be_drawn_is_refused():
    """More classes than have examples, and batches that the smallest classes cannot fill."""
    with pytest.raises(DataError, match=r"per_batch=5: .* examples of 4 classes; .* 1 to 4"):
        few(5)
    few(2, batch_size=14)
    with pytest.raises(DataError, match=r"smallest 2 classes have 14 .* train.batch_size=15"):
        few(2, batch_size=15)


# --- The data of a run --------------------------------------------------------------------------

MAKE = [held, streamed]


@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize("start", [1, 5, 6, 7, 12])
def test_a_resumed_iteration_is_the_tail_of_the_whole(make: Any, start: int):
    """Bit for bit with augmentation, before, at and after the last step with few classes."""
    config = DataConfig(
        classes_per_batch=3, classes_until=6, augment=AugmentConfig(crop=1, flip=True)
    )
    whole = list(islice(make(config).train(batch_size=10), 16))
    tail = list(islice(make(config).train(batch_size=10, start=start), 16 - start))
    assert same(whole[start:], tail)
    assert all(len(y.unique()) <= 3 for _, y in whole[:6])
    assert max(len(y.unique()) for _, y in whole[6:]) > 3
    usual = list(islice(make(DataConfig(augment=config.augment)).train(batch_size=10), 16))
    assert same(whole[6:], usual[6:])
    assert not any(same([ours], [theirs]) for ours, theirs in zip(whole[:6], usual, strict=False))


@pytest.mark.parametrize("make", MAKE)
def test_only_training_has_few_classes(make: Any):
    """Evaluations and draws are as without; the notes say it."""
    few, usual = make(DataConfig(classes_per_batch=2)), make(DataConfig())
    assert same(*(list(data.evaluation("test", batch_size=50)) for data in (few, usual)))
    assert same(*(list(islice(data.draw("train", batch_size=9), 3)) for data in (few, usual)))
    assert few.notes == ("training batches hold examples of at most 2 classes",)
    until = make(DataConfig(classes_per_batch=2, classes_until=9))
    assert until.notes == ("training batches hold examples of at most 2 classes until step 9",)


@pytest.mark.parametrize("make", MAKE)
def test_it_is_refused_before_the_first_batch(make: Any):
    """As soon as training batches are asked for."""
    with pytest.raises(DataError, match="give a number from 1 to"):
        make(DataConfig(classes_per_batch=11)).train(batch_size=4)


def test_labels_that_are_not_known_beforehand_are_refused():
    """A Dataset without targets, with the way out."""
    data = streamed(DataConfig(classes_per_batch=2), told=False)
    with pytest.raises(DataError, match=r"classes_per_batch=2: images tells .*targets"):
        data.train(batch_size=4)
