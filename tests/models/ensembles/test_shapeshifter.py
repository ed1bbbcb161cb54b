"""ShapeShifter networks: stretches of banks, and budgets."""

from __future__ import annotations

import pytest
import torch
from blockstep.models import Network, make_network
from blockstep.models.ensembles import shapeshifter
from blockstep.models.superweight import BudgetError, accounts, parameter_groups
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate


def members(*names: str) -> list[Network]:
    """Make small members."""
    torch.manual_seed(0)
    return [make_network(name, classes=3, width=0.25) for name in names]


@pytest.mark.parametrize("budget", ["30%", "3%", "300%"])
def test_a_budget_is_never_exceeded(budget: str) -> None:
    """Below and above the members' own size; almost all of it is used."""
    nets = members("wrn16-4", "wrn22-2")
    own = sum(p.numel() for n in nets for k, p in n.module.named_parameters() if p.dim() == 4)
    ensemble = shapeshifter(nets, budget)
    found = accounts(ensemble)
    allowed = own * int(budget.rstrip("%")) // 100
    assert 0.97 * allowed <= found["templates"] <= allowed
    assert sum(found.values()) == sum(p.numel() for p in ensemble.parameters())


def test_weights_are_combinations_of_stretches() -> None:
    """Of the layer's own size, from the beginning of the bank; enlarged where it is too small."""
    ensemble = shapeshifter(members("wrn16-4", "wrn16-4"), "10%")
    store = ensemble.superweights
    kinds = set()
    for use, weight in zip(store.uses[:16], store.generate(0), strict=True):
        bank = store.templates[str(store.bank_of[use.key])]
        alpha = store.coefficients[store._name(use.key)]
        if len(bank) >= use.numel:
            parts = bank[: len(alpha) * use.numel].split(use.numel)
            expected = sum(a * part for a, part in zip(alpha, parts, strict=True))
            assert isinstance(expected, Tensor)
            kinds.add(len(alpha) > 1)
        else:
            out, inputs, *kernel = use.shape
            share, numel = 1.0, kernel[0] * kernel[1]
            while int(share * out) * int(share * inputs) * numel > len(bank):
                share -= 0.05
            rows, columns = int(share * out), int(share * inputs) * numel
            small = bank[: rows * columns].view(1, 1, rows, columns)
            expected = alpha * interpolate(small, (out, inputs * numel), mode="bilinear")
            kinds.add(None)
        assert torch.allclose(weight, expected.view(use.shape), atol=1e-6), use
    assert kinds == {None, False, True}


def test_training_member_by_member() -> None:
    """``backward`` gives the gradients of all members at once; coefficients do not decay."""
    torch.manual_seed(0)
    ensemble = shapeshifter(members("wrn16-4", "wrn16-2"), "20%").double()
    x, y = torch.randn(4, 3, 8, 8, dtype=torch.float64), torch.arange(4) % 3
    sum(cross_entropy(logits, y) for logits in ensemble(x)).backward()  # pyright: ignore[reportAttributeAccessIssue]
    together = {
        name: p.grad.clone() for name, p in ensemble.named_parameters() if p.grad is not None
    }
    assert together.keys() == dict(ensemble.named_parameters()).keys()
    ensemble.zero_grad()
    ensemble.backward(x, y, cross_entropy)
    for name, parameter in ensemble.named_parameters():
        assert torch.allclose(parameter.grad, together[name], rtol=1e-9, atol=1e-12), name  # pyright: ignore[reportArgumentType]
    _, still = parameter_groups(ensemble, 5e-4)
    assert len(still["params"]) == len(ensemble.superweights.uses)


def test_a_layer_alone_has_its_own_weight() -> None:
    """Without coefficients, and its size is taken from the budget first."""
    ensemble = shapeshifter(members("wrn16-4"), "90%", groups=10)
    store = ensemble.superweights
    assert 0 < len(store.coefficients) < len(store.uses)
    for use, weight in zip(store.uses, store.generate(0), strict=True):
        if store._name(use.key) not in store.coefficients:
            bank = store.templates[str(store.bank_of[use.key])]
            assert torch.equal(weight.flatten(), bank)


def test_a_budget_that_is_too_small() -> None:
    """The error has what the banks need and what they would get."""
    with pytest.raises(BudgetError, match=r"budget of 20 is too small"):
        shapeshifter(members("wrn16-4", "wrn16-4"), 20)
