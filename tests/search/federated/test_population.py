"""Chunks of clients, and who takes part in a round."""

from __future__ import annotations

import pytest
import torch
from blockstep.search.federated import Client, Population, assign_chunks, deal_alike, share_work

RATIO = [0.7, 0.2, 0.1]


def test_chunks_follow_the_ratio() -> None:
    """Exactly, and in another order for another seed; or as each client draws."""
    chunks = assign_chunks(100, RATIO, exactly=True, seed=0)
    assert [chunks.count(k) for k in (1, 2, 3)] == [70, 20, 10]
    assert chunks != assign_chunks(100, RATIO, exactly=True, seed=1)
    drawn = assign_chunks(10_000, RATIO, exactly=False, seed=0)
    assert [drawn.count(k) / 1e4 for k in (1, 2, 3)] == pytest.approx(RATIO, abs=0.02)
    assert assign_chunks(1, [1.0], exactly=True, seed=0) == [1]


@pytest.mark.parametrize("exactly", [True, False])
def test_a_chunk_without_clients_is_refused(exactly: bool) -> None:
    """With its number and its share."""
    with pytest.raises(ValueError, match=r"chunk 2 of 2 has none of 5 clients: its share is 0\.01"):
        assign_chunks(5, [0.99, 0.01], exactly=exactly, seed=0)


def population(**options: float) -> Population:
    """Make one of 50 clients."""
    return Population(deal_alike(100, 50), [1] * 50, per_round=8, seed=3, **options)


def test_a_round_is_a_function_of_its_number() -> None:
    """Eight different clients each time, in order; over many rounds all alike."""
    clients = population()
    rounds = [clients.attendance(number) for number in range(1, 401)]
    assert all(len(set(one.drawn)) == 8 and list(one.drawn) == sorted(one.drawn) for one in rounds)
    assert all(one.answering == one.drawn for one in rounds)
    assert rounds[6] == population().attendance(7)
    counts = torch.tensor([number for one in rounds for number in one.drawn]).bincount()
    assert len(counts) == 50
    assert 35 < counts.min() <= counts.max() < 100


def test_some_do_not_answer() -> None:
    """As many as the chance says; who is drawn does not depend on it."""
    some = population(unreachable=0.25)
    rounds = [some.attendance(number) for number in range(1, 401)]
    assert all(set(one.answering) <= set(one.drawn) for one in rounds)
    answered = sum(len(one.answering) for one in rounds) / (8 * 400)
    assert answered == pytest.approx(0.75, abs=0.03)
    assert [one.drawn for one in rounds[:5]] == [
        population().attendance(number).drawn for number in range(1, 6)
    ]


def test_more_than_there_are() -> None:
    """Cannot be drawn; None draws all."""
    with pytest.raises(ValueError, match="3 clients per round, but there are 2"):
        Population(deal_alike(4, 2), [1, 1], per_round=3, seed=0)
    assert Population(deal_alike(4, 2), [1, 1], seed=0).attendance(1).drawn == (0, 1)


def test_work_is_shared_by_its_size() -> None:
    """A client of the first chunk learns all partitions; nobody does it twice."""
    clients = [Client(n, k, torch.arange(10)) for n, k in enumerate([1, 3, 3, 1, 2])]
    owners = share_work(clients, chunks=3, ranks=2)
    loads = [0, 0]
    for client, owner in zip(clients, owners, strict=True):
        loads[owner] += 5 - client.chunk
    assert sorted(loads) == [7, 8]
    assert share_work(clients, chunks=3, ranks=1) == [0] * 5
    assert share_work([], chunks=3, ranks=2) == []
