"""Features Replay and DDG against plain loops: one process, straightforward lists, no links."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.pipeline.checkpoint import Checkpoints
from blockstep.pipeline.crew import run_in_threads, run_in_turns
from blockstep.pipeline.delayed_gradients import DelayedGradientsBlock
from blockstep.pipeline.features_replay import FeaturesReplayBlock
from blockstep.pipeline.feed import Agenda
from blockstep.pipeline.feedback_block import FeedbackBlock
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.pipeline.seed import derive
from torch import Tensor, nn

from tests.pipeline.feedback_parts import make_feedback_block, make_feedback_crew
from tests.pipeline.parts import (
    SEED,
    Blocked,
    Images,
    batch,
    differences,
    make_block,
    make_crew,
    make_parts,
)

STEPS = 20
DROPOUT = 0.3
CONFIG = OptimizationConfig(
    steps=STEPS, lr=0.05, warmup=3, schedule="constant", momentum=0.9, nesterov=True
)
AGENDA = Agenda(start=0, steps=STEPS, batch_size=8)
KINDS = pytest.mark.parametrize(
    "kind", [FeaturesReplayBlock, DelayedGradientsBlock], ids=["features replay", "ddg"]
)
Kind = type[FeedbackBlock[Any]]


def reference(kind: Kind, blocks: int) -> list[dict[str, Any]]:
    """Train by the published algorithm, module after module; return their weights.

    Written from the algorithm alone: module k < K - 1 appends its input, passes it on, and, from
    its (K - k)-th iteration on, learns from its oldest input by what module k + 1 computed one
    iteration earlier. Deep copies stand for the weights of then, and keep the running statistics
    of batch norm from changing twice.
    """
    parts = [make_parts(k + 1, blocks, dropout=DROPOUT) for k in range(blocks)]
    bodies = [body for body, _ in parts]
    classifier = parts[-1][1]
    trained = [list(body.parameters()) for body in bodies]
    trained[-1] += list(classifier.parameters())
    optimizers = [
        torch.optim.SGD(one, lr=1.0, momentum=0.9, weight_decay=1e-4, nesterov=True)
        for one in trained
    ]
    history: list[list[Any]] = [[] for _ in bodies]
    errors: dict[int, Tensor] = {}
    source = Images().train(batch_size=8)
    for t in range(1, STEPS + 1):
        x, y = next(source)
        fresh: dict[int, Tensor] = {}
        for k, body in enumerate(bodies):
            optimizers[k].param_groups[0]["lr"] = 0.05 * min(1.0, t / 3)
            optimizers[k].zero_grad()
            torch.manual_seed(derive(SEED, "step", t, "stage", k + 1))
            x = x.detach().clone().requires_grad_(k > 0)
            if k == blocks - 1:
                torch.nn.functional.cross_entropy(classifier(body(x)), y).backward()
                optimizers[k].step()
                error = x.grad
            else:
                learn = replayed if kind is FeaturesReplayBlock else delayed
                x, error = learn(body, x, (t, k), history[k], errors.get(k), blocks - 1 - k)
                if error is not None:
                    optimizers[k].step()
            if error is not None and k > 0:
                fresh[k - 1] = error
        errors = fresh
    return [
        {"body": body.state_dict(), "head": classifier.state_dict() if body is bodies[-1] else {}}
        for body in bodies
    ]


def replayed(
    body: nn.Module, x: Tensor, at: tuple[int, int], past: list[Any], error: Any, delay: int
) -> tuple[Tensor, Any]:
    """Pass x on and learn from the oldest input with the weights of now."""
    t, k = at
    with torch.no_grad():
        h = body(x)
    past.append((t, x))
    if t <= delay:
        return h, None
    then, old = past.pop(0)
    twin = copy.deepcopy(body)
    torch.manual_seed(derive(SEED, "step", then, "stage", k + 1))
    twin(old).backward(error)
    take_gradients(body, twin)
    return h, old.grad if k else torch.zeros(())


def delayed(
    body: nn.Module, x: Tensor, at: tuple[int, int], past: list[Any], error: Any, delay: int
) -> tuple[Tensor, Any]:
    """Pass x on and learn through the oldest graph, made with the weights of then."""
    t, k = at
    twin = copy.deepcopy(body)
    h = twin(x)
    for mine, theirs in zip(body.buffers(), twin.buffers(), strict=True):
        mine.copy_(theirs)
    past.append((twin, x, h))
    if t <= delay:
        return h, None
    then, old, output = past.pop(0)
    output.backward(error)
    take_gradients(body, then)
    return h, old.grad if k else torch.zeros(())


def take_gradients(body: nn.Module, twin: nn.Module) -> None:
    """Give a module the gradients of its copy."""
    for mine, theirs in zip(body.parameters(), twin.parameters(), strict=True):
        mine.grad = theirs.grad


def weights(states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what of each stage's state the reference has too."""
    return [{"body": state["body"], "head": state["head"]} for state in states]


@KINDS
@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
def test_taking_turns_is_the_published_algorithm(kind: Kind, blocks: int) -> None:
    """After 20 steps all weights and running statistics equal the plain loop's to the bit.

    With momentum, weight decay, warm-up, batch norm and dropout.
    """
    crew = make_feedback_crew(kind, blocks, AGENDA, config=CONFIG, dropout=DROPOUT)
    assert run_in_turns(crew.workers) == STEPS
    assert differences(reference(kind, blocks), weights(crew.states())) == []


def test_old_weights_matter() -> None:
    """The two methods do not learn the same: one has the weights of now, one those of then."""
    crews = [
        make_feedback_crew(kind, 3, AGENDA, config=CONFIG)
        for kind in (FeaturesReplayBlock, DelayedGradientsBlock)
    ]
    for crew in crews:
        run_in_turns(crew.workers)
    assert differences(weights(crews[0].states()), weights(crews[1].states())) != []


@KINDS
def test_one_block_is_backpropagation(kind: Kind) -> None:
    """A single block's weights and optimizer are those of the plain block, to the bit."""
    crew = make_feedback_crew(kind, 1, AGENDA, config=CONFIG, dropout=DROPOUT)
    plain = make_crew(1, AGENDA, config=CONFIG, dropout=DROPOUT)
    run_in_turns(crew.workers)
    run_in_turns(plain.workers)
    (state,) = crew.states()
    assert (state.pop("history"), state.pop("signal")) == ([], None)
    assert differences(plain.states(), [state]) == []


@KINDS
@pytest.mark.parametrize("depth", [1, 5])
def test_threads_are_turns(kind: Kind, depth: int) -> None:
    """Stages in threads of their own give the same states at any depth of the links."""
    crews = [make_feedback_crew(kind, 4, AGENDA, config=CONFIG, depth=depth) for _ in range(2)]
    assert run_in_turns(crews[0].workers) == STEPS
    assert run_in_threads(crews[1].workers, crews[1].links) == STEPS
    assert differences(crews[0].states(), crews[1].states()) == []
    assert all(link.depth()[0] <= 1 for link in crews[1].links)


@KINDS
@pytest.mark.parametrize("depth", [1, 3])
def test_no_order_of_events_stops_the_pipeline(kind: Kind, depth: int) -> None:
    """Stages that are slow and fast at random, in both phases, end with the same states."""
    agenda = replace(
        AGENDA, checkpoint_every=3, evaluate_every=7, splits=("test",), final_splits=("test",)
    )
    crews = [make_feedback_crew(kind, 4, agenda, config=CONFIG, depth=depth) for _ in range(2)]
    run_in_turns(crews[0].workers)
    for number, worker in enumerate(crews[1].workers):
        draw = random.Random(number)
        for phase in ("forward", "learn"):
            setattr(worker.stage, phase, delayed_call(getattr(worker.stage, phase), draw))
    call = Blocked(run_in_threads, crews[1].workers, crews[1].links)
    assert call.result() == STEPS
    assert differences(crews[0].states(), crews[1].states()) == []


def delayed_call(function: Callable[[Any], Any], draw: random.Random) -> Callable[[Any], Any]:
    """Make a function that is late, sometimes much."""

    def call(argument: Any) -> Any:
        time.sleep(draw.choice((0.0, 0.0, 0.001, 0.02)))
        return function(argument)

    return call


@KINDS
@pytest.mark.parametrize(
    "keys",
    [
        {"channels_last": True},
        {"clip": 0.1, "optimizer": "adamw", "lr": 0.003},
        {"precision": "bfloat16"},
    ],
    ids=["channels-last", "clip adamw", "bfloat16"],
)
def test_a_resumed_run_ends_where_the_uninterrupted_one_ends(
    kind: Kind, keys: dict[str, Any], tmp_path: Path
) -> None:
    """From every checkpoint, in the warm-up and after it, through a file, bit for bit."""
    config = replace(CONFIG, steps=9, **keys)
    agenda = replace(AGENDA, steps=9, checkpoint_every=1)
    whole = make_feedback_crew(
        kind, 3, agenda, config=config, dropout=DROPOUT, folder=tmp_path / "whole"
    )
    run_in_turns(whole.workers)
    for step in range(1, 9):
        shards = [records.shards[step] for records in whole.records]
        checkpoint = Checkpoints(tmp_path / "whole").commit(step, {}, shards)
        crew = make_feedback_crew(
            kind,
            3,
            replace(agenda, start=step, checkpoint_every=4),
            config=config,
            dropout=DROPOUT,
            folder=tmp_path / f"from-{step}",
            state=[checkpoint.load(shard.name) for shard in shards],
        )
        run_in_turns(crew.workers)
        assert differences(whole.states(), crew.states()) == [], step


@KINDS
def test_what_is_kept_does_not_grow(kind: Kind) -> None:
    """Between steps, block k of K keeps K - k batches and one error signal at a checkpoint."""
    crew = make_feedback_crew(kind, 3, AGENDA, config=CONFIG)
    run_in_turns(crew.workers)
    states = crew.states()
    assert [len(state["history"]) for state in states] == [2, 1, 0]
    assert [[one["step"] for one in state["history"]] for state in states] == [[19, 20], [20], []]
    assert [state["signal"] and state["signal"]["step"] for state in states] == [20, 20, None]


@KINDS
def test_running_statistics_change_once_per_batch(kind: Kind) -> None:
    """Batch norm counts as many batches as there were steps, in every block."""
    crew = make_feedback_crew(kind, 3, AGENDA, config=CONFIG)
    run_in_turns(crew.workers)
    counts = [state["body"]["1.num_batches_tracked"].item() for state in crew.states()]
    assert counts == [STEPS] * 3


@KINDS
def test_timing_a_stage_alone_keeps_its_history(kind: Kind) -> None:
    """Both phases at once take one batch in and let it go; the weights change by decay alone."""
    crew = make_feedback_crew(kind, 3, AGENDA, config=CONFIG)
    run_in_turns(crew.workers)
    for worker in crew.workers:
        before = worker.stage.state_dict()
        message = worker.last_batch
        assert message is not None
        kept, signal = [one["step"] for one in before["history"]], before["signal"]
        result = worker.stage.step(message)
        after = worker.stage.state_dict()
        assert [one["step"] for one in after["history"]] == kept
        assert after["signal"] == signal or after["signal"]["step"] == signal["step"]
        assert result.step == STEPS


@KINDS
def test_a_plain_block_passes_the_same_output_on(kind: Kind) -> None:
    """The first phase gives what a plain block gives in its first step."""
    block = make_feedback_block(kind, CONFIG, index=1, blocks=2, dropout=DROPOUT)
    plain = make_block(CONFIG, index=1, blocks=2, dropout=DROPOUT)
    assert differences(block.forward(batch(1)).tensors, plain.step(batch(1)).tensors) == []
