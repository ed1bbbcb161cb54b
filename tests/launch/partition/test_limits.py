"""What a partitioned training refuses before any process starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from blockstep.launch.compose import compose
from blockstep.launch.job import Objects
from blockstep.launch.partition.preparation import prepare
from blockstep.launch.refusal import ConfigError
from torch import Tensor, nn

MANY = "[" + ",".join(["0.00390625"] * 256) + "]"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["partition.chunks=[0.5,0.4]"], r"partition.chunks=\[0.5,0.4\]: sums to 0.9, not to 1"),
        (["partition.chunks=[1.0]"], "has 1 entries; give 2 to 255"),
        ([f"partition.chunks={MANY}"], "has 256 entries; give 2 to 255"),
        (["partition.chunks=[1.2,-0.2]"], "each share has to be above 0"),
        (["partition.parameters=[0.5,0.5]"], "names 2 partitions for the 3 chunks"),
        (["partition.parameters=[0.5,0.2,0.2]"], "sums to 0.9"),
        (["ranks=2"], "2 ranks for 3 partitions: each rank owns one; give 3"),
        (["ranks=1", "partition.staleness=2"], "one process has no copies"),
        (["partition.staleness=-1"], "must be at least 0"),
        (["partition.kind=rows"], "choose one of random, node"),
        (["partition.decay=linear"], "choose one of reciprocal, sqrt, none"),
        (["psi=warp"], "psi=warp: there is no such choice; choose one of affine"),
        (["psi.samples=0"], "psi.samples=0: must be at least 1"),
        (["psi=mask", "psi.samples=5"], "psi.samples=5: is for psi=affine"),
        (["psi=layers"], "psi=layers needs names"),
        (["psi.layers=[conv1]"], "is for psi=layers, not for psi=affine"),
        (["psi.every=50", "train.steps=20"], "nothing is learned within train.steps=20"),
        (["train.precision=bfloat16"], "needs float32; leave it at float32"),
        (["train.compile=true"], "composed anew"),
        (["data.classes_per_batch=2"], "batches are drawn from the chunks"),
        (["partition.method=plain", "partition.chunks=[0.5,0.5]"], "plain has 1: all examples"),
        (["partition.method=validation", "partition.chunks=[0.5,0.3,0.2]"], "validation has 2"),
        (["partition.method=augerino"], "partition.method=augerino needs psi=augerino"),
        (["partition.method=random", "psi=mask"], "draws ranges; choose psi=affine"),
        (["partition.finetune=5"], "is for partition.method=validation, not for partitioned"),
        (["partition.method=independent", "ranks=3"], "independent is one process"),
        (["partition.method=plain", "partition.kind=node"], "does not divide the weights"),
    ],
)
def test_impossible_values(words: list[str], told: str):
    """Each is named with its key, its value, and what would be valid."""
    with pytest.raises(ConfigError, match=told):
        compose("partition", words)


def test_the_toy_brings_its_network_and_settings():
    """What is typed wins; other commands get the network too."""
    config = compose("partition", ["data=input_selection"])
    assert (config.model["name"], config.psi.name) == ("mlp_gelu", "mask")
    assert config.partition.chunks == [0.25] * 4
    train, psi = config.train, config.psi
    assert (train.optimizer, train.lr, train.batch_size) == ("adam", 1e-3, 256)
    assert (psi.optimizer, psi.lr, psi.temperature) == ("adam", 1e-3, None)
    assert compose("train", ["data=input_selection"]).model["name"] == "mlp_gelu"
    typed = compose("partition", ["data=input_selection", "model=mlp", "psi=none"])
    assert (typed.model["name"], typed.psi.name) == ("mlp", "none")


def test_a_method_brings_its_chunks():
    """All examples, or nine to one; unless chunks are typed."""
    chunks = {
        method: compose("partition", [f"partition.method={method}", f"psi={psi}"]).partition.chunks
        for method, psi in (("plain", "none"), ("augerino", "augerino"), ("validation", "affine"))
    }
    assert chunks == {"plain": [1.0], "augerino": [1.0], "validation": [0.9, 0.1]}
    words = ["partition.method=validation", "partition.chunks=[0.5,0.5]"]
    assert compose("partition", words).partition.chunks == [0.5, 0.5]


class Odd(nn.Module):
    """A parameter that is used nowhere, and one that nobody knows how to divide."""

    def __init__(self, *, unknown: bool = False) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 10)
        self.unused = nn.Linear(3, 3)
        if unknown:
            self.strange = nn.Bilinear(2, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


def refusal(tmp_path: Path, module: nn.Module | None, *words: str) -> str:
    """Return why a run on digits is refused; nothing may have been made."""
    own = ("data=digits", "train.batch_size=8", "train.threads=1", f"runs={tmp_path}", "name=a")
    config = compose("partition", [*own, *words])
    with pytest.raises(ConfigError) as refused:
        prepare("partition", config, Objects(module))
    assert not (tmp_path / "a").exists()
    return str(refused.value)


def test_networks_that_do_not_fit_are_refused(tmp_path: Path):
    """An unused hyperparameter and a parameter that cannot be divided are named."""
    told = refusal(tmp_path, Odd(), "psi=layers", "psi.layers=[unused.bias,fc.bias]")
    assert "does not use the hyperparameter unused.bias" in told
    assert "strange.weight of a Bilinear cannot be partitioned" in refusal(
        tmp_path, Odd(unknown=True), "psi=none"
    )
    assert "no nn.Dropout" in refusal(tmp_path, Odd(), "psi=dropout")
    told = refusal(tmp_path, Odd(), "psi=layers", "psi.layers=[nowhere]")
    assert "nowhere is no parameter" in told


def test_chunks_and_classes_without_examples_are_refused(tmp_path: Path):
    """Before anything is made."""
    told = refusal(tmp_path, Odd(), "psi=none", "partition.chunks=[0.9998,0.0001,0.0001]")
    assert "chunk 2 of 3 has no examples" in told
    words = ("data.train_examples=5", "partition.chunks=[0.5,0.5]")
    few = refusal(tmp_path, Odd(), "psi=none", *words)
    assert "has no example among the 5 of digits" in few


def test_a_decided_run_has_not_drawn_from_the_generator_of_its_caller(tmp_path: Path):
    """The trial step leaves torch's random numbers as they were."""
    config = compose(
        "partition",
        ["data=input_selection", "train.threads=1", f"runs={tmp_path}", "model.hidden=4"],
    )
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    preparation = prepare("partition", config, Objects(), create=False)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert preparation.model.sizes == [
        sum(one.numel() for one in preparation.model.values_of(k)) for k in (1, 2, 3, 4)
    ]
    assert preparation.chunks.sizes == [750] * 4
