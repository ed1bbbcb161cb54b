"""Tests of `blockstep.pipeline.ordered_sum`, in a world of gloo processes."""

from __future__ import annotations

import pytest
import torch
from blockstep.pipeline.edge import new_group
from blockstep.pipeline.ordered_sum import OrderedSum
from torch import Tensor

from tests.world import World

DIVISIONS = [
    [[0], [1], [2]],
    [[2, 0], [1], [3]],
    [[], [1, 0], [2]],
    [[], [], []],
]  # fmt: skip


def rows_of(count: int, length: int) -> Tensor:
    """Rows whose sum depends on its order."""
    generator = torch.Generator().manual_seed(7)
    return torch.randn(count, length, generator=generator) * 10.0 ** torch.arange(count)[:, None]


def add_up(rank: int, length: int) -> list[Tensor]:
    """Add the rows of every division; a rank that has others than it should says so."""
    add, found = OrderedSum(new_group([0, 1, 2], "gloo")), []
    for places in DIVISIONS:
        rows = rows_of(sum(map(len, places)), length)
        found.append(add(rows[places[rank]], places))
    with pytest.raises(ValueError, match=f"rank {rank} of 3 has 2 rows to add, and 1 places"):
        add(torch.zeros(2, length), DIVISIONS[0])
    return found


@pytest.mark.parametrize("length", [1, 7, 64])
def test_the_sum_is_that_of_one_process_bit_for_bit(world: World, length: int):
    """Whoever has the rows, they are added in the order of their places; every rank has it all."""
    answers = world.run(add_up, length)
    for number, places in enumerate(DIVISIONS):
        rows = rows_of(sum(map(len, places)), length)
        expected = torch.zeros(length)
        for place, row in enumerate(rows):
            expected = row.clone() if place == 0 else expected + row
        for answer in answers:
            assert torch.equal(answer[number], expected)


def test_the_order_matters_for_these_rows():
    """So the test above can fail."""
    rows = rows_of(4, 64)
    forth, back = (sum(rows[place] for place in order) for order in ((0, 1, 2, 3), (3, 2, 1, 0)))
    assert not torch.equal(torch.as_tensor(forth), torch.as_tensor(back))
