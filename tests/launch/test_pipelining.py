"""Torch's pipelining against one process that adds up the gradients of the same micro-batches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.pipeline.checkpoint import Checkpoints

from tests.launch.pipelined_stages import (
    AGENDA,
    STEPS,
    Plan,
    accuracies,
    fail,
    fail_alone,
    merged,
    reference,
    train,
)
from tests.launch.shared_stages import farthest
from tests.pipeline.parts import differences
from tests.world import World


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Compute with one thread, as the ranks of the world do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trained(world: World, plan: Plan, folder: Path) -> dict[int, dict[str, Any]]:
    """Train in the world; return the results of the stages."""
    return merged(world.run(train, plan, str(folder), {}))


def weights(results: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what of each stage's state the reference has too."""
    return [
        {"body": one["state"]["body"], "head": one["state"]["head"]} for one in results.values()
    ]


PLANS = {
    "gpipe": Plan("gpipe", 2),
    "gpipe three": Plan("gpipe", 3, microbatches=2, depth=1),
    "1f1b": Plan("1f1b", 2),
    "1f1b three": Plan("1f1b", 3),
    "interleaved": Plan("interleaved_1f1b", 4),
    "channels-last": Plan("1f1b", 3, keys={"channels_last": True}),
    "bfloat16": Plan("gpipe", 2, keys={"precision": "bfloat16"}),
    "one micro-batch": Plan("gpipe", 2, microbatches=1),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_weights_are_those_of_accumulated_gradients(
    world: World, plan: Plan, tmp_path: Path
) -> None:
    """After 20 steps, to the bit: momentum, weight decay, warm-up, batch norm and dropout.

    The order of additions is the same, and the number of micro-batches a power of two.
    """
    assert differences(reference(plan), weights(trained(world, plan, tmp_path))) == []


SIXES = replace(AGENDA, batch_size=6)
ROUNDED = {
    "thirds": Plan("1f1b", 2, microbatches=3, agenda=SIXES),
    "interleaved three": Plan("interleaved_1f1b", 6, microbatches=3, agenda=SIXES),
    "clipped": Plan("1f1b", 3, keys={"clip": 0.1}),
}


@pytest.mark.parametrize("plan", ROUNDED.values(), ids=ROUNDED)
def test_other_divisions_and_clipping_differ_by_rounding(
    world: World, plan: Plan, tmp_path: Path
) -> None:
    """Torch divides the sum of gradients, the loop each loss; norms are added up over ranks.

    Clipping bounds the norm of the whole network's gradient, as in one process.
    """
    found = weights(trained(world, plan, tmp_path))
    assert farthest(found, reference(plan)) < 1e-5
    if plan.config.clip is not None:
        free = reference(replace(plan, keys={}))
        assert farthest(found, free) > 1e-2


MARKED = replace(
    AGENDA,
    steps=10,
    evaluate_every=4,
    evaluate_batch_size=6,
    splits=("validation",),
    final_splits=("test",),
    checkpoint_every=5,
)


@pytest.mark.parametrize(
    "plan",
    [Plan("1f1b", 3, agenda=MARKED), Plan("interleaved_1f1b", 4, agenda=MARKED, depth=1)],
    ids=["1f1b", "interleaved"],
)
def test_evaluations_and_checkpoints_fall_between_steps(
    world: World, plan: Plan, tmp_path: Path
) -> None:
    """Evaluations equal those of the whole network; a resumed run ends at the same bits."""
    whole = merged(world.run(train, plan, str(tmp_path / "whole"), {}))
    told = whole[plan.blocks]["evaluations"]
    assert [(one["step"], one["split"]) for one in told] == [
        (4, "validation"), (8, "validation"), (10, "test"),
    ]  # fmt: skip
    states = {stage: one["state"] for stage, one in whole.items()}
    loss, accuracy = accuracies(plan, states, "test")
    assert told[-1]["loss"] == pytest.approx(loss, abs=1e-6)
    assert told[-1]["accuracy"] == accuracy
    for stage in range(1, plan.blocks):
        assert {one["accuracy"] for one in whole[stage]["evaluations"]} == {None}
    shards = [one["shards"][5] for one in whole.values()]
    checkpoint = Checkpoints(tmp_path / "whole").commit(5, {}, shards)
    saved = {stage: checkpoint.load(f"stage-{stage}.pt") for stage in whole}
    assert differences(saved, states) != []
    later = replace(plan, agenda=replace(MARKED, start=5))
    resumed = merged(world.run(train, later, str(tmp_path / "resumed"), saved))
    assert differences({stage: one["state"] for stage, one in resumed.items()}, states) == []
    assert resumed[plan.blocks]["evaluations"] == told[1:]


def test_a_stage_tells_what_it_computes_and_what_it_sends(world: World, tmp_path: Path) -> None:
    """Loss and accuracy of the last block alone; computing apart from waiting; bytes both ways."""
    plan = Plan("1f1b", 2)
    results = trained(world, plan, tmp_path)
    activations = 8 * 6 * 8 * 8 * 4
    assert [one["trained_bytes"] for one in results.values()] == [STEPS * activations] * 2
    first, last = (one["reports"] for one in results.values())
    assert {report["loss"] for report in first} == {None}
    assert all(0 <= report["accuracy"] <= 1 and report["loss"] > 0 for report in last)
    assert first[4]["lr"] == last[4]["lr"] == 0.05
    for report in [*first, *last]:
        assert report["busy"] > 0
        assert report["wait_in"] >= 0


@pytest.mark.parametrize(
    ("plan", "kind", "told"),
    [
        (Plan("interleaved_1f1b", 4, raises_at=2), "ValueError", "the block is broken"),
        (
            Plan("interleaved_1f1b", 4, agenda=MARKED, broken_at=5),
            "NonFiniteLossError",
            r"stage \d: .* nan ",
        ),
    ],
    ids=["raises", "not a number"],
)
def test_an_error_of_a_block_is_shown_as_it_was(
    world: World, plan: Plan, kind: str, told: str
) -> None:
    """What torch wraps is unwrapped, and the other blocks of the rank do not wait for ever.

    A batch that is not finite is noticed at the next report or checkpoint.
    """
    found = world.run(fail_alone, plan)[0]
    assert found[0] == kind
    assert re.match(told, found[1])


def test_the_end_of_another_rank_is_not_taken_for_an_error(world: World, tmp_path: Path) -> None:
    """Who waits in torch's schedule for a rank that died reports an echo of its end."""
    plan = Plan("1f1b", 2, exits_at=4)
    kind, text = world.run(fail, plan, str(tmp_path), dying=[1])[0]
    assert kind == "echo"
    assert text.startswith("stage 1: another rank is gone: ")
