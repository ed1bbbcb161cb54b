"""Initial deviations of generated weights, and coefficients that are directions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from blockstep.models.superweight import (
    identical_uses,
    initialize_superweights,
    parse_budget,
    superweights,
)
from blockstep.models.superweight.recipe import coefficient_rows

from tests.models.superweight.parts import members


@pytest.mark.parametrize("own_coefficients", [True, False])
def test_layers_begin_with_the_deviation_of_their_fan_in(own_coefficients: bool) -> None:
    """With coefficients of their own each has Kaiming's; shared ones give the common one."""
    torch.manual_seed(0)
    ensemble = superweights(members("wrn16-8", "wrn16-8"), "40%", own_coefficients=own_coefficients)
    store = ensemble.superweights
    ratios = []
    for member in (0, 1):
        for use, weight in zip(store.recipes[member].uses, store.generate(member), strict=True):
            if use.numel > 2000:
                ratios.append(weight.std().item() / math.sqrt(2 / use.fan_in))
    assert len(ratios) > 20
    if own_coefficients:
        assert min(ratios) > 0.85
        assert max(ratios) < 1.15
    else:
        assert sum(0.85 < ratio < 1.15 for ratio in ratios) > len(ratios) / 2


def test_the_official_initialization() -> None:
    """Templates have the deviation sqrt(2/9); coefficients are orthonormal rows or columns."""
    torch.manual_seed(0)
    ensemble = superweights(members("wrn16-4", "wrn16-4"), "60%", initialization="official")
    store = ensemble.superweights
    templates = torch.cat([one.flatten() for one in store.templates.values()])
    assert templates.std().item() == pytest.approx(math.sqrt(2 / 9), rel=0.02)
    for coefficients in store.coefficients.values():
        rows, columns = coefficients.shape
        matrix = coefficients if rows <= columns else coefficients.T
        assert torch.allclose(matrix @ matrix.T, torch.eye(len(matrix)), atol=1e-5)


def test_it_is_drawn_again() -> None:
    """The same seed gives the same templates, another one others."""
    ensemble = superweights(members("wrn16-4"), "60%")
    store = ensemble.superweights
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        initialize_superweights(store)
        found.append([one.clone() for one in store.templates.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(found[0], found[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(found[0], found[2], strict=True))


def test_coefficients_that_became_identical() -> None:
    """Weights of one shape whose rows are parallel in every slot are found, others are not."""
    torch.manual_seed(0)
    ensemble = superweights(members("wrn16-4", "wrn16-4"), "60%")
    store = ensemble.superweights
    assert identical_uses(store) == []
    key = "layer1.0.conv2.weight"
    cluster = store.sharing.cluster_of()[0, key]
    place = [group[0] for group in store.sharing.clusters[cluster]]
    with torch.no_grad():
        rows = store.coefficients[f"{cluster}_0"]
        rows[place.index((1, key))] = -2 * rows[place.index((0, key))]
        assert len(identical_uses(store)) <= 1
        for slot in range(len(store.allocation.counts[cluster])):
            coefficients = store.coefficients[f"{cluster}_{slot}"]
            coefficients[:] = torch.nn.functional.normalize(torch.randn_like(coefficients), dim=1)
    row_of = coefficient_rows(store.sharing, store.uses)
    with torch.no_grad():
        for name, rows in row_of.items():
            if (0, key) in rows:
                store.coefficients[name][rows[1, key]] = 3 * store.coefficients[name][rows[0, key]]
    assert identical_uses(store) == [((0, key), (1, key))]


@pytest.mark.parametrize(
    ("text", "weights"),
    [("18M", 18_000_000), ("36.5M", 36_500_000), ("500k", 500_000), ("50%", 1_000), (7, 7),
     (1.8e7, 18_000_000), ("1G", 10**9), (" 250 % ", 5_000), ("2e3", 2_000)],
)  # fmt: skip
def test_budgets(text: Any, weights: int) -> None:
    """Numbers with and without units, and shares of 2,000 weights."""
    assert parse_budget(text, 2_000) == weights


@pytest.mark.parametrize("text", ["", "M", "-3M", "0", "0%", "18MB", "1e999", "nan", True, None])
def test_what_is_no_budget(text: Any) -> None:
    """The error says how one is written."""
    with pytest.raises(ValueError, match=r"must be a number of weights such as 18M.*2,000 weights"):
        parse_budget(text, 2_000)
