"""The methods that partitioned networks are compared with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from blockstep.models.hyperparameters import Augerino, Averaged, ConcreteMask
from blockstep.models.partitioned import partition
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.pipeline.seed import derive
from blockstep.search.partitioned import Chunks, PartitionedTraining, Settings, TensorExamples
from blockstep.search.partitioned.peers import IndependentNetworks, PeerTraining
from torch import nn

STEPS = 12
WEIGHTS = OptimizationConfig(
    steps=STEPS, batch_size=8, lr=0.05, momentum=0.9, weight_decay=0.01, schedule="constant"
)
HYPER = replace(Settings().hyper, batch_size=6, lr=0.05)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(ConcreteMask(6), nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))


def data() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(5)
    y = torch.randint(0, 3, (40,))
    return torch.randn(40, 6) + y[:, None], y


def peer(method: str, chunks: list[float], y: torch.Tensor | None = None, **options: Any) -> Any:
    x, labels = data()
    return PeerTraining(
        partition(network(), [1.0], seed=0),
        TensorExamples(x, labels if y is None else y),
        Chunks(40, chunks, seed=3),
        method=method,
        settings=Settings(weights=WEIGHTS, hyper=HYPER, decay_scaling="none", keep_best=False),
        seed=3,
        **options,
    )


def train(training: PartitionedTraining, steps: int = STEPS) -> dict[str, torch.Tensor]:
    for _ in range(steps):
        training.advance()
    return {name: one.detach().clone() for name, one in training.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], part: str) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one if part in name)


def test_plain_is_a_loop_written_by_hand():
    """Stock SGD on batches of all examples; the hyperparameters keep their bits; no L_ML."""
    training = peer("plain", [1.0])
    before = training.model.hyperparameters()["0.mask"].detach().clone()
    state = train(training)
    assert torch.equal(state["network.0.mask"], before)
    assert list(training.judging) == []
    x, y = data()
    own, chunks = network().train(), Chunks(40, [1.0], seed=3)
    weights = [one for name, one in own.named_parameters() if name != "0.mask"]
    optimizer = torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=0.01)
    for step in range(1, STEPS + 1):
        indices = chunks.draw_first(step, 8).indices
        torch.manual_seed(derive(3, "learn", step))
        optimizer.zero_grad()
        F.cross_entropy(own(x[indices]), y[indices]).backward()
        optimizer.step()
    found = training.model.subnetwork_state()
    assert all(torch.allclose(found[name], one) for name, one in own.state_dict().items())


def test_a_validation_set_is_not_learned_from_by_weights_until_they_are_finetuned():
    """Other labels there change the hyperparameters; with these fixed, nothing but the tuning."""
    _, y = data()
    held = Chunks(40, [0.75, 0.25], seed=3).of(2)
    other = y.clone()
    other[held] = (y[held] + 1) % 3
    shares = [0.75, 0.25]
    one, two = train(peer("validation", shares)), train(peer("validation", shares, other))
    assert not same(one, two, "mask")
    still = [peer("validation", shares, labels) for labels in (y, other)]
    for training in still:
        training._hyper.optimizer = None
    states = [train(training) for training in still]
    assert same(states[0], states[1], "")
    tuned = [peer("validation", shares, labels, finetune=4) for labels in (y, other)]
    for training in tuned:
        training._hyper.optimizer = None
    states = [train(training, 8) for training in tuned]
    assert same(states[0], states[1], "")
    assert list(tuned[0].judging) == [2]
    states = [train(training, 4) for training in tuned]
    assert not same(states[0], states[1], "partitions")
    # What has been learned from judges nothing.
    assert list(tuned[0].judging) == []
    assert tuned[0]._learners[0].optimizer.param_groups[0]["lr"] == 0.01


def test_augerino_learns_widths_from_the_training_loss_less_its_reward():
    """One step by Adam follows the sign of the derivative of both together."""
    torch.manual_seed(0)
    images, labels = torch.rand(20, 1, 6, 6), torch.arange(20) % 3
    body = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    for reward in (0.0, 100.0):
        module = Averaged(Augerino(), body, samples=2, training_samples=1)
        model = partition(module, [1.0], seed=0)
        training = PeerTraining(
            model, TensorExamples(images, labels), Chunks(20, [1.0], seed=3), method="augerino",
            settings=Settings(weights=WEIGHTS, hyper=HYPER, decay_scaling="none"), seed=3,
            strength=reward,
        )  # fmt: skip
        before = model.hyperparameters()["change.raw"].detach().clone()
        training.advance()
        moved = model.hyperparameters()["change.raw"].detach() - before
        assert moved.abs().max() > 0
        assert bool((moved > 0).all()) == (reward > 0)


def test_independent_networks_share_hyperparameters_and_nothing_else():
    """Network k alone learns in its step; a judge changes psi, which is that of all; L_ML sums."""
    shares = [0.5, 0.3, 0.2]
    x, y = data()
    model = IndependentNetworks([network() for _ in shares], hyperparameters=[])
    training = PartitionedTraining(
        model,  # pyright: ignore[reportArgumentType]
        TensorExamples(x, y),
        Chunks(40, shares, seed=3),
        settings=Settings(weights=WEIGHTS, hyper=HYPER, keep_best=False),
        seed=3,
    )
    for _ in range(6):
        before = [[one.clone() for one in model.values_of(k)] for k in (1, 2, 3)]
        counts = [model.statistics_of(k)[2].item() for k in (1, 2, 3)]
        psi = model.hyperparameters()["0.mask"].detach().clone()
        done = training.advance()
        for k in (1, 2, 3):
            pairs = zip(before[k - 1], model.values_of(k), strict=True)
            changed = [not torch.equal(a, b) for a, b in pairs]
            assert any(changed) == (k == done.partition)
            counted = model.statistics_of(k)[2].item() - counts[k - 1]
            assert counted == (k == done.partition)
        assert not torch.equal(model.hyperparameters()["0.mask"], psi)
    masks = {id(one.get_parameter("0.mask")) for one in model.networks}
    assert len(masks) == 1
    measured = training.measure()
    expected = 0.0
    for k in (2, 3):
        chunk = Chunks(40, shares, seed=3).of(k)
        logits = model.networks[k - 2].eval()(x[chunk])
        expected -= F.cross_entropy(logits, y[chunk], reduction="sum").item()
    assert measured.objective == pytest.approx(expected, rel=1e-5)


def test_a_peer_has_one_partition():
    """And the chunks of its method."""
    with pytest.raises(ValueError, match="plain has one partition and 1 chunk"):
        peer("plain", [0.5, 0.5])
    with pytest.raises(ValueError, match="2 chunk"):
        peer("validation", [1.0])
