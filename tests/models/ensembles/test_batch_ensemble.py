"""BatchEnsemble and MIMO, held against networks that are made by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from blockstep.models import make_network
from blockstep.models.ensembles import MIMO, BatchEnsemble, DeepEnsemble, mimo_batch
from blockstep.models.ensembles.batch_ensemble import _OwnNorms, _Perturbed
from torch import nn
from torch.nn.functional import cross_entropy


def plain(name: str = "wrn16-4", classes: int = 3, channels: int = 3) -> nn.Module:
    """Make a small network."""
    torch.manual_seed(0)
    return make_network(name, classes=classes, in_channels=channels, width=0.125).module


def images(count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Make images and labels."""
    torch.manual_seed(1)
    return torch.randn(count, 3, 8, 8), torch.arange(count) % 3


@pytest.mark.parametrize("name", ["wrn16-4", "mobilenetv2"])
def test_members_are_networks_with_rank_one_factors(name: str) -> None:
    """With own norms, each is the network whose weights are W * (s r^T), in training too."""
    ensemble = BatchEnsemble(plain(name).double(), 3, own_norms=True)
    x = images()[0].double()
    logits = ensemble(x)
    assert logits.shape == (3, 4, 3)
    for member in range(3):
        expected = plain(name).double()
        own = dict(expected.named_modules())
        for path, part in ensemble.network.named_modules():
            if isinstance(part, _Perturbed):
                layer = own[path]
                assert isinstance(layer, nn.Conv2d | nn.Linear)
                r, s = part.r[member], part.s[member]
                depthwise = isinstance(layer, nn.Conv2d) and layer.groups > 1
                factor = (r * s)[:, None] if depthwise else s[:, None] * r
                shape = (*factor.shape, *(1,) * (layer.weight.dim() - 2))
                layer.weight.data *= factor.view(shape)
                if part.b is not None:
                    assert layer.bias is not None
                    layer.bias.data.copy_(part.b[member])
        assert torch.allclose(expected(x), logits[member]), member


def test_shared_norms_see_all_members() -> None:
    """Without own norms there is one for all; with them, one for each."""
    shared = BatchEnsemble(plain(), 3)
    assert not any(isinstance(part, _OwnNorms) for part in shared.network.modules())
    x, y = images()
    shared(x)
    once = plain()
    once(x)
    tracked = [m for m in shared.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(tracked) == sum(isinstance(m, nn.BatchNorm2d) for m in once.modules())
    own = BatchEnsemble(plain(), 3, own_norms=True)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in own.modules()) == 3 * len(tracked)
    losses = own.backward(x, y, cross_entropy)
    assert len(losses) == 3
    assert all(one.grad is not None for one in own.parameters())


def test_the_published_rates() -> None:
    """Vectors and biases learn half as fast; vectors do not decay; nothing is left out."""
    ensemble = BatchEnsemble(plain(), 2, own_norms=True)
    kernels, biases, vectors = ensemble.parameter_groups(0.1, 5e-4)
    assert [g["lr"] for g in (kernels, biases, vectors)] == [0.1, 0.05, 0.05]
    assert [g["weight_decay"] for g in (kernels, biases, vectors)] == [5e-4, 5e-4, 0.0]
    count = sum(isinstance(m, nn.Conv2d | nn.Linear) for m in plain().modules())
    assert (len(vectors["params"]), len(biases["params"])) == (2 * count, 1)
    everything = [id(p) for g in (kernels, biases, vectors) for p in g["params"]]
    assert sorted(everything) == sorted(map(id, ensemble.parameters()))


def test_what_has_no_members() -> None:
    """No layer to perturb, no member."""
    with pytest.raises(ValueError, match="ReLU has no convolution or linear layer"):
        BatchEnsemble(nn.ReLU())
    with pytest.raises(ValueError, match="members=0"):
        BatchEnsemble(plain(), 0)


def test_the_members_images_of_mimo() -> None:
    """Every example occurs as often as it should for each member, with its own label."""
    x, y = torch.arange(6.0).view(6, 1), torch.arange(6)
    torch.manual_seed(0)
    stacked, labels = mimo_batch(x, y, 3, repetition=4)
    assert stacked.shape == (24, 3)
    assert torch.equal(stacked.T.long(), labels)
    assert all(row.bincount().tolist() == [4] * 6 for row in labels)
    assert not torch.equal(labels[0], labels[1])
    _, same = mimo_batch(x, y, 3, equal=1.0)
    assert torch.equal(same[0], same[1])
    _, half = mimo_batch(x, y, 2, equal=0.5)
    assert torch.equal(half[0, 12:], half[1, 12:])
    assert not torch.equal(half[0, :12], half[1, :12])


def test_mimo_is_one_network() -> None:
    """The same image for all members; classes of a member lie together."""
    network = plain(classes=6, channels=6).eval()
    ensemble = MIMO(network, 2)
    x, y = images()
    expected = network(torch.cat([x, x], 1))
    assert torch.equal(ensemble(x), torch.stack([expected[:, :3], expected[:, 3:]]))
    other = torch.randn_like(x)
    mixed = ensemble.classify(torch.cat([x, other], 1))
    assert torch.equal(mixed[1], network(torch.cat([x, other], 1))[:, 3:])
    state = torch.get_rng_state()
    losses = ensemble.backward(x, y, cross_entropy)
    found = [one.grad.clone() for one in network.parameters() if one.grad is not None]
    network.zero_grad()
    torch.set_rng_state(state)
    stacked, labels = mimo_batch(x, y, 2)
    total = sum(cross_entropy(ensemble.classify(stacked)[m], labels[m]) for m in (0, 1))
    assert isinstance(total, torch.Tensor)
    total.backward()
    assert torch.allclose(torch.stack(losses).sum(), total)
    for one, gradient in zip(network.parameters(), found, strict=True):
        assert torch.allclose(one.grad, gradient, atol=1e-6)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="equal=2 between 0 and 1"):
        MIMO(network, 2, equal=2)


def test_a_deep_ensemble_shares_nothing() -> None:
    """Its gradients are those of its members alone."""
    members = [plain() for _ in range(2)]
    members[1].get_parameter("fc.weight").data += 1
    ensemble = DeepEnsemble(copy.deepcopy(members))
    x, y = images()
    assert torch.equal(ensemble(x), torch.stack([member(x) for member in members]))
    ensemble.backward(x, y, cross_entropy)
    for ours, theirs in zip(ensemble.members, members, strict=True):
        cross_entropy(theirs(x), y).backward()
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(one.grad, other.grad)  # pyright: ignore[reportArgumentType]
