"""Chunks of examples, and what each step draws."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from blockstep.search.partitioned import Chunks, scaled_decays

SHARES = [0.5, 0.3, 0.2]


def test_chunks_divide_the_examples() -> None:
    """Every example is in one chunk; the sizes are exact; the order is of the seed."""
    chunks = Chunks(101, SHARES, seed=1)
    parts = [chunks.of(k) for k in (1, 2, 3)]
    assert [len(part) for part in parts] == chunks.sizes == [50, 31, 20]
    assert torch.cat(parts).sort().values.tolist() == list(range(101))
    assert torch.equal(chunks.up_to(2), torch.cat(parts[:2]))
    assert torch.equal(Chunks(101, SHARES, seed=1).of(3), parts[2])
    assert not torch.equal(Chunks(101, SHARES, seed=2).of(3), parts[2])
    assert torch.equal(torch.cat(list(chunks.passes(2, 8))), parts[1])


def test_draws_follow_the_shares() -> None:
    """k by the shares, a batch of D_1..k; k >= 2 by the shares left, a batch of D_k alone."""
    chunks = Chunks(200, SHARES, seed=0)
    drawn = [chunks.draw(step, 6) for step in range(1, 3001)]
    counts = Counter(draw.number for draw in drawn)
    for k, share in enumerate(SHARES, start=1):
        assert counts[k] / 3000 == pytest.approx(share, abs=0.03)
    known = {k: set(chunks.up_to(k).tolist()) for k in (1, 2, 3)}
    seen: dict[int, set[int]] = {1: set(), 2: set(), 3: set()}
    for draw in drawn:
        seen[draw.number] |= set(draw.indices.tolist())
    assert seen == known
    judges = [chunks.draw_judge(step, 6) for step in range(1, 2001)]
    counts = Counter(draw.number for draw in judges)
    assert counts[2] / 2000 == pytest.approx(0.6, abs=0.03)
    for k in (2, 3):
        own = {i for draw in judges if draw.number == k for i in draw.indices.tolist()}
        assert own == set(chunks.of(k).tolist())
    assert set(counts) == {2, 3}


def test_batches_are_drawn_with_replacement_and_by_the_step_alone() -> None:
    """A batch may be larger than its chunks; a step draws the same whoever asks, and when."""
    chunks = Chunks(10, SHARES, seed=0)
    draw = chunks.draw(7, 50)
    assert len(draw.indices) == 50
    chunks.draw(8, 50)
    again = Chunks(10, SHARES, seed=0).draw(7, 50)
    assert (again.number, again.indices.tolist()) == (draw.number, draw.indices.tolist())
    assert chunks.draw(8, 50).indices.tolist() != draw.indices.tolist()
    judge = chunks.draw_judge(7, None)
    assert torch.equal(judge.indices, chunks.of(judge.number))


def test_impossible_chunks() -> None:
    """An empty chunk, an empty class, one chunk alone: with the numbers."""
    with pytest.raises(ValueError, match=r"chunk 2 of 2 has no examples: a share of 0\.01 of 20"):
        Chunks(20, [0.99, 0.01], seed=0)
    with pytest.raises(ValueError, match=r"chunks=\[0\.5, 0\.4\] sum to 0\.9"):
        Chunks(20, [0.5, 0.4], seed=0)
    with pytest.raises(ValueError, match="one chunk alone judges nothing"):
        Chunks(20, [1.0], seed=0).draw_judge(1, 4)
    chunks = Chunks(4, [0.5, 0.5], seed=0)
    chunks.check_classes(torch.tensor([0, 1, 2, 1]), 3)
    with pytest.raises(ValueError, match=r"class 1 \(2 of 4 in all\) has no example among 4"):
        chunks.check_classes(torch.tensor([0, 0, 2, 2]), 4)


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ("reciprocal", [1.25, 1 / 0.9, 1.0]),
        ("sqrt", [1.25**0.5, 0.9**-0.5, 1.0]),
        ("none", [1.0, 1.0, 1.0]),
    ],
)
def test_weight_decay(scaling: str, expected: list[float]) -> None:
    """Earlier partitions decay more; the last one, which sees everything, as told."""
    found = scaled_decays(3e-4, [80, 10, 10], scaling)
    assert found == pytest.approx([3e-4 * factor for factor in expected])


def test_unknown_scaling() -> None:
    """Refused with what is valid."""
    with pytest.raises(ValueError, match=r"weight decay is 'square'; valid are .*reciprocal"):
        scaled_decays(1.0, [1, 1], "square")
