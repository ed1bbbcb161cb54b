"""Queues change speed, never results: three processes against one that takes turns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from blockstep.pipeline.channel import Receiver, Sender
from blockstep.pipeline.checkpoint import Checkpoints
from blockstep.pipeline.crew import run_in_turns
from blockstep.pipeline.edge import Edge, connect
from blockstep.pipeline.feed import Agenda, Feed, StopRequest
from blockstep.pipeline.link import Inlet, Outlet, Sink
from blockstep.pipeline.message import Kind, Message
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.pipeline.transfer import make_transfer

from tests.pipeline.parts import (
    AGENDA,
    CPU,
    Images,
    Records,
    differences,
    make_block,
    make_crew,
    make_worker,
)
from tests.world import World

BLOCKS = 3
DROPOUT = 0.3


def links(rank: int, feed: Inlet, depth: int) -> tuple[Inlet, Outlet]:
    """Connect the ranks in a row; return this rank's ends, greeted by HELLO."""
    inlet, outlet = feed, Sink()
    edges = [Edge(source, source + 1, f"link {source + 1}->{source + 2}") for source in (0, 1)]
    for edge, connection in connect(edges).items():
        transfer = make_transfer(connection, CPU)
        if edge.source == rank:
            outlet = Sender(connection, transfer)
            outlet.put(Message(Kind.HELLO, 0))
        else:
            inlet = Receiver(connection, transfer, max_messages=depth, max_bytes=1 << 20)
    if isinstance(inlet, Receiver):
        assert inlet.get().kind == Kind.HELLO
    return inlet, outlet


def train(
    rank: int,
    config: OptimizationConfig,
    agenda: Agenda,
    depth: int,
    folder: str,
    states: list[dict[str, Any]],
) -> list[Any]:
    """Train this rank's block; return its state, its evaluations and its shards."""
    inlet, outlet = links(rank, Feed(Images(), agenda, stop=StopRequest()), depth)
    block = make_block(config, index=rank + 1, blocks=BLOCKS, dropout=DROPOUT)
    if states:
        block.load_state_dict(states[rank])
    records = Records()
    worker = make_worker(block, inlet, outlet, records=records, folder=Path(folder))
    assert worker.run() == agenda.steps
    outlet.close()
    return [block.state_dict(), records.evaluations, records.shards]


def in_turns(config: OptimizationConfig, agenda: Agenda, folder: Path) -> list[list[Any]]:
    """Do the same in one process."""
    crew = make_crew(BLOCKS, agenda, config=config, dropout=DROPOUT, folder=folder)
    run_in_turns(crew.workers)
    return [
        [state, records.evaluations, records.shards]
        for state, records in zip(crew.states(), crew.records, strict=True)
    ]


@pytest.mark.parametrize(
    ("depth", "keys"),
    [
        (1, {}),
        (4, {}),
        (1, {"channels_last": True}),
        (4, {"channels_last": True, "chunk": 3}),
        (4, {"optimizer": "adamw", "lr": 0.003, "clip": 0.5, "precision": "bfloat16"}),
    ],
    ids=["depth 1", "depth 4", "channels-last 1", "channels-last 4 chunks", "bfloat16 adamw 4"],
)
def test_three_processes_are_one_process_that_takes_turns(
    world: World, tmp_path: Path, depth: int, keys: dict[str, Any]
) -> None:
    """Weights, buffers, optimizers, evaluations and shards of every stage are equal to the bit.

    With dropout in all blocks, flips in the data, evaluations and checkpoints on the way.
    """
    config = OptimizationConfig(**{"steps": AGENDA.steps, "lr": 0.05, "warmup": 3, **keys})
    expected = in_turns(config, AGENDA, tmp_path / "turns")
    found = world.run(train, config, AGENDA, depth, str(tmp_path / "processes"), [])
    assert differences(expected, found) == []
    assert [result["step"] for result in found[2][1]] == [10, 20, 25]
    assert found[2][1][0]["ensemble_accuracy"] is not None
    assert list(found[0][2]) == [8, 16, 24, 25]


def test_a_resumed_pipeline_ends_where_the_uninterrupted_one_ends(
    world: World, tmp_path: Path
) -> None:
    """Three processes that continue from a checkpoint end like those that never stopped."""
    config = OptimizationConfig(steps=AGENDA.steps, lr=0.05)
    whole = world.run(train, config, AGENDA, 4, str(tmp_path / "whole"), [])
    checkpoint = Checkpoints(tmp_path / "whole").commit(16, {}, [rank[2][16] for rank in whole])
    states = [checkpoint.load(shard.name) for shard in checkpoint.shards]
    agenda = replace(AGENDA, start=16)
    resumed = world.run(train, config, agenda, 1, str(tmp_path / "resumed"), states)
    for left, right in zip(whole, resumed, strict=True):
        assert differences(left[0], right[0]) == []
        assert [result for result in left[1] if result["step"] > 16] == right[1]


def fail_in_the_middle(rank: int, steps: int) -> tuple[str, str]:
    """Train until stage 2 fails at the last step; tell what each rank raised."""
    agenda = Agenda(start=0, steps=steps, batch_size=4)
    inlet, outlet = links(rank, Feed(Images(), agenda, stop=StopRequest()), 4)
    block = make_block(OptimizationConfig(), index=rank + 1, blocks=BLOCKS)
    worker = make_worker(block, inlet, outlet)
    if rank == 1:
        learn = block.step

        def explode(message: Message) -> Message:
            if message.step == steps:
                raise ValueError("stage 2 exploded")
            return learn(message)

        block.step = explode
    try:
        worker.run()
    except Exception as error:
        if isinstance(outlet, Sender):
            # What the launcher does when a rank fails.
            outlet.put_within(Message(Kind.ERROR, steps, text=str(error)), 5.0)
        return type(error).__name__, str(error)
    return "", f"{worker.activity.step}"


def test_an_error_reaches_the_stages_behind(world: World) -> None:
    """When stage 2 fails at step 9, stage 3 learns from the eight before and ends with its text."""
    first, second, third = world.run(fail_in_the_middle, 9)
    assert first == ("", "9")
    assert second == ("ValueError", "stage 2 exploded")
    assert third == ("RemoteError", "stage 2 exploded")
