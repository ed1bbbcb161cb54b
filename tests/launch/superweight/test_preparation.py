"""Tests of `blockstep.launch.superweight`: members, methods, budgets and ranks, and bad input."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.launch.compose import compose
from blockstep.launch.data import Data
from blockstep.launch.folder import RunFolder
from blockstep.launch.job import Objects
from blockstep.launch.membership import Membership
from blockstep.launch.refusal import ConfigError
from blockstep.launch.superweight.division import divide_members
from blockstep.launch.superweight.job import SuperWeightJob
from blockstep.launch.superweight.method import METHODS
from blockstep.launch.superweight.preparation import (
    SuperWeightPreparation,
    check_ranks,
    prepare,
)
from blockstep.launch.superweight.rank import make_training
from blockstep.launch.superweight.source import EnsembleSource
from blockstep.search.sharing.company import Post
from blockstep.search.sharing.file import SharingFile
from blockstep.search.sharing.training import EnsembleTraining

COMMON = (
    "data=digits", "data.train_examples=100", "train.steps=4", "train.batch_size=16",
    "train.threads=1", "superweight.clusters=2", "superweight.similarity_batches=1", "ranks=1",
)  # fmt: skip
PAIR = "members=[{name: wrn10-1, width: 0.5},{name: wrn10-1, width: 0.5}]"
MIXED = "members=[{name: wrn10-1, width: 0.5},wrn10-1]"
ONE = "members=[wrn10-1]"


def prepared(*words: str) -> SuperWeightPreparation:
    """Decide a training that is not started."""
    config = compose("superweight", [*COMMON, *words])
    return prepare("superweight", config, Objects(), create=False)


def begun(job: SuperWeightJob, data: Data) -> EnsembleTraining:
    """Make its training, at the first step, in this process."""
    source = EnsembleSource(data, batch_size=job.config.train.batch_size)
    return make_training(job, source, torch.device("cpu"))


CASES = {
    "superweight": (PAIR, "budget=60%"),
    "deep": (MIXED,),
    "batch_ensemble": (PAIR, "peers.own_norms=true"),
    "mimo": (PAIR, "peers.repetition=1"),
    "ssn": (PAIR, "budget=60%"),
    "slimmable": (ONE, "peers.widths=[1,0.5]"),
    "us": (ONE, "peers.widths=[1,0.5]", "peers.drawn=2"),
    "single": (ONE,),
    "hard_sharing": (PAIR,),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_accounts_for_all_parameters(method: str):
    """In one harness: a step, logits of all members, a checkpoint, and exact accounts."""
    preparation = prepared(f"method={method}", *CASES[method])
    job = preparation.job
    training = begun(job, preparation.data)
    figures = training.advance()
    assert figures["losses"]
    assert set(figures["losses"]) == set(figures["accuracies"])
    x = preparation.data.example(5)[0]
    logits = training.logits(lambda: [x])
    assert logits.shape == (job.members, 5, 10)
    assert logits.isfinite().all()
    accounts = training.ensemble.accounts()
    assert list(accounts) == ["templates", "coefficients", "heads", "norms"]
    assert min(accounts.values()) >= 0
    total = sum(one.numel() for one in training.ensemble.module.parameters())
    assert sum(accounts.values()) == total
    assert accounts["norms"] > 0
    assert accounts == preparation.parameters
    again = begun(job, preparation.data)
    again.load(training.shared_state(), training.member_state)
    assert torch.equal(again.logits(lambda: [x]), logits)
    assert len(job.names) == job.members


def test_a_job_survives_its_trip_to_other_ranks():
    """As text: members, budget, posts."""
    job = prepared(PAIR, "budget=60%").job
    assert SuperWeightJob.from_json(job.to_json()) == job


def test_sharing_is_learned_where_members_differ():
    """The supplement refined clusters of heterogeneous ensembles only."""
    assert prepared(MIXED, "train.steps=20").job.plan.search_steps == 2
    assert prepared(PAIR, "train.steps=20").job.plan.search_steps == 0
    learned = prepared(PAIR, "train.steps=20", "superweight.sharing=learned")
    assert learned.job.plan.search_steps == 2
    assert prepared(MIXED, "superweight.sharing=own").job.plan.search_steps == 0


def test_one_network_fits_in_a_part_of_itself():
    """`model` is the member where there is no other."""
    preparation = prepared("model=wrn28-2", "model.width=0.25", "budget=50%")
    assert preparation.job.networks == ("wrn28-2",)
    assert preparation.parameters["templates"] <= preparation.own // 2
    assert preparation.parameters["templates"] >= 0.97 * (preparation.own // 2)


REFUSED = [
    (["members=[wrn28-x]"], "members: number 1: .*unknown network 'wrn28-x'; did you mean"),
    ([PAIR, "budget=1k"], "a budget of 1,000 is too small: .* need at least [0-9,]+,"),
    ([MIXED, "method=ssn", "budget=20"], "a budget of 20 is too small: the banks need at least"),
    ([MIXED, "method=deep", "budget=50%"], "method=deep has [0-9,]+ in its kernels"),
    (["members=[mlp]"], "the members have no convolutions"),
    (["members=[{_target_: nowhere.Net}]"], "_target_=nowhere.Net cannot be imported"),
    ([PAIR, "superweight.sharing=no.json"], "superweight.sharing=no.json: "),
    ([PAIR, "train.batch_size=2", "ranks=6"], "6 ranks for 2 members: 3 would share each batch"),
    ([PAIR, "method=mimo", "ranks=2"], "2 ranks for method=mimo, whose members are 1 network"),
]


@pytest.mark.parametrize(("words", "hint"), REFUSED, ids=[words[-1] for words, _ in REFUSED])
def test_what_cannot_be_is_refused_with_both_values(words: list[str], hint: str):
    """Before any process starts."""
    with pytest.raises(ConfigError, match=hint):
        prepared(*words)


WRONG = [
    ([MIXED, "method=mimo"], "method=mimo needs equal members"),
    ([PAIR, "method=single"], "method=single has one network, and 2 are given"),
    (["members=[3]"], "members=3: each is the name of a network"),
    (["budget=many"], "budget=many: must be a number of weights"),
    (["superweight.tau=1.5"], "superweight.tau=1.5: must be at least -1 and at most 1"),
    (["superweight.unshare_step=5"], "must be at most train.steps=4"),
    (["superweight.sharing=some"], "superweight.sharing=some: choose one of auto, learned, own"),
    (["superweight.sharing=learned", "superweight.search_steps=0"], "give some steps"),
    (["method=us", "peers.widths=[0.5]"], "the others learn from width 1"),
    (["train.clip=1"], "train.clip=1.0: .*; leave it at null"),
    (["train.precision=float16"], "use bfloat16 or float32"),
]


@pytest.mark.parametrize(("words", "hint"), WRONG, ids=[words[-1] for words, _ in WRONG])
def test_impossible_values_are_refused(words: list[str], hint: str):
    """With the key, the value, and what would be valid."""
    with pytest.raises(ConfigError) as refused:
        compose("superweight", [*COMMON, *words])
    assert re.search(hint, str(refused.value))


def test_a_sharing_of_other_members_is_refused(tmp_path: Path):
    """Of another width: the first layer that differs is named with both shapes."""
    networks = prepared(PAIR).job.networks
    wide = prepared("members=[wrn10-1,wrn10-1]")
    training = begun(wide.job, wide.data)
    assert training.sharing is not None
    path = tmp_path / "sharing.json"
    training.sharing.save(path)
    with pytest.raises(ConfigError, match=r"conv1.weight of member 0 the sharing has 3x3 \(16"):
        prepared(PAIR, f"superweight.sharing={path}")
    taken = prepared("members=[wrn10-1,wrn10-1]", f"superweight.sharing={path}")
    assert taken.job.file() == SharingFile.load(path)
    assert networks == ("wrn10-1", "wrn10-1")


def test_a_checkpoint_whose_sharing_does_not_fit_is_refused(tmp_path: Path):
    """On resume, with the file's step and the first difference."""
    words = [*COMMON, PAIR, "budget=60%", f"runs={tmp_path}", "name=one"]
    job = prepare("superweight", compose("superweight", words), Objects()).job
    training = begun(job, prepared(PAIR).data)
    training.advance()
    state: dict[str, Any] = training.shared_state()
    state["sharing"] = state["sharing"].replace("conv1.weight", "other.weight")
    checkpoints = RunFolder(tmp_path / "one").checkpoints
    shard = checkpoints.write(1, "shared.pt", state)
    checkpoints.commit(1, job.facts, [shard])
    again = compose("superweight", [f"resume={tmp_path / 'one'}"])
    with pytest.raises(ConfigError, match=r"the checkpoint of step 1 .* does not fit its members"):
        prepare("superweight", again, Objects())


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path):
    """Its facts differ: here the seed."""
    words = [*COMMON, PAIR, "budget=60%", f"runs={tmp_path}", "name=one"]
    job = prepare("superweight", compose("superweight", words), Objects()).job
    training = begun(job, prepared(PAIR).data)
    checkpoints = RunFolder(tmp_path / "one").checkpoints
    shard = checkpoints.write(1, "shared.pt", training.shared_state())
    checkpoints.commit(1, job.facts, [shard])
    again = compose("superweight", [f"resume={tmp_path / 'one'}"])
    with pytest.raises(ConfigError, match="seed=0, this run has seed=1"):
        prepare("superweight", again, Objects(), overrides=["seed=1"])


def test_members_are_divided_by_their_time():
    """The longest first; with more ranks than members the slowest get several."""
    assert divide_members([1.0, 1.0], 2) == [[Post(0)], [Post(1)]]
    assert divide_members([3.0, 1.0, 1.0, 1.0], 2) == [
        [Post(0)],
        [Post(1), Post(2), Post(3)],
    ]
    assert divide_members([1.0, 2.0], 3) == [[Post(0)], [Post(1, 1, 2)], [Post(1, 2, 2)]]


def test_torchrun_must_fit_what_was_asked_for():
    """Both numbers are named."""
    one = Membership(0, 3, 0, 3, "127.0.0.1", 1, "x", True)
    with pytest.raises(ConfigError, match="ranks=2, but torchrun started 3"):
        check_ranks(compose("superweight", ["ranks=2"]), one)
    config = dataclasses.replace(compose("superweight", ["method=us"]), ranks=None)
    with pytest.raises(ConfigError, match="3 ranks for method=us"):
        check_ranks(config, one)
