"""The stages of learning to share, on small members."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from blockstep.models import Network, make_network
from blockstep.models.superweight import SuperWeightEnsemble, parameter_groups, superweights
from blockstep.search.sharing.file import SharingFile
from blockstep.search.sharing.gradients import coefficient_contributions, weight_gradients
from blockstep.search.sharing.learning import (
    first_ensemble,
    learn_clusters,
    learners,
    separate_coefficients,
)
from torch import Tensor
from torch.nn.functional import cross_entropy

NAMES = ("wrn16-4", "wrn16-2", "wrn22-2")


def members() -> list[Network]:
    """Make members of two depths and two widths."""
    torch.manual_seed(0)
    return [make_network(name, classes=3, width=0.125) for name in NAMES]


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    """Yield an epoch of two batches."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        x = torch.randn(6, 3, 8, 8, generator=generator)
        yield x, x.mean((1, 2, 3)).sign().long() + 1


def train(ensemble: SuperWeightEnsemble, steps: int = 2) -> torch.optim.Optimizer:
    """Train a little."""
    optimizer = torch.optim.SGD(parameter_groups(ensemble, 5e-4), lr=0.05, momentum=0.9)
    for _ in range(steps):
        for x, y in batches():
            optimizer.zero_grad()
            ensemble.backward(x, y, cross_entropy)
            optimizer.step()
    return optimizer


def test_gradients_of_an_epoch() -> None:
    """They are sums over the batches; parameters, norms and modes stay as they were."""
    ensemble = superweights(members(), "50%")
    before = {name: tensor.clone() for name, tensor in ensemble.state_dict().items()}
    found = weight_gradients(ensemble, batches, cross_entropy, members=[1])
    assert all(torch.equal(before[name], t) for name, t in ensemble.state_dict().items())
    assert all(parameter.grad is None for parameter in ensemble.parameters())
    assert all(module.training for module in ensemble.modules())
    assert list(found) == [use.key for use in ensemble.superweights.recipes[1].uses]
    plain = make_network("wrn16-2", classes=3, width=0.125).module.eval()
    plain.load_state_dict(ensemble.plain_state(1))
    for x, y in batches():
        cross_entropy(plain(x), y).backward()
    for (_, name), gradient in found.items():
        expected = plain.get_parameter(name).grad
        assert expected is not None
        assert torch.allclose(gradient, expected, atol=1e-6), name
    with pytest.raises(ValueError, match="at least one batch"):
        weight_gradients(ensemble, lambda: [], cross_entropy)


def test_contributions_add_up_to_the_gradient_of_shared_coefficients() -> None:
    """Over all weights of a row, and over an epoch."""
    ensemble = first_ensemble(members(), "50%").eval()
    gradients = weight_gradients(ensemble, batches, cross_entropy)
    contributions = coefficient_contributions(ensemble, gradients)
    for x, y in batches():
        ensemble.backward(x, y, cross_entropy)
    for name, coefficients in ensemble.superweights.coefficients.items():
        assert coefficients.grad is not None
        total = sum(by_slot[name] for by_slot in contributions.values() if name in by_slot)
        assert isinstance(total, Tensor)
        assert torch.allclose(coefficients.grad[0], total, rtol=1e-4, atol=1e-6)


def test_the_stages() -> None:
    """Clusters are divided, the budget is filled again, and coefficients part without a jump."""
    ensemble = first_ensemble(members(), "50%", clusters=2)
    assert learners(ensemble) == [0, 2]
    train(ensemble)
    start = ensemble.superweights
    division = learn_clusters(ensemble, batches, cross_entropy, "50%", tau=0.3)
    assert len(division.sharing.clusters) > len(start.sharing.clusters)
    assert division.sharing.cluster_of()[0, "conv1.weight"] == 0
    for name, cluster in (
        (key[1], c) for key, c in division.sharing.cluster_of().items() if key[0] == 0
    ):
        assert division.sharing.cluster_of()[1, name] == cluster

    ensemble = superweights(members(), "50%", sharing=division.sharing)
    allocation = ensemble.superweights.allocation
    assert 0.97 * allocation.budget <= allocation.templates <= allocation.budget
    optimizer = train(ensemble)
    x, _ = next(batches())
    with torch.no_grad():
        before = ensemble.eval()(x)
        rows = sum(map(len, ensemble.superweights.coefficients.values()))
        sharing = separate_coefficients(ensemble, optimizer, batches, cross_entropy, beta=0.5)
        assert torch.equal(ensemble(x), before)
    assert sum(map(len, ensemble.superweights.coefficients.values())) > rows
    assert sharing.cluster_of() == division.sharing.cluster_of()
    ensemble.train()
    for x, y in batches():
        optimizer.zero_grad()
        ensemble.backward(x, y, cross_entropy)
        optimizer.step()
    with torch.no_grad():
        assert not torch.equal(ensemble.eval()(x), before)
    learned = SharingFile(NAMES, ensemble.superweights.uses, sharing, division.tau, 0.5)
    assert SharingFile.from_json(learned.to_json()) == learned
