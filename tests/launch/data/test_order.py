"""Tests of `blockstep.launch.data.order`."""

from __future__ import annotations

import pytest
import torch
from blockstep.launch.data import DataError
from blockstep.launch.data.order import Order


def test_an_epoch_has_every_example_at_most_once():
    """10 examples in batches of 3: 9 different ones, the last is left out."""
    order = Order(10, batch_size=3, seed=0)
    seen = [order.at(step) for step in (1, 2, 3)]
    assert [epoch for epoch, _ in seen] == [0, 0, 0]
    examples = torch.cat([indices for _, indices in seen]).tolist()
    assert len(set(examples)) == 9
    assert set(examples) < set(range(10))


def test_every_epoch_has_an_order_of_its_own():
    """Step 4 begins the second epoch, with another permutation."""
    order = Order(9, batch_size=3, seed=0)
    epochs = [torch.cat([order.at(first + n)[1] for n in range(3)]) for first in (1, 4, 7)]
    assert order.at(4)[0] == 1
    assert all(sorted(epoch.tolist()) == list(range(9)) for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 3


def test_a_step_does_not_depend_on_the_steps_before():
    """Any step asked first, or in any order, has the same examples."""
    forward = Order(50, batch_size=7, seed=3)
    expected = {step: forward.at(step)[1].tolist() for step in range(1, 30)}
    for step in (29, 1, 8, 7, 15, 14):
        assert Order(50, batch_size=7, seed=3).at(step)[1].tolist() == expected[step]
    backward = Order(50, batch_size=7, seed=3)
    assert all(backward.at(s)[1].tolist() == expected[s] for s in reversed(range(1, 30)))


def test_the_seed_decides():
    """Another seed, another order; torch's own generator has no part in it."""
    torch.manual_seed(1)
    once = Order(50, batch_size=50, seed=3).at(1)[1]
    torch.manual_seed(2)
    assert torch.equal(once, Order(50, batch_size=50, seed=3).at(1)[1])
    assert not torch.equal(once, Order(50, batch_size=50, seed=4).at(1)[1])


@pytest.mark.parametrize("batch_size", [0, 11])
def test_a_batch_that_does_not_fit_is_refused(batch_size: int):
    """With both numbers."""
    with pytest.raises(DataError, match=rf"train.batch_size={batch_size}: there are 10 training"):
        Order(10, batch_size=batch_size, seed=0)


def test_another_purpose_has_another_order():
    """Drawing from a part has nothing to do with training on it."""
    training = Order(50, batch_size=50, seed=3).at(1)[1]
    drawn = [Order(50, batch_size=50, seed=3, purpose=("draw", s)).at(1)[1] for s in ("a", "b")]
    assert not torch.equal(training, drawn[0])
    assert not torch.equal(drawn[0], drawn[1])


def test_a_refusal_names_the_key_and_the_part():
    """Where the batch size was set, and what it does not fit."""
    with pytest.raises(DataError, match=r"search\.x=11: there are 10 validation examples"):
        Order(10, batch_size=11, seed=0, key="search.x", split="validation")
