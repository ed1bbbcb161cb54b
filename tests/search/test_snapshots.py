"""The memory of weights: what stays, what leaves, what is drawn."""

from __future__ import annotations

from collections import Counter

import torch
from blockstep.search.descent import Point
from blockstep.search.snapshots import Snapshot, Snapshots, restore_snapshot, take_snapshot

from .relaxed import batch, make_relaxation


def snapshot(number: int, accuracy: float = 0.5) -> Snapshot:
    value = torch.full((2,), float(number))
    return Snapshot(number, 10 * number, accuracy, Point([value], [-value]), [value + 0.5])


def numbers(snapshots: Snapshots) -> list[int]:
    return [one.number for one in snapshots]


def test_pretraining_keeps_the_best() -> None:
    """Of equally good ones, the newer."""
    memory = Snapshots(3)
    for number, accuracy in enumerate([0.4, 0.2, 0.9, 0.4, 0.5, 0.1], start=1):
        worthy = memory.worthy(accuracy)
        if worthy:
            memory.keep_best(snapshot(number, accuracy))
        assert worthy == (number != 6)
    assert numbers(memory) == [3, 4, 5]


def test_search_replaces_the_oldest() -> None:
    """Whatever its accuracy was."""
    memory = Snapshots(2, [snapshot(1, 0.9), snapshot(2, 0.1)])
    memory.replace_oldest(snapshot(3))
    assert numbers(memory) == [2, 3]
    memory.replace_oldest(snapshot(4))
    assert numbers(memory) == [3, 4]


def test_samples_are_a_function_of_seed_and_step() -> None:
    """Any rank, and a resumed search, draw the same; every member is as likely."""
    memory = Snapshots(5, [snapshot(number) for number in range(1, 6)])
    first = [one.number for one in memory.sample(2, seed=1, step=7)]
    assert first == [one.number for one in memory.sample(2, seed=1, step=7)]
    drawn = Counter(
        one.number for step in range(2000) for one in memory.sample(2, seed=1, step=step)
    )
    assert set(drawn) == {1, 2, 3, 4, 5}
    assert all(700 < count < 900 for count in drawn.values())


def test_samples_differ_while_there_are_enough() -> None:
    """Two samples of one step are two members; beyond that they repeat."""
    memory = Snapshots(2, [snapshot(1), snapshot(2)])
    for step in range(20):
        assert {one.number for one in memory.sample(2, seed=0, step=step)} == {1, 2}
    assert len(memory.sample(3, seed=0, step=0)) == 3


def test_state_and_tensors_bring_it_back() -> None:
    """Both to a file and to another rank."""
    one = snapshot(3, 0.25)
    for other in (
        Snapshot.from_state(one.state_dict()),
        snapshot(9).with_tensors(3, one.tensors()),
    ):
        assert (other.number, other.step, other.accuracy) == (3, 30, 0.25)
        for mine, theirs in zip(one.tensors(), other.tensors(), strict=True):
            assert torch.equal(mine, theirs)


def test_a_snapshot_does_not_change_with_the_training() -> None:
    """Its buffers are copies, and loading them back restores the running statistics."""
    relaxation = make_relaxation()
    weights = relaxation.initial()
    point = Point(weights, [torch.zeros_like(weight) for weight in weights])
    taken = take_snapshot(relaxation, point, number=1, step=0, accuracy=0.0)
    before = [buffer.clone() for buffer in relaxation.buffers()]
    relaxation.logits(batch(1).x)
    assert any(
        not torch.equal(one, other)
        for one, other in zip(relaxation.buffers(), taken.buffers, strict=True)
    )
    restored = restore_snapshot(relaxation, taken, torch.device("cpu"))
    for one, other in zip(relaxation.buffers(), before, strict=True):
        assert torch.equal(one, other)
    assert all(torch.equal(a, b) for a, b in zip(restored.weights, weights, strict=True))


def test_weights_that_are_not_finite_are_noticed() -> None:
    """They must not get into the memory."""
    assert snapshot(1).finite
    bad = snapshot(1).point.weights[0] * float("nan")
    assert not Snapshot(1, 1, 0.0, Point([bad], [bad]), []).finite
