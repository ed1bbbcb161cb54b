"""Ranks that own a partition each: the same bits as one process, or a bounded age."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from blockstep.models.hyperparameters import ConcreteDropout, ConcreteMask
from blockstep.models.partitioned import partition
from blockstep.pipeline.link import LinkClosedError, LocalLink
from blockstep.pipeline.message import Kind, Message
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.pipeline.worker import RemoteError
from blockstep.search.partitioned import (
    Chunks,
    Ends,
    PartitionedTraining,
    PartitionRank,
    Settings,
    TensorExamples,
)
from blockstep.search.partitioned.arrivals import Arrivals, Ledger, Source
from torch import nn

from tests.pipeline.channels import PLENTY, ends
from tests.pipeline.parts import Blocked
from tests.world import World

SHARES = [0.5, 0.3, 0.2]
STEPS = 24
WEIGHTS = OptimizationConfig(
    steps=STEPS, batch_size=8, lr=0.05, momentum=0.9, weight_decay=0.01, schedule="cosine"
)


def training(*, random: bool, every: int = 1, psi: bool = True) -> PartitionedTraining:
    """Make a training with batch norm and clipped hyperparameters, the same every time.

    Args:
        random: Whether its forward passes are; threads share torch's generator.
        every: See ``Settings``.
        psi: Whether there is a hyperparameter.
    """
    torch.manual_seed(0)
    noise = [ConcreteMask(6), ConcreteDropout(0.2)] if random else []
    network = nn.Sequential(
        *noise[:1], nn.Linear(6, 10), nn.BatchNorm1d(10), nn.ReLU(), *noise[1:], nn.Linear(10, 3)
    )
    learned = [] if random or not psi else ["3.bias"]
    hyper = replace(Settings().hyper, batch_size=5, lr=0.05, clip=0.1)
    torch.manual_seed(5)
    y = torch.randint(0, 3, (60,))
    return PartitionedTraining(
        partition(network, SHARES, seed=0, hyperparameters=learned),
        TensorExamples(torch.randn(60, 6) + y[:, None], y),
        Chunks(60, SHARES, seed=3),
        settings=Settings(weights=WEIGHTS, hyper=hyper, every=every, keep_best=False),
        seed=3,
    )


def alone(*, random: bool, every: int = 1, steps: int = STEPS) -> dict[str, torch.Tensor]:
    """Return the state that one process ends with, and its L_ML as ``objective``."""
    one = training(random=random, every=every)
    for _ in range(steps):
        one.advance()
    return {**one.model.state_dict(), "objective": torch.tensor(one.measure().objective)}


class _Out:
    """A producer's end of a link inside the process."""

    def __init__(self, link: LocalLink) -> None:
        self._link = link
        self.put = link.put

    def close(self) -> None:
        self._link.end("it stopped")


def wired(count: int) -> list[Ends]:
    """Link ranks inside this process."""
    weights = {
        (a, b): LocalLink(f"{a}->{b}", max_messages=2, max_bytes=PLENTY)
        for a in range(1, count + 1)
        for b in range(a + 1, count + 1)
    }
    psi = {
        (a, b): LocalLink(f"psi {a}->{b}", max_messages=2, max_bytes=PLENTY)
        for a in range(2, count + 1)
        for b in range(1, count + 1)
        if a != b
    }
    return [
        Ends(
            {a: link for (a, b), link in weights.items() if b == k},
            {b: _Out(link) for (a, b), link in weights.items() if a == k},
            {a: link for (a, b), link in psi.items() if b == k},
            {b: _Out(link) for (a, b), link in psi.items() if a == k},
        )
        for k in range(1, count + 1)
    ]


def work(rank: PartitionRank, stop_after: int | None = None) -> int:
    """Do all steps of a rank; return the last one."""
    training = rank.training
    while rank.may_advance(stop=stop_after is not None and training.step >= stop_after):
        rank.advance()
    rank.end()
    return training.step


def together(
    *, staleness: int, every: int = 1, stop_after: int | None = None, psi: bool = True
) -> tuple[list[PartitionRank], list[int]]:
    """Train by three ranks in threads; return them and their last steps."""
    ranks = [
        PartitionRank(
            training(random=False, every=every, psi=psi),
            k,
            ends,
            steps=STEPS,
            staleness=staleness,
            room=2,
        )
        for k, ends in enumerate(wired(3), start=1)
    ]
    last = [0, 0, 0]

    def run(index: int) -> None:
        last[index] = work(ranks[index], stop_after)

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    return ranks, last


@pytest.mark.parametrize("every", [1, 3])
def test_without_staleness_the_last_rank_has_what_one_process_has(every: int):
    """Weights of all partitions, running statistics, and the hyperparameters: bit for bit."""
    expected = alone(random=False, every=every)
    ranks, last = together(staleness=0, every=every)
    assert last == [STEPS] * 3
    state = ranks[2].training.model.state_dict()
    assert all(torch.equal(state[name], expected[name]) for name in state)
    found = [ranks[k - 1].training.likelihood(k) for k in (2, 3)]
    assert sum(found) == pytest.approx(expected["objective"].item(), abs=1e-4)
    assert {rank.weight_ages.largest for rank in ranks} == {0}
    assert {rank.psi_ages.largest for rank in ranks} == {0}


def test_without_hyperparameters_ranks_run_ahead_and_end_alike():
    """Rank 1 waits for nobody, and rank 3 still uses no weights of later steps: bit for bit."""
    one = training(random=False, psi=False)
    for _ in range(STEPS):
        one.advance()
    ranks, last = together(staleness=0, psi=False)
    assert last == [STEPS] * 3
    state = ranks[2].training.model.state_dict()
    assert all(torch.equal(state[name], own) for name, own in one.model.state_dict().items())


def test_every_rank_has_the_same_hyperparameters():
    """With staleness too: all apply all gradients, in the order of the steps."""
    ranks, _ = together(staleness=3)
    values = [rank.training.model.hyperparameters()["3.bias"] for rank in ranks]
    assert torch.equal(values[0], values[1])
    assert torch.equal(values[0], values[2])
    assert not torch.equal(values[0], training(random=False).model.hyperparameters()["3.bias"])


def test_staleness_is_bounded_and_counted():
    """What is used is at most so many steps old; every use is counted."""
    ranks, _ = together(staleness=2)
    assert max(rank.psi_ages.largest for rank in ranks) <= 2
    assert max(rank.weight_ages.largest for rank in ranks) <= 2
    one = training(random=False)
    learned = [one.learner(step) for step in range(1, STEPS + 1)]
    judged = [one.judge_number(step) for step in range(1, STEPS + 1)]
    uses = [learned.count(k) + judged.count(k) for k in (1, 2, 3)]
    assert [rank.psi_ages.uses for rank in ranks] == uses
    assert [rank.weight_ages.uses for rank in ranks] == [0, uses[1], 2 * uses[2]]


def test_a_slow_judge_is_waited_for_no_longer_than_the_staleness():
    """Rank 1 comes so many steps further than the gradients, and no further."""
    ends = wired(2)
    shares = [0.9, 0.1]

    def two() -> PartitionedTraining:
        torch.manual_seed(0)
        model = partition(nn.Linear(6, 3), shares, seed=0, hyperparameters=["bias"])
        y = torch.arange(60) % 3
        settings = Settings(weights=WEIGHTS, hyper=replace(Settings().hyper, batch_size=5))
        examples = TensorExamples(torch.randn(60, 6), y)
        return PartitionedTraining(
            model, examples, Chunks(60, shares, seed=3), settings=settings, seed=3
        )

    for staleness in (0, 2):
        ends = wired(2)
        rank = PartitionRank(two(), 1, ends[0], steps=STEPS, staleness=staleness, room=99)
        drained = Source(
            ends[1].weights_in[1], Arrivals(), newest=True, room=99
        )  # whoever takes the weights
        thread = threading.Thread(target=work, args=(rank,), daemon=True)
        thread.start()
        one = two()
        learned = [step for step in range(1, STEPS + 1) if one.learner(step) == 1]
        # A learn of step n needs all gradients up to step n - 1 - staleness; none comes.
        last = max(step for step in learned if step - 1 - staleness < 1)
        deadline = threading.Event()
        deadline.wait(0.3)
        following = [step for step in learned if step > last]
        assert last <= rank.training.step < following[0]
        assert thread.is_alive()
        assert drained is not None


def test_a_stop_ends_all_ranks_after_the_same_step():
    """Wherever they are when the first one is asked."""
    _, last = together(staleness=2, stop_after=5)
    assert len(set(last)) == 1
    assert 5 <= last[0] <= STEPS


def test_the_end_of_a_follower_is_no_stop():
    """It may have heard of a horizon that is still on its way here."""
    for leads in (False, True):
        link, arrivals = LocalLink("a", max_messages=9, max_bytes=99), Arrivals()
        Source(link, arrivals, newest=False, room=9, leads=leads)
        link.put(Message(Kind.HORIZON, 7))
        link.put(Message(Kind.STOP, 7))
        with arrivals.changed:
            arrivals.wait_for(lambda seen=arrivals: seen.horizon == 7)
            arrivals.changed.wait(0.2)
            assert arrivals.stopped == leads


def _rank(number: int) -> list[Any]:
    """Train in a process of the world: what is random may be used there."""
    from blockstep.pipeline.edge import Edge

    weights = [Edge(a, b, f"{a + 1}->{b + 1}") for a in range(3) for b in range(a + 1, 3)]
    psi = [Edge(a, b, f"psi {a + 1}->{b + 1}") for a in (1, 2) for b in range(3) if a != b]
    into: list[dict[int, Any]] = [{}, {}]
    out: list[dict[int, Any]] = [{}, {}]
    for edge in (*weights, *psi):
        inlet, outlet = ends(number, edge)
        kind = int(edge in psi)
        if inlet is not None:
            into[kind][edge.source + 1] = inlet
        if outlet is not None:
            out[kind][edge.target + 1] = outlet
    linked = Ends(into[0], out[0], into[1], out[1])
    rank = PartitionRank(training(random=True), number + 1, linked, steps=STEPS, room=2)
    work(rank)
    state = {k: v.clone() for k, v in rank.training.model.state_dict().items()}
    likelihood = rank.training.likelihood(number + 1) if number else 0.0
    return [{k: v.numpy() for k, v in state.items()}, likelihood]


def test_processes_that_draw_masks_and_dropout_equal_one(world: World):
    """The random numbers of a step are those of the step, whoever does it: bit for bit."""
    expected = alone(random=True)
    found = world.run(_rank)
    state, _ = found[2]
    assert all(torch.equal(torch.from_numpy(state[k]), expected[k]) for k in state)
    assert sum(own for _, own in found) == pytest.approx(expected["objective"].item(), abs=1e-4)


def test_a_ledger_tells_the_age_of_what_is_here():
    """From the oldest update that is missing, up to the step that counts."""
    ledger = Ledger()
    for step in (3, 7, 8):
        ledger.expect(step)
    assert [ledger.age(bound) for bound in (2, 3, 6, 9)] == [0, 1, 4, 7]
    ledger.arrived(7)
    assert [ledger.age(bound) for bound in (7, 8, 9)] == [0, 1, 2]
    assert ledger.next == 8


def test_what_is_of_a_later_step_waits():
    """Of weights the newest that can be used is taken; gradients are taken all."""
    for newest, expected in ((True, [[2], [3]]), (False, [[1, 2], [3]])):
        link, arrivals = LocalLink("a", max_messages=9, max_bytes=99), Arrivals()
        source = Source(link, arrivals, newest=newest, room=9)
        for step in (1, 2, 3):
            link.put(Message(Kind.VALUES, step))
        link.put(Message(Kind.HORIZON, 50))
        taken = []
        for bound in (2, 3):
            with arrivals.changed:
                arrivals.wait_for(lambda seen=arrivals: seen.horizon == 50)
                source.allow(bound)
                taken.append([step for step, _ in source.take()])
        assert taken == expected


@pytest.mark.parametrize("lost", [False, True])
def test_a_lost_rank_is_an_error_of_whoever_waits_for_it(lost: bool):
    """Whether it says why, or is gone."""
    link, arrivals = LocalLink("link 1->2", max_messages=9, max_bytes=99), Arrivals()
    Source(link, arrivals, newest=True, room=9)
    if lost:
        link.end("the sending side is gone")
    else:
        link.put(Message(Kind.ERROR, 0, text="no memory"))

    def wait() -> None:
        with arrivals.changed:
            arrivals.wait_for(lambda: False)

    with pytest.raises(LinkClosedError if lost else RemoteError, match=r"gone|no memory"):
        Blocked(wait).result()
