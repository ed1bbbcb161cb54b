"""What a federation refuses before anything is prepared: every key by its name."""

from __future__ import annotations

import pytest
from blockstep.launch.compose import compose
from blockstep.launch.federate.config import FederateConfig
from blockstep.launch.refusal import ConfigError

REFUSED = [
    (["federate.chunks=[0.7,0.2]"], "federate.chunks", "sum to 0.9"),
    (["federate.chunks=[1.0,0.0]"], "federate.chunks", "above 0"),
    (["federate.chunks=[1.0]"], "federate.chunks", "at least two"),
    (["federate.chunks=[]"], "federate.chunks", "0 chunks"),
    (["federate.clients=2", "federate.per_round=1"], "federate.chunks", "federate.clients=2"),
    (["federate.per_round=101"], "federate.per_round", "at most federate.clients=100"),
    (["federate.per_round=0"], "federate.per_round", "at least 1"),
    (["federate.unreachable=1"], "federate.unreachable", "below 1"),
    (["federate.alpha=0"], "federate.alpha", "above 0"),
    (["federate.method=fedavgg"], "federate.method", "did you mean fedavg"),
    (["federate.skew=label"], "federate.skew", "labels, rotation, none"),
    (["federate.server=lamb"], "federate.server", "adam, sgd"),
    (["federate.samples=0"], "federate.samples", "at least 1"),
    (["federate.psi_lr=0"], "federate.psi_lr", "above 0"),
    (["federate.augmentation=none", "federate.learn_dropout=false"], "federate.learn_dropout",
     "nothing is left"),
    (["federate.method=augerino", "federate.augmentation=none"], "federate.augmentation",
     "its own ranges"),
    (["data.train_examples=99"], "data.train_examples", "federate.clients=100"),
    (["data.rotate=true", "federate.skew=rotation"], "data.rotate", "turns the images already"),
    (["data.classes_per_batch=2"], "data.classes_per_batch", "federate.skew=labels"),
    (["ranks=11"], "ranks", "share the 10 clients of each round"),
    (["train.precision=bfloat16"], "train.precision", "leave it at float32"),
    (["train.compile=true"], "train.compile", "leave it at false"),
    (["train.chunk=8"], "train.chunk", "lower train.batch_size"),
    (["checkpoint.best=true"], "checkpoint.best", "leave it at false"),
    (["evaluate.batch_size=0"], "evaluate.batch_size", "at least 1"),
    (["federate.rounds=5"], "federate.rounds", "there is no such key"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "key", "text"), REFUSED, ids=[one[0][-1] for one in REFUSED])
def test_impossible_values_are_refused(words: list[str], key: str, text: str) -> None:
    """With the key, its value, and what would be valid; nothing else is said."""
    with pytest.raises(ConfigError) as refused:
        compose("federate", words)
    (problem,) = refused.value.problems
    assert problem.startswith(f"{key}=")
    assert text in problem


def test_the_baselines_have_one_chunk() -> None:
    """Whatever federate.chunks says: all clients share everything."""
    for method in ("fedavg", "augerino"):
        config = compose("federate", [f"federate.method={method}", "federate.clients=1",
                                      "federate.per_round=1"])  # fmt: skip
        assert config.federate.shares == [1.0]
    assert FederateConfig().federate.shares == [0.7, 0.2, 0.1]


PAPER = [
    ("mnist", "mnist_cnn", "labels", 0.1, [0.7, 0.2, 0.1], (64, 0.05), (1e-3, 3e-3, 1e-8), 2000),
    ("rotated_mnist", "mnist_cnn", "rotation", 0.1, [0.7, 0.2, 0.1], (64, 0.05),
     (1e-3, 3e-3, 1e-8), 2000),
    ("cifar10", "resnet9", "labels", 1.0, [0.9, 0.1], (32, 10**-0.5), (1e-2, 1e-3, 1e-7), 5000),
    ("rotated_cifar10", "resnet9", "rotation", 0.1, [0.9, 0.1], (32, 10**-0.5),
     (1e-2, 1e-3, 1e-7), 5000),
]  # fmt: skip


@pytest.mark.parametrize("row", PAPER, ids=[row[0] for row in PAPER])
def test_the_presets_are_the_papers(row: tuple) -> None:
    """Appendix J: 100 clients, local SGD without momentum, Adam at the server, dropout of 0.1."""
    name, model, skew, alpha, chunks, local, server, rounds = row
    config = compose("federate", [f"preset={name}"])
    settings, train = config.federate, config.train
    assert (config.model["name"], config.model["dropout"]) == (model, 0.1)
    assert (settings.skew, settings.alpha, settings.chunks) == (skew, alpha, chunks)
    assert (train.batch_size, train.lr) == pytest.approx(local)
    assert (settings.server_lr, settings.psi_lr, settings.server_eps) == server
    assert (train.steps, settings.clients, settings.samples, settings.epochs) == (
        rounds, 100, 10, 1,
    )  # fmt: skip
    assert (train.optimizer, train.momentum, train.weight_decay) == ("sgd", 0.0, 0.0)
    assert (train.schedule, train.label_smoothing, settings.server) == ("constant", 0.0, "adam")
    assert settings.psi_batch == (None if "mnist" in name else 32)
    assert (config.data.augment.crop, config.data.augment.flip) == (0, False)
    held = {"mnist": 60_000, "cifar10": 50_000}[name.removeprefix("rotated_")]
    assert round(held * config.data.validation) == (10_000 if "mnist" in name else 5000)
