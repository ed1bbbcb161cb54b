"""Deciding a federation: who holds what, what is learned, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.launch.assembly import build_data
from blockstep.launch.compose import compose
from blockstep.launch.data.rotation import draw_angles, rotate
from blockstep.launch.federate.announcement import announcement
from blockstep.launch.federate.forecast import forecast
from blockstep.launch.federate.holdings import HeldExamples, in_memory, turn
from blockstep.launch.federate.job import FederateJob
from blockstep.launch.federate.model import plain_state
from blockstep.launch.federate.preparation import FederatePreparation, check_ranks, prepare
from blockstep.launch.job import Objects
from blockstep.launch.membership import Membership
from blockstep.launch.refusal import ConfigError
from blockstep.models import make_network
from blockstep.models.hyperparameters import Augerino, Averaged
from blockstep.models.partitioned import PartitionedModule
from blockstep.search.federated import angle_bins
from torch.utils.data import Dataset

CPU = torch.device("cpu")


def decide(*words: str, **options: Any) -> FederatePreparation:
    """Prepare a federation on digits, without a folder."""
    config = compose("federate", ["wandb.mode=disabled", "train.threads=1", *words])
    return prepare("federate", config, options.pop("objects", Objects()), create=False, **options)


def names(model: PartitionedModule) -> list[str]:
    return list(model.hyperparameters())


def test_what_each_method_learns() -> None:
    """Partitions learn augmentation and dropout rates; Augerino its ranges; FedAvg nothing."""
    drop = "model.dropout=0.1"
    learned = decide(drop, "federate.augmentation=generators").federated.model
    assert names(learned)[0] == "change.ranges"
    assert [name.rpartition(".")[2] for name in names(learned)[1:]] == ["keep"] * 4
    assert len(learned) == 3
    assert names(decide("federate.learn_dropout=false", drop).federated.model) == ["change.sizes"]
    augerino = decide(drop, "federate.method=augerino", "federate.strength=0.5").federated
    assert (len(augerino.model), names(augerino.model)) == (1, ["change.raw"])
    change = augerino.model.network.get_submodule("change")
    assert isinstance(change, Augerino)
    assert augerino.judge is not None
    logits, labels = torch.zeros(2, 10), torch.tensor([1, 2])
    plain = augerino.criterion(logits, labels)
    penalty = augerino.judge(logits, labels) - plain
    torch.testing.assert_close(penalty, change.penalty(0.5, safe=True))
    fedavg = decide(drop, "federate.method=fedavg").federated
    assert (len(fedavg.model), names(fedavg.model), fedavg.judge) == (1, [], None)
    assert not isinstance(fedavg.model.network, Averaged)


def test_all_methods_begin_with_the_same_weights() -> None:
    """And what a run leaves fits the network as the user knows it."""
    states = [
        plain_state(decide("model.dropout=0.1", f"federate.method={method}").federated.model)
        for method in ("partitioned", "augerino", "fedavg")
    ]
    for state in states[1:]:
        assert state.keys() == states[0].keys()
        assert all(torch.equal(value, states[0][name]) for name, value in state.items())
    network = make_network("mnist_cnn", classes=10, in_channels=1, size=8, dropout=0.1)
    network.module.load_state_dict(states[0])


def test_every_client_has_its_examples_and_its_chunk() -> None:
    """The same whatever the seed of the run; the chunks follow the seed."""
    one, two = decide().population, decide("seed=1").population
    assert one.counts(3) == two.counts(3) == [70, 20, 10]
    for ours, theirs in zip(one.clients, two.clients, strict=True):
        assert torch.equal(ours.indices, theirs.indices)
    assert [c.chunk for c in one.clients] != [c.chunk for c in two.clients]
    everything = torch.cat([client.indices for client in one.clients])
    assert sorted(everything.tolist()) == list(range(1257))


def test_label_skew_is_of_labels_and_rotation_skew_of_angles() -> None:
    """Few classes in a client, or few angles; neither where clients are alike."""
    prepared = decide()
    data = in_memory(prepared.data)
    labels, angles = data.held("train").labels, draw_angles(1257, "train")

    def kinds(words: list[str], of: torch.Tensor) -> float:
        clients = decide(*words).population.clients
        return sum(len(of[client.indices].unique()) for client in clients) / len(clients)

    bins = angle_bins(angles, 10)
    assert kinds([], labels) < 3
    assert kinds([], bins) > 6
    assert kinds(["federate.skew=rotation"], bins) < 3
    assert kinds(["federate.skew=rotation"], labels) > 6
    assert kinds(["federate.skew=none"], labels) > 6


def test_rotation_skew_turns_every_image_of_every_split() -> None:
    """By the angles that decide who holds it, before it is normalised."""
    config = compose("federate", ["federate.skew=rotation", "federate.bins=4"])
    plain = in_memory(build_data(config, Objects(), CPU))
    turned = in_memory(build_data(config, Objects(), CPU))
    turn(config, turned)
    for split, size in turned.sizes.items():
        expected = rotate(plain.held(split).x, draw_angles(size, split))
        x, y = HeldExamples(turned, split).batch(torch.arange(size), None)
        assert torch.equal(x, plain.prepare(expected, None))
        assert torch.equal(y, plain.held(split).labels)
    turn(compose("federate", []), plain)
    assert not torch.equal(plain.held("test").x, turned.held("test").x)


def test_augmentation_by_hand_is_possible() -> None:
    """It depends on the step that a batch is of, not on who asks."""
    config = compose("federate", ["data.augment.crop=2"])
    data = in_memory(build_data(config, Objects(), CPU))
    examples, some = HeldExamples(data, "train"), torch.arange(5)
    x, _ = examples.batch(some, 12345)
    assert torch.equal(x, examples.batch(some, 12345)[0])
    assert not torch.equal(x, examples.batch(some, 54321)[0])
    assert not torch.equal(x, examples.batch(some, None)[0])


class Items(Dataset):
    """A part of a user's own data set, read item by item."""

    classes = 3

    def __len__(self) -> int:
        return 300

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.zeros(1, 8, 8), index % 3


REFUSED = [
    (["model=resnet18", "model.width=0.125"], r"running statistics \(.*running_mean\).*resnet9"),
    (["data=input_selection", "model=mlp_gelu", "federate.clients=10"], "affine maps are for"),
    (["data=input_selection", "model=mlp_gelu", "federate.augmentation=none"],
     "no dropout to learn"),
    (["federate.augmentation=none"], "no dropout to learn.*model.dropout=0.1"),
    (["federate.clients=1258"], "1258 clients for 1257 examples"),
    (["federate.chunks=[0.996,0.004]"], "chunk 2 of 2 has none of 100 clients"),
    (["data=input_selection", "model=mlp_gelu", "federate.method=fedavg",
      "federate.skew=rotation"], "only images of bytes can be turned"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "text"), REFUSED)
def test_what_cannot_be_is_refused(words: list[str], text: str) -> None:
    """Before a process starts, with what would help."""
    with pytest.raises(ConfigError, match=text):
        decide(*words)


def test_examples_that_are_read_one_by_one_are_refused() -> None:
    """Clients hold examples in memory."""
    data = {"train": Items(), "test": Items()}
    with pytest.raises(ConfigError, match="held in memory"):
        decide("federate.clients=10", objects=Objects(data=data))


def test_only_images_of_bytes_are_turned() -> None:
    """Floats may be normalised already: black is no longer 0."""
    part = (torch.zeros(300, 1, 8, 8), torch.arange(300) % 3)
    with pytest.raises(ConfigError, match="only images of bytes can be turned"):
        decide("federate.skew=rotation", objects=Objects(data={"train": part, "test": part}))


def member(world: int) -> Membership:
    return Membership(0, world, 0, world, "127.0.0.1", 1, "x", False)


def test_ranks() -> None:
    """As many as can have a client; torchrun's number counts."""
    assert decide("federate.per_round=1").job.ranks == 1
    assert decide("ranks=3").job.ranks == 3
    assert decide(member=member(4)).job.ranks == 4
    with pytest.raises(ConfigError, match="12 ranks share the 10 clients"):
        check_ranks(compose("federate", []), member(12))
    with pytest.raises(ConfigError, match="ranks=2, but torchrun started 3"):
        check_ranks(compose("federate", ["ranks=2"]), member(3))


def test_every_rank_is_told_the_same() -> None:
    """A job survives its way to another process."""
    job = decide("federate.clients=50", "ranks=2").job
    assert FederateJob.from_json(job.to_json()) == job
    assert job.facts["federate.clients"] == 50
    assert (job.steps, job.parts, job.label(1)) == (200, 1, "rank 1")


def test_the_start_and_the_dry_run_tell_the_upload() -> None:
    """By chunk and by tensor, with what rounding does."""
    prepared = decide("federate.chunks=[0.7,0.21,0.09]", "name=x")
    told = announcement(prepared)
    assert "100 clients of 12-13 examples that differ in their labels (alpha 0.1)" in told
    assert "3 chunk(s) with 70, 21, 9 clients" in told
    shares = 0.7 + 0.21 * 0.3 + 0.09 * 0.09
    assert f"({shares:.2%} by the shares, " in told
    assert "points by rounding" in told
    assert "learned: weights, and change.sizes (6)" in told
    text = forecast(prepared)
    assert "chunk 2: 21 clients" in text
    assert "network.hidden.0.0.bias: 14 + 4 + 2 (14 + 4.2 + 1.8)" in text
    assert not Path("runs/x").exists()
