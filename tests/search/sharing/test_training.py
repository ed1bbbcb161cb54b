"""Tests of `blockstep.search.sharing.training`: stages, resumes, ranks and replicas."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.models.superweight import SuperWeightEnsemble
from blockstep.pipeline.stage import NonFiniteLossError
from blockstep.search.sharing.company import Post, posts_of
from blockstep.search.sharing.file import SharingError
from blockstep.search.sharing.training import EnsembleTraining

from tests.launch.runs import same
from tests.search.sharing.ensembles import (
    PLAN,
    Examples,
    ranks_state,
    state_of,
    stopping,
    training,
)
from tests.world import World

ALONE = replace(PLAN, search_steps=0, unshare_step=0)


def finished(one: EnsembleTraining) -> EnsembleTraining:
    """Train to the end."""
    while not one.done:
        one.advance()
    return one


def logits(one: EnsembleTraining) -> torch.Tensor:
    """Of two batches."""
    return one.logits(lambda: [x for x, _ in islice(Examples().train(start=90), 2)])


def test_the_stages_follow_each_other():
    """Clusters after S steps, with new weights; coefficients of their own U steps later."""
    one, seen, remarks = training(), [], []
    assert one.searching
    assert len(one.mine) == 2  # the third member has the layers of the first, and copies its part
    first = one.ensemble.module
    for _ in range(one.steps):
        before = one.sharing
        one.advance()
        events, one.events = one.events, []
        seen.append([event["event"] for event in events if event["event"] != "remark"])
        remarks += [event["text"] for event in events if event["event"] == "remark"]
        if seen[-1] == ["unshared"]:
            assert before is not None
            assert one.sharing is not None
            assert before.sharing.cluster_of() == one.sharing.sharing.cluster_of()
            assert len(before.sharing.clusters[0]) < len(one.sharing.sharing.clusters[0])
    assert seen == [[], [], ["shared"], [], ["unshared"], []]
    assert one.ensemble.module is not first
    assert any("got one template" in text for text in remarks)
    assert one.sharing is not None
    assert one.sharing.beta == PLAN.beta
    assert not one.searching


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_resume_ends_bit_for_bit_the_same_in_every_stage(optimizer: str):
    """Whatever the step of the checkpoint: before, at and after both transitions."""
    whole = training(optimizer=optimizer)
    kept = []
    while not whole.done:
        whole.advance()
        kept.append(state_of(whole))
    for state in kept:
        again = training(optimizer=optimizer)
        loaded = copy.deepcopy(state)
        again.load(loaded["shared"], lambda member, state=loaded: state[f"member {member}"])
        assert again.step == state["shared"]["step"]
        assert same(state_of(again), state)
        finished(again)
        assert same(state_of(again), kept[-1])


@pytest.mark.parametrize("kind", ["deep", "batch_ensemble"])
def test_peers_resume_too(kind: str):
    """Without templates there is one stage."""
    whole = training(kind, plan=ALONE)
    whole.advance()
    state = state_of(whole)
    assert state["shared"]["sharing"] is None
    again = training(kind, plan=ALONE)
    again.load(
        copy.deepcopy(state["shared"]), lambda member: copy.deepcopy(state[f"member {member}"])
    )
    assert same(state_of(finished(again)), state_of(finished(whole)))


DIVISIONS = {
    "one each": [[Post(0)], [Post(1)], [Post(2)]],
    "uneven": [[Post(1)], [Post(0), Post(2)], []],
}


@pytest.mark.parametrize("division", DIVISIONS)
def test_ranks_have_the_weights_of_one_process_bit_for_bit(
    world: World, tmp_path: Path, division: str
):
    """Through both transitions: templates, coefficients, norms, heads, momentum and logits."""
    one = finished(training())
    expected = {**state_of(one), "logits": logits(one)}
    answers = world.run(ranks_state, str(tmp_path), "superweight", DIVISIONS[division], False, PLAN)
    members = set()
    for answer in answers:
        for name, state in answer.items():
            assert same(state, expected[name]), name
            members.add(name)
    assert members == set(expected)


def test_ranks_of_a_deep_ensemble_share_nothing(world: World, tmp_path: Path):
    """Each member is as it would be in one process."""
    one = finished(training("deep", plan=ALONE))
    posts = DIVISIONS["one each"]
    answers = world.run(ranks_state, str(tmp_path), "deep", posts, False, ALONE)
    for number, answer in enumerate(answers):
        assert same(answer[f"member {number}"], one.member_state(number))


def test_replicas_of_a_member_train_what_one_rank_trains(world: World, tmp_path: Path):
    """Without norms and dropout the parts of a batch add up to the batch."""
    posts = posts_of([1, 2])
    assert posts == [[Post(0)], [Post(1, 1, 2)], [Post(1, 2, 2)]]
    pair = ((Post(0), Post(1)),)
    plan = replace(ALONE, steps=5)
    one = finished(training(plan=plan, posts=pair, plain=True))
    answers = world.run(ranks_state, str(tmp_path), "superweight", posts, True, plan)
    for answer in answers:
        assert close(answer["shared"]["tensors"], one.shared_state()["tensors"])
        assert torch.allclose(answer["logits"], logits(one), atol=1e-5)
    assert close(answers[1]["member 1"]["tensors"], one.member_state(1)["tensors"])
    assert "member 1" not in answers[2]
    assert same(answers[1]["shared"], answers[2]["shared"])


def close(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    """Whether tensors of the same names are equal within float tolerance."""
    return left.keys() == right.keys() and all(
        torch.allclose(left[name], right[name], atol=1e-6) for name in left
    )


def test_one_rank_that_is_asked_to_stop_stops_all(world: World, tmp_path: Path):
    """They learn it with the sum of the same step."""
    answers = world.run(stopping, str(tmp_path), DIVISIONS["one each"])
    assert answers == [[False, False, True]] * 3


def test_a_loss_that_is_no_number_names_its_member():
    """And the step."""
    one = training(plan=ALONE)
    with torch.no_grad():
        one.ensemble.module.get_parameter("members.1.7.bias").fill_(float("inf"))
    with pytest.raises(NonFiniteLossError, match="the loss of member 2 at step 1 is nan"):
        one.advance()


def test_a_checkpoint_of_other_members_is_refused():
    """Its sharing names layers that these members do not have."""
    one = training()
    state = state_of(one)
    other: dict[str, Any] = {**state["shared"]}
    other["sharing"] = other["sharing"].replace("0.weight", "99.weight")
    with pytest.raises(SharingError, match=r"0\.weight of member 0"):
        one.load(other, lambda member: state[f"member {member}"])


def test_coefficients_that_became_identical_are_found():
    """Weights of one shape with parallel coefficients, each with its own."""
    one = finished(training(plan=ALONE))
    assert one.identical() == []
    ensemble = one.ensemble.module
    assert isinstance(ensemble, SuperWeightEnsemble)
    store = ensemble.superweights
    with torch.no_grad():
        for coefficients in store.coefficients.values():
            coefficients[:] = coefficients[0].clone()
    assert one.identical()
