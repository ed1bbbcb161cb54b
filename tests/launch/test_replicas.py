"""Replicas change speed, never results: several ranks per stage against one process.

The arithmetic is that of one rank with the whole batch, in another order of additions. In float64
what remains of that is far below the tolerance, so a wrong weight of a part cannot hide.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.pipeline.checkpoint import Checkpoints
from blockstep.pipeline.feed import Feed, StopRequest
from blockstep.pipeline.link import LinkClosedError, Sink
from blockstep.pipeline.replicas import Replicas, form_teams
from blockstep.pipeline.stage import NonFiniteLossError
from torch import Tensor

from tests.launch.shared_stages import (
    AGENDA,
    STEPS,
    TOLERANCE,
    Plan,
    Typed,
    alone,
    by_stage,
    farthest,
    make_block,
    result,
    train,
    weights,
)
from tests.pipeline.parts import Records, differences, make_worker
from tests.world import World


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Five gloo processes; a layout that needs fewer leaves the others idle."""
    world = World(5, tmp_path_factory.mktemp("five"))
    yield world
    world.close()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Compute with one thread, as the ranks of the world do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


LAYOUTS = [
    pytest.param((2,), {}, id="2"),
    pytest.param((3,), {"clip": 0.01}, id="3 clipped"),
    pytest.param((3, 1), {}, id="3,1"),
    pytest.param((1, 2), {"optimizer": "adamw", "lr": 0.01}, id="1,2 adamw"),
    pytest.param((2, 1), {"chunk": 2}, id="2,1 chunks"),
    pytest.param((2, 2), {"channels_last": True}, id="2,2 channels-last"),
    pytest.param((2, 3), {"channels_last": True, "chunk": 2}, id="2,3 channels-last chunks"),
]


@pytest.mark.parametrize(("replicas", "keys"), LAYOUTS)
def test_replicas_learn_what_one_rank_learns_from_the_whole_batch(
    five: World, tmp_path: Path, replicas: tuple[int, ...], keys: dict[str, Any]
) -> None:
    """Even and uneven shares of 7 examples give one rank's weights, optimizers and evaluations.

    A wrong weight of the parts would show in the second digit; the evaluations' batches of 5, 5
    and 5 (and of 1 in the end) leave some replicas with nothing.
    """
    plan = Plan(replicas, keys)
    expected = alone(plan, tmp_path / "alone")
    found = by_stage(plan, five.run(train, plan, str(tmp_path / "shared"), []))
    for stage, (one, several) in enumerate(zip(expected, found, strict=True), start=1):
        for replica in several:
            distance = farthest(weights(replica["state"]), weights(one["state"]))
            assert distance < TOLERANCE[plan.dtype], f"stage {stage}"
            assert farthest(replica["evaluations"], one["evaluations"]) < 1e-6
            assert len(replica["evaluations"]) == 2
        assert all(differences(several[0]["state"], r["state"]) == [] for r in several)


def test_float32_differs_in_the_last_digits_only(five: World, tmp_path: Path) -> None:
    """In float32, as it is used, two replicas are one rank but for rounding."""
    plan = Plan((2, 2), dtype=torch.float32)
    expected = alone(plan, tmp_path / "alone")
    found = by_stage(plan, five.run(train, plan, str(tmp_path / "shared"), []))
    for one, several in zip(expected, found, strict=True):
        distance = farthest(weights(several[0]["state"]), weights(one["state"]))
        assert distance < TOLERANCE[plan.dtype]


@pytest.mark.parametrize("blocks", [1, 2])
def test_batch_normalisation_sees_the_part_as_in_chunks(
    five: World, tmp_path: Path, blocks: int
) -> None:
    """Two replicas with batch normalisation learn what one rank learns with train.chunk=batch/2."""
    agenda = replace(AGENDA, batch_size=8)
    plan = Plan((2,) * blocks, norm=True, agenda=agenda)
    chunked = replace(plan, keys={"chunk": 4})
    expected = alone(chunked, tmp_path / "alone")
    found = by_stage(plan, five.run(train, plan, str(tmp_path / "shared"), []))
    for one, several in zip(expected, found, strict=True):
        for replica in several:
            distance = farthest(weights(replica["state"]), weights(one["state"]))
            assert distance < TOLERANCE[plan.dtype]


def test_what_is_evaluated_is_what_is_saved(five: World, tmp_path: Path) -> None:
    """With statistics that differ between replicas, the shard gives the evaluation that was told.

    The last step's evaluation is that of one process that loads the shards and evaluates.
    """
    plan = Plan((2, 3), norm=True)
    found = by_stage(plan, five.run(train, plan, str(tmp_path), []))
    folder = Checkpoints(tmp_path)
    shards = [several[0]["shards"][STEPS] for several in found]
    checkpoint = folder.commit(STEPS, {}, shards)
    loaded = replace(plan, agenda=replace(AGENDA, steps=1, evaluate_every=0, checkpoint_every=0))
    feed = Feed(Typed(loaded), loaded.agenda, stop=StopRequest())
    first, last = make_block(plan, 1), make_block(plan, 2)
    for block in (first, last):
        block.load_state_dict(checkpoint.load(f"stage-{block.index}.pt"))
    while (message := feed.get()).kind.name != "STOP":
        if message.kind.name in ("EVALUATE", "SAMPLE", "EVALUATED"):
            last.evaluate(first.evaluate(message))
    for block, several in zip((first, last), found, strict=True):
        for replica in several:
            told = {**replica["evaluations"][-1], "step": 1}
            assert farthest(told, block.evaluation()) < 1e-6


def test_no_depth_of_the_links_changes_a_bit(five: World, tmp_path: Path) -> None:
    """With dropout, normalisation and bfloat16, links of 1 and of 5 messages give the same bits."""
    keys = {"precision": "bfloat16", "clip": 0.5}
    plan = Plan((2, 3), keys, norm=True, dropout=0.3, dtype=torch.float32, depth=1)
    shallow = five.run(train, plan, str(tmp_path / "shallow"), [])
    deep = five.run(train, replace(plan, depth=5), str(tmp_path / "deep"), [])
    assert differences(shallow, deep) == []


@pytest.mark.parametrize("replicas", [(3, 2), (1, 4)])
def test_a_resumed_run_ends_where_the_uninterrupted_one_ends(
    five: World, tmp_path: Path, replicas: tuple[int, ...]
) -> None:
    """From a checkpoint after step 3 every replica ends bit for bit as without a break.

    Three numbers have several sums, so the pieces in which gradients are averaged must be the same.
    """
    plan = Plan(replicas, norm=True, dropout=0.3, wide=True, dtype=torch.float32)
    whole = five.run(train, plan, str(tmp_path / "whole"), [])
    shards = [several[0]["shards"][3] for several in by_stage(plan, whole)]
    checkpoint = Checkpoints(tmp_path / "whole").commit(3, {}, shards)
    states = [checkpoint.load(shard.name) for shard in checkpoint.shards]
    later = replace(plan, agenda=replace(AGENDA, start=3))
    resumed = five.run(train, later, str(tmp_path / "resumed"), states)
    for left, right in zip(whole, resumed, strict=True):
        assert differences(left["state"], right["state"]) == []
        assert left["evaluations"][-1] == right["evaluations"][-1]


def test_replicas_drop_different_units(five: World, tmp_path: Path) -> None:
    """With dropout, two replicas that see the same example do not learn alike from it.

    Without, their losses would be equal: every example of the batch is the same one.
    """
    losses = {}
    for dropout in (0.0, 0.5):
        plan = Plan((2,), dropout=dropout, agenda=replace(AGENDA, batch_size=8))
        results = five.run(same_examples, plan)
        losses[dropout] = [result["losses"][0] for result in results[:2]]
    assert losses[0.0][0] == losses[0.0][1]
    assert losses[0.5][0] != losses[0.5][1]


class SameExamples(Typed):
    """Every example of every batch is the first one."""

    def train(self, *, batch_size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Repeat it."""
        while True:
            yield self._x[:1].expand(batch_size, -1, -1, -1), self._y[:1].expand(batch_size)


def same_examples(rank: int, plan: Plan) -> dict[str, Any] | None:
    """Take the first steps on batches of one example."""
    team = form_teams([plan.placement.ranks_of(1)])
    if team is None:
        return None
    replicas = Replicas(team, stage=1, number=rank + 1, count=2)
    feed = Feed(SameExamples(plan), plan.agenda, stop=StopRequest(), replica=rank + 1, replicas=2)
    block, records = make_block(plan, 1, replicas), Records()
    worker = make_worker(block, feed, Sink(), records=records, every=1)
    worker.turn()
    return result(block, records)


def explode(rank: int, plan: Plan, folder: str) -> dict[str, Any] | str | None:
    """Train until a replica's loss is not a number; that rank ends, as its process would."""
    try:
        return train(rank, plan, folder, [])
    except NonFiniteLossError as error:
        (Path(folder) / "cause").write_text(json.dumps([rank, str(error)]))
        os._exit(1)
    except LinkClosedError as error:
        return str(error)


def test_a_loss_that_is_not_finite_is_its_replicas_and_is_not_saved(
    five: World, tmp_path: Path
) -> None:
    """The replica whose rows are broken is named; no other replica saves what it learned of it."""
    agenda = replace(AGENDA, checkpoint_every=1, evaluate_every=0, steps=STEPS)
    plan = Plan((2, 1), agenda=agenda, broken=(3, slice(5, None)))
    found = five.run(explode, plan, str(tmp_path), dying=[1])
    rank, cause = json.loads((tmp_path / "cause").read_text())
    assert rank == 1
    assert cause.startswith("stage 1 replica 2: the loss of step 3 is nan")
    assert isinstance(found[0], str)
    assert found[0].startswith("stage 1 replica 1: another replica is gone: ")
    assert isinstance(found[2], str)
    assert found[2].startswith("link 1->2 (replica ")
    saved = {path.parent.name for path in tmp_path.glob("step-*/stage-1.pt*")}
    assert saved == {"step-1", "step-2"}
