"""Learning rules from the command line's words to weights, against loops written by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.launch.assembly import build_heads
from blockstep.launch.cli import main
from blockstep.launch.compose import compose
from blockstep.launch.job import Objects
from blockstep.launch.preparation import Preparation
from blockstep.launch.refusal import ConfigError
from blockstep.launch.training.blocks import BUILDERS, build_block, head_loss
from blockstep.launch.training.forecast import forecast
from blockstep.launch.training.job import TrainJob
from blockstep.launch.training.method import METHODS
from blockstep.launch.training.preparation import prepare
from blockstep.models import make_head
from blockstep.pipeline.message import Kind, Message
from blockstep.pipeline.predsim import predsim_loss
from torch import Tensor, nn
from torch.nn import functional as F

from tests.launch.runs import QUIET, blockstep, same, states, summary

CPU = torch.device("cpu")
STEPS = 20
SMALL = (
    "model=resnet18",
    "model.width=0.0625",
    "blocks=3",
    f"train.steps={STEPS}",
    "train.batch_size=16",
    "train.threads=1",
    "wandb.mode=disabled",
)

Loss = Callable[[Any, Tensor, Tensor], Tensor]


@dataclass
class Parts:
    """A network cut into blocks, with initial weights.

    Attributes:
        bodies: One for each block.
        heads: One for each block; the last is the classifier.
    """

    bodies: Sequence[nn.Module]
    heads: Sequence[nn.Module]

    def states(self) -> list[dict[str, Any]]:
        """Return the weights of each block."""
        return [
            {"body": body.state_dict(), "head": head.state_dict()}
            for body, head in zip(self.bodies, self.heads, strict=True)
        ]


def prepared(*words: str, folder: Path) -> Preparation[TrainJob]:
    """Decide a training without beginning it."""
    config = compose("train", [*SMALL, *words, f"runs={folder}"])
    return prepare("train", config, Objects(), create=False)


def make_parts(preparation: Preparation[TrainJob]) -> Parts:
    """Copy what the stages begin with."""
    job, network = preparation.job, copy.deepcopy(preparation.network)
    heads = build_heads(network, job.decoupling, job.task, job.config.seed)
    bodies = [network.body(*bounds) for bounds in job.decoupling.bounds()]
    return Parts(bodies, [*heads, network.classifier])


def train_stages(preparation: Preparation[TrainJob]) -> list[dict[str, Any]]:
    """Let the stages of the run learn, one message after the other; return their states."""
    job, network = preparation.job, copy.deepcopy(preparation.network)
    heads = build_heads(network, job.decoupling, job.task, job.config.seed)
    blocks = [
        build_block(job, stage, network=network, heads=heads, device=CPU) for stage in (1, 2, 3)
    ]
    for step, pair in enumerate(batches(preparation), start=1):
        message = Message(Kind.BATCH, step, pair)
        for block in blocks:
            message = block.step(message)
    return [block.state_dict() for block in blocks]


def batches(preparation: Preparation[TrainJob]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of all steps."""
    return islice(preparation.data.train(batch_size=16), STEPS)


def train_by_hand(
    parts: Parts,
    pairs: Iterator[tuple[Tensor, Tensor]],
    *,
    losses: Sequence[Loss],
    make: Callable[[list[nn.Parameter], int], torch.optim.Optimizer],
) -> None:
    """Train block after block: forward, backward, step, detach (DGL, Algorithm 1).

    Args:
        parts: The blocks.
        pairs: Batches.
        losses: Of each block, from its head, its output and the labels.
        make: Makes the optimizer for some parameters at a step; asked again at every step, and
            the same one is kept as long as it returns None.
    """
    optimizers: dict[int, torch.optim.Optimizer] = {}
    for step, (x, y) in enumerate(pairs, start=1):
        h = x
        for k, (body, head) in enumerate(zip(parts.bodies, parts.heads, strict=True)):
            learning = [*body.parameters(), *head.parameters()]
            optimizers[k] = make(learning, step) or optimizers[k]
            optimizers[k].zero_grad()
            h = body(h.detach())
            losses[k](head, h, y).backward()
            optimizers[k].step()


def cross_entropy(head: Any, h: Tensor, y: Tensor) -> Tensor:
    """Return the loss of a head's logits."""
    return F.cross_entropy(head(h), y)


def test_dgl_is_the_sequential_loop(tmp_path: Path) -> None:
    """MLP-SR heads, SGD, a rate that falls in steps and a momentum that is emptied there.

    The weights of 20 steps are those of the loop of the paper's code, bit for bit, in which the
    optimizer is made anew at each decay.
    """
    decay = ("train.schedule=multistep", "train.milestones=[8,15]", "train.gamma=0.1")
    preparation = prepared(
        "method=dgl", *decay, "train.reset_momentum=true", "train.weight_decay=1e-4",
        "train.lr=0.1", folder=tmp_path,
    )  # fmt: skip
    assert preparation.job.decoupling.heads == ("mlp_sr", "mlp_sr")
    assert preparation.job.decoupling.cuts == (2, 5)

    def make(parameters: list[nn.Parameter], step: int) -> Any:
        rate = {1: 0.1, 9: 0.1 * 0.1, 16: 0.1 * 0.1**2}.get(step)
        return rate and torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=1e-4)

    parts = make_parts(preparation)
    train_by_hand(parts, batches(preparation), losses=[cross_entropy] * 3, make=make)
    for ours, theirs in zip(train_stages(preparation), parts.states(), strict=True):
        assert same({name: ours[name] for name in theirs}, theirs)


def test_predsim_is_its_loop(tmp_path: Path) -> None:
    """Adam, batches of few classes: 20 steps give the weights of a plain loop, bit for bit."""
    preparation = prepared(
        "method=predsim", "predsim.beta=0.9", "predsim.inputs=16", "data.classes_per_batch=4",
        "train.optimizer=adam", "train.schedule=constant", "train.lr=0.001", "train.lr_min=0",
        folder=tmp_path,
    )  # fmt: skip
    assert preparation.job.decoupling.heads == ("predsim", "predsim")

    def similarity(z: Tensor) -> Tensor:
        z = z - z.mean(1, keepdim=True)
        z = z / (1e-8 + torch.linalg.vector_norm(z, dim=1, keepdim=True))
        return (z @ z.T).clamp(-1, 1)

    def mixed(head: Any, h: Tensor, y: Tensor) -> Tensor:
        maps = F.conv2d(h, head.embedding.weight, padding=1)
        found, wanted = similarity(maps.std((2, 3))), similarity(torch.eye(10)[y])
        pooled = F.avg_pool2d(h, {4: 4, 16: 2}[h.shape[1]]).flatten(1)
        logits = F.linear(pooled, head.predictor.weight, head.predictor.bias)
        return (1 - 0.9) * F.cross_entropy(logits, y) + 0.9 * F.mse_loss(found, wanted)

    def make(parameters: list[nn.Parameter], step: int) -> Any:
        return step == 1 and torch.optim.Adam(parameters, lr=0.001, weight_decay=5e-4)

    parts, found = make_parts(preparation), train_stages(preparation)
    train_by_hand(parts, batches(preparation), losses=[mixed, mixed, cross_entropy], make=make)
    for ours, theirs in zip(found, parts.states(), strict=True):
        assert same({name: ours[name] for name in theirs}, theirs)


def test_every_rule_has_a_builder() -> None:
    """The table without torch and the one with it have the same names."""
    assert METHODS.keys() == BUILDERS.keys()


def test_the_stages_of_predsim(tmp_path: Path) -> None:
    """All but the last learn from the similarity too; predsim.inputs sizes their predictors."""
    preparation = prepared("method=predsim", "predsim.inputs=16", folder=tmp_path)
    job, network = preparation.job, preparation.network
    heads: list[Any] = build_heads(network, job.decoupling, job.task, 0)
    assert [head.predictor.in_features for head in heads] == [16, 16]
    kinds = [
        type(build_block(job, stage, network=network, heads=heads, device=CPU)).__name__
        for stage in (1, 2, 3)
    ]
    assert kinds == ["PredSimBlock", "PredSimBlock", "Block"]
    usual: list[Any] = build_heads(
        prepared("method=predsim", folder=tmp_path).network, job.decoupling, job.task, 0
    )
    assert [head.predictor.in_features for head in usual] == [128, 64]


def test_the_heads_of_a_decoupling_are_not_silently_replaced(tmp_path: Path) -> None:
    """Published cuts come with Aux heads; heads=predsim takes only the cuts."""
    words = ("method=predsim", "model=resnet50", "decoupling=sedona/resnet50", "data.size=8")
    with pytest.raises(ConfigError, match=r"sedona/resnet50 has the head aux4.*heads=predsim"):
        prepared(*words, folder=tmp_path)
    taken = prepared(*words, "heads=predsim", folder=tmp_path).job.decoupling
    assert (taken.cuts, taken.heads) == ((10, 12), ("predsim", "predsim"))


def test_a_predsim_head_alone_is_a_plain_predictor(tmp_path: Path) -> None:
    """method=decoupled heads=predsim learns to predict; the convolution stays as it was."""
    preparation = prepared("heads=predsim", "decoupling=uniform", folder=tmp_path)
    parts, after = make_parts(preparation), train_stages(preparation)
    for body, old, new in zip(parts.bodies[:2], parts.states(), after, strict=False):
        # Body, weight and bias of the predictor.
        assert len(new["optimizer"]["state"]) == len(list(body.parameters())) + 2
        assert torch.equal(old["head"]["embedding.weight"], new["head"]["embedding.weight"])
        assert not torch.equal(old["head"]["predictor.weight"], new["head"]["predictor.weight"])


def test_label_smoothing_is_told(tmp_path: Path) -> None:
    """PredSim was published without; the start of the run says so."""
    notes = prepared("method=predsim", "train.label_smoothing=0.1", folder=tmp_path).notes
    assert [note for note in notes if note.startswith("train.label_smoothing=0.1 smooths the cro")]
    assert not [
        note for note in prepared("method=predsim", folder=tmp_path).notes if "smooth" in note
    ]


def test_a_profile_times_the_whole_loss() -> None:
    """decoupling=balanced counts the similarity where it is trained, with the run's settings."""
    words = ("method=predsim", "predsim.beta=0.25", "train.label_smoothing=0.2")
    measured = head_loss(compose("train", words))
    assert measured is not None
    head: Any = make_head("predsim", shape=(6, 4, 4), classes=5)
    h, y = torch.randn(7, 6, 4, 4), torch.arange(7) % 5
    smooth = nn.CrossEntropyLoss(label_smoothing=0.2)
    expected = predsim_loss(head, h, y, criterion=smooth, beta=0.25)[1]
    assert torch.equal(measured(head, h, y), expected)
    assert head_loss(compose("train", ["method=dgl"])) is None


def test_a_dry_run_counts_the_similarity(tmp_path: Path) -> None:
    """The maps that are compared are kept for the backward pass, beside those of the predictor."""
    words = ("heads=predsim", "decoupling=uniform", "train.batch_size=1024")
    found = {}
    for method in ("decoupled", "predsim"):
        preparation: Any = prepared(f"method={method}", *words, folder=tmp_path)
        first = forecast(preparation).splitlines()[1]
        found[method] = float(first.partition("activations ")[2].partition(" MiB")[0])
    maps = 1024 * 4 * 8 * 8 * 4 / 2**20
    assert maps <= found["predsim"] - found["decoupled"] <= 2 * maps


# --- Whole runs ---------------------------------------------------------------------------------

RUN = (
    *QUIET,
    "method=predsim",
    "model=mlp",
    "model.width=0.125",
    "blocks=3",
    "train.batch_size=16",
    "train.schedule=constant",
    "train.lr_min=0",
    "data.classes_per_batch=3",
    "data.classes_until=7",
    "checkpoint.every=5",
    "checkpoint.keep=9",
)


def test_processes_and_a_resume_equal_one_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three processes, interrupted at step 5, have the weights of the stages one after another."""
    for words in (("train.steps=5",), ("train.steps=20", "resume=auto")):
        done = blockstep("train", *RUN, *words, "name=torn", cwd=tmp_path)
        assert done.code == 0, done.output
    folder = tmp_path / "runs" / "torn"
    ours = train_stages(prepared(*RUN, "train.steps=20", folder=tmp_path))
    assert same(states(folder, 20), ours)
    result = summary(folder)
    assert (result["method"], result["heads"]) == ("predsim", ["predsim", "predsim"])
    monkeypatch.chdir(tmp_path)
    assert main(["train", *RUN, "name=torn", "resume=auto", "predsim.inputs=8"]) == 2
    assert "predsim.inputs=None, this run has predsim.inputs=8" in capsys.readouterr().err
    assert main(["evaluate", "run=runs/torn"]) == 0
    assert f"block 1: accuracy {result['block_accuracy'][0]:.2%}" in capsys.readouterr().out


def test_few_classes_are_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the number of classes that there are."""
    monkeypatch.chdir(tmp_path)
    assert main(["train", *QUIET, "data.classes_per_batch=11"]) == 2
    told = "blockstep: data.classes_per_batch=11: the training part has examples of 10 classes"
    assert capsys.readouterr().err.startswith(told)
    assert not list(tmp_path.iterdir())
