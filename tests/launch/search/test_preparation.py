"""Tests of `blockstep.launch.search.preparation`: what is refused before a process starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from blockstep.launch.compose import compose
from blockstep.launch.job import Objects
from blockstep.launch.membership import Membership
from blockstep.launch.refusal import ConfigError
from blockstep.launch.search.announcement import announcement
from blockstep.launch.search.forecast import forecast
from blockstep.launch.search.job import SearchJob
from blockstep.launch.search.preparation import SearchPreparation, check_ranks, prepare
from torch import nn

SMALL = (
    "model=mlp", "model.hidden=8", "model.depth=4", "data=digits", "search.heads=[linear]",
    "search.validation_batch=50", "train.threads=1", "name=x",
)  # fmt: skip


class Two(nn.Sequential):
    """A network of two layers."""

    def __init__(self, classes: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, classes))


class Never(nn.Module):
    """A head that fits nowhere."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        raise ValueError(f"no head for {shape}")


class Rare:
    """Three classes, of which the last has two training examples."""

    def __init__(self) -> None:
        y = torch.tensor([0] * 40 + [1] * 40 + [2] * 2)
        self.train = self.test = (torch.randn(82, 64), y)


@pytest.fixture(autouse=True)
def threads():
    """Deciding a run sets the threads of this process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def decide(*words: str, member: Membership | None = None) -> SearchPreparation:
    """Decide a search that is not started."""
    config = compose("search", [*SMALL, *words])
    return prepare("search", config, Objects(), overrides=words, member=member, create=False)


def refused(*words: str) -> str:
    with pytest.raises(ConfigError) as error:
        decide(*words)
    return str(error.value)


def member(world: int) -> Membership:
    """Rank 0 of torchrun's."""
    return Membership(0, world, 0, world, "127.0.0.1", 1, "x", True)


def test_a_search_is_decided():
    """Ranks, device and threads are resolved; nothing is written."""
    found = decide()
    config = found.job.config
    assert (config.ranks, config.train.threads) == (1, 1)
    assert config.device in ("cpu", "cuda")
    assert (found.job.network, found.job.layers) == ("mlp", 4)
    assert found.job.steps == 42_000
    assert not found.job.folder.path.exists()
    assert SearchJob.from_json(found.job.to_json()) == found.job


def test_a_validation_part_of_the_data_sets_own_is_told():
    """digits brings 180 examples, whatever the share is."""
    told = "digits brings its own validation part of 180: data.validation=0.4 is not used"
    assert told in decide().notes


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["search.validation_batch=181"],
            "search.validation_batch=181 is larger than the validation part of digits, which has "
            "180 examples; give at most 180",
        ),
        (["train.batch_size=1300"], "train.batch_size=1300 is larger than the training part"),
        (
            ["data.train_examples=6", "train.batch_size=2"],
            "leaves classes 0, 2, 7, 8 without an example in the train part of digits (6 examples)",
        ),
        (["blocks=5"], "blocks=5, but mlp has 4 layers; give blocks between 2 and 4"),
        (["model.depth=2"], "mlp has 2 layers; a search needs at least 3"),
        ([f"search.heads=[{{_target_:{__name__}.Never}}]"], 'Never"} does not fit after layer 1'),
        (["search.samples=2", "ranks=2", "pipeline.devices=[cpu]"], "names 1 devices for 2 ranks"),
        (["pipeline.devices=[cpu,cpu]"], "2 ranks share search.samples=1"),
        (["resume=auto", "name=nothing", "blocks=9"], "blocks=9, but mlp has 4 layers"),
        (["resume=runs/nothing"], "resume=runs/nothing is not the folder of a run"),
    ],
)
def test_refusals(words: list[str], told: str):
    """The key, both values, and what would be valid."""
    assert told in refused(*words)


def test_a_network_of_two_layers_is_refused():
    """A user's own, too."""
    config = compose(
        "search", ["model._target_=" + f"{__name__}.Two", *[w for w in SMALL if "model" not in w]]
    )
    with pytest.raises(ConfigError, match="Two has 2 layers; a search needs at least 3"):
        prepare("search", config, Objects(), create=False)


def test_a_share_that_leaves_a_class_empty_is_refused():
    """20 % of two examples are none."""
    data = [f"data._target_={__name__}.Rare", "train.batch_size=8", "search.validation_batch=8"]
    words = [word for word in SMALL if not word.startswith(("data", "search.validation"))]
    config = compose("search", [*words, *data, "data.validation=0.2", "blocks=2"])
    with pytest.raises(ConfigError) as error:
        prepare("search", config, Objects(), create=False)
    told = "data.validation=0.2 leaves class 2 without an example in the validation part of Rare"
    assert told in str(error.value)
    config.data.validation = 0.5
    assert prepare("search", config, Objects(), create=False).job.task.sizes["validation"] == 41


@pytest.mark.parametrize(("samples", "devices", "ranks"), [(1, None, 1), (3, "[cpu,cpu]", 2)])
def test_ranks_are_one_for_each_sample_as_far_as_there_is_room(
    samples: int, devices: str | None, ranks: int
):
    """Devices that are named say how many."""
    words = [f"search.samples={samples}", *([f"pipeline.devices={devices}"] if devices else [])]
    assert decide(*words).job.ranks == ranks


def test_torchrun_says_how_many_ranks():
    """Any number up to the samples; more are refused with both numbers."""
    assert decide("search.samples=3", member=member(2)).job.ranks == 2
    config = compose("search", [*SMALL, "search.samples=2"])
    check_ranks(config, member(2))
    with pytest.raises(ConfigError, match=r"3 ranks share search\.samples=2 of each outer step"):
        check_ranks(config, member(3))
    config.ranks = 1
    with pytest.raises(ConfigError, match="ranks=1, but torchrun started 2"):
        check_ranks(config, member(2))


def test_the_start_tells_what_will_run():
    """Network, places, heads, both phases, processes."""
    text = announcement(decide("search.samples=2", "ranks=2"))
    assert "mlp (0.00 M parameters, 4 layers) on digits (1257 train, 180 validation" in text
    assert "3 places to cut, heads linear" in text
    assert "pretraining: 40000 steps of 128 examples; the best 50 of 500 validations" in text
    assert "2000 outer steps, each 5 inner steps from 2 snapshot(s) and 50 validation" in text
    assert "2 process(es), 1 thread(s) each" in text
    none = announcement(decide("train.steps=0", "search.memory=1"))
    assert "no pretraining: the search begins from the initial weights" in none


def test_a_dry_run_tells_memory_and_disk():
    """Counted from the tensors; a graph that is kept costs as much again."""
    text = forecast(decide())
    assert "nothing is started" in text
    network = decide().network
    weights = sum(p.numel() for p in network.module.parameters())
    weights += 3 * (8 * 10 + 10)  # a linear head after each of three layers
    buffers = sum(b.nbytes for b in network.module.buffers())
    assert f"50 snapshots of {(8 * weights + buffers) / 2**20:.1f} MiB" in text
    assert "1 graph(s)" in text
    assert "3 graph(s)" in forecast(decide("search.keep_graphs=2"))
    assert not Path("runs/x").exists()
