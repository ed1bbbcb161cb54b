"""Algorithm 1: its phases, its interruption, its ranks, and what it does with broken numbers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.search.hypergradient import hypergradient
from blockstep.search.mixed_gradient import Choices, mixed_gradient
from blockstep.search.sedona import Search
from blockstep.search.settings import SearchSettings
from torch import Tensor

from .relaxed import batch, make_relaxation

SETTINGS = SearchSettings(
    steps=4, inner_steps=2, memory=3, pretrain_every=2, validation_batch=16, lr=0.05
)
TRAINING = OptimizationConfig(
    steps=8, batch_size=8, lr=0.1, lr_min=0.01, weight_decay=1e-3, label_smoothing=0.1
)


class Source:
    """Random batches by number; it can spoil some, and notes what was asked for."""

    def __init__(self, spoil: Callable[[int], bool] = lambda number: False) -> None:
        self.asked: list[int] = []
        self._spoil = spoil

    def training(self, number: int) -> tuple[Tensor, Tensor]:
        self.asked.append(number)
        one = batch(number, dtype=torch.float32)
        return (one.x * float("nan") if self._spoil(number) else one.x), one.y

    def validation(self, number: int) -> tuple[Tensor, Tensor]:
        one = batch(10_000 + number, size=16, dtype=torch.float32)
        return one.x, one.y

    def validation_split(self) -> Iterator[tuple[Tensor, Tensor]]:
        for number in (1, 2):
            yield self.validation(20_000 + number)


def make_search(
    settings: SearchSettings = SETTINGS,
    training: OptimizationConfig = TRAINING,
    *,
    source: Source | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> Search:
    return Search(
        make_relaxation(dtype=torch.float32, dropout=dropout),
        source or Source(),
        settings=settings,
        optimization=training,
        seed=3,
        **options,
    )


def run(search: Search) -> list[dict[str, Any]]:
    records = []
    while not search.done:
        records.append(search.advance())
    return records


def test_pretrains_then_searches() -> None:
    """With records of both phases, and snapshots of the best pretraining steps."""
    search = make_search()
    records = run(search)
    assert [(one["phase"], one["step"]) for one in records] == [
        *(("pretrain", step) for step in range(1, 9)),
        *(("search", step) for step in range(1, 5)),
    ]
    assert [one["accuracy"] is not None for one in records[:8]] == [False, True] * 4
    assert records[-1]["alpha"] == search.alpha.tolist()
    assert search.alpha.abs().sum() > 0
    assert search.beta.abs().sum() > 0
    assert len(search.snapshots) == 3
    assert records[-1]["skipped"] == 0


def test_an_outer_step_is_the_hypergradient_and_adam() -> None:
    """From the sampled snapshot, with batches that continue the numbering of the pretraining."""
    source = Source()
    search = make_search(source=source)
    while search.phase == "pretrain":
        search.advance()
    before = {one.step: one for one in search.snapshots}
    source.asked.clear()
    record = search.advance()
    assert source.asked == [9, 10, 11]
    (start,) = (before[step] for step in record["snapshot_steps"])
    relaxation = make_relaxation(dtype=torch.float32)
    relaxation.load_buffers(start.buffers)
    schedule = search._schedule
    batches = [
        replace(batch(8 + ahead, dtype=torch.float32), lr=schedule.lr(start.step + ahead))
        for ahead in (1, 2)
    ]
    zero = Choices(*relaxation.equal_choices())
    found = hypergradient(
        relaxation,
        start.point,
        batches,
        source.validation(1),
        zero,
        descent=search._descent,
    )
    alpha = torch.zeros(3, 2, requires_grad=True)
    alpha.grad = found.alpha
    torch.optim.Adam([alpha], lr=0.05, weight_decay=1e-6).step()
    assert torch.equal(alpha.detach(), search.alpha.detach())
    relaxation.load_buffers(start.buffers)
    x, y = source.training(11)
    new = Choices(search.alpha.detach(), search.beta.detach())
    gradients, _ = mixed_gradient(relaxation, start.point.weights, x, y, new)
    trained = search._descent.step(start.point, gradients, schedule.lr(start.step + 1))
    newest = search.snapshots[-1]
    assert newest.step == start.step + 1
    for mine, theirs in zip(newest.point.weights, trained.weights, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("after", [3, 8, 10])
def test_an_interrupted_search_ends_bit_for_bit_the_same(after: int) -> None:
    """In the pretraining, between the phases and in the search, with dropout."""
    whole = make_search(dropout=0.2)
    run(whole)
    first = make_search(dropout=0.2)
    for _ in range(after):
        first.advance()
    state, snapshots = first.state_dict(), first.snapshots
    second = make_search(dropout=0.2)
    second.load_state_dict(state, snapshots)
    run(second)
    assert torch.equal(second.alpha, whole.alpha)
    assert torch.equal(second.beta, whole.beta)
    assert [one.number for one in second.snapshots] == [one.number for one in whole.snapshots]
    for mine, theirs in zip(second.snapshots, whole.snapshots, strict=True):
        for one, other in zip(mine.tensors(), theirs.tensors(), strict=True):
            assert torch.equal(one.nan_to_num(), other.nan_to_num())


class Round:
    """Ranks as threads that hand tensors round."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.barrier = threading.Barrier(size)
        self.shared: list[Tensor] = []


class Seat:
    """One rank of a round."""

    def __init__(self, round_: Round, rank: int) -> None:
        self.rank, self.size, self._round = rank, round_.size, round_

    def share(self, tensors: Sequence[Tensor], *, source: int) -> list[Tensor]:
        if self.rank == source:
            self._round.shared = [tensor.clone() for tensor in tensors]
        self._round.barrier.wait(30)
        shared = [tensor.clone() for tensor in self._round.shared]
        assert [tensor.shape for tensor in shared] == [tensor.shape for tensor in tensors]
        self._round.barrier.wait(30)
        return shared


@pytest.mark.parametrize("ranks", [2, 3])
def test_any_number_of_ranks_finds_the_same(ranks: int) -> None:
    """Bit for bit, on every rank, snapshots included."""
    settings = replace(SETTINGS, samples=3, memory=4)
    alone = make_search(settings)
    run(alone)
    round_ = Round(ranks)
    searches = [make_search(settings, exchange=Seat(round_, rank)) for rank in range(ranks)]
    threads = [threading.Thread(target=run, args=(search,)) for search in searches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for search in searches:
        assert search.done
        assert torch.equal(search.alpha, alone.alpha)
        assert torch.equal(search.beta, alone.beta)
        for mine, theirs in zip(search.snapshots, alone.snapshots, strict=True):
            assert mine.number == theirs.number
            assert torch.equal(mine.point.weights[0], theirs.point.weights[0])


def test_gradients_that_are_not_finite_are_skipped_and_counted() -> None:
    """Alpha and beta stay as they are in that step, and the search goes on."""
    # The first batch of the second outer step is spoilt; of the real step, the last of the third.
    search = make_search(source=Source(spoil=lambda number: number in (8 + 3 + 1, 8 + 6 + 3)))
    records = run(search)
    searched = [one for one in records if one["phase"] == "search"]
    assert [one["skipped"] for one in searched] == [0, 1, 1, 1]
    assert searched[1]["gradient_norm"] is None
    assert searched[1]["alpha"] == searched[0]["alpha"]
    assert searched[2]["alpha"] != searched[1]["alpha"]
    assert [one["lost"] for one in searched] == [0, 0, 1, 1]
    assert all(one.finite for one in search.snapshots)
    assert len(search.snapshots) == 3


def test_without_pretraining_and_weight_sampling_it_is_one_trajectory() -> None:
    """Table 8: a memory of one goes on from where the last real step led."""
    search = make_search(replace(SETTINGS, memory=1), replace(TRAINING, steps=0))
    assert search.phase == "pretrain"
    records = [one for one in run(search) if one["phase"] == "search"]
    assert [one["snapshot_steps"] for one in records] == [[0], [1], [2], [3]]
    assert len(search.snapshots) == 1


def test_a_state_is_made_of_plain_values_and_tensors(tmp_path: Any) -> None:
    """A checkpoint of it is read without running code."""
    search = make_search()
    for _ in range(10):
        search.advance()
    torch.save(search.state_dict(), tmp_path / "state.pt")
    torch.save(search.snapshots[0].state_dict(), tmp_path / "snapshot.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert torch.equal(state["alpha"], search.alpha.detach())
    assert torch.load(tmp_path / "snapshot.pt", weights_only=True)["number"] >= 1
