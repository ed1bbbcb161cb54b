"""Subsets of members, and lines between two."""

from __future__ import annotations

import pytest
import torch
from blockstep.models import make_network
from blockstep.models.ensembles import best_by_cost, interpolate, path_scores, scores, subsets
from torch import nn

from tests.models.ensembles.test_metrics import drawn


def test_every_subset_by_cost() -> None:
    """Seven of three members; each is scored as the ensemble of these members alone."""
    logits, labels = drawn()
    found = subsets(logits, labels, [4.0, 1.0, 2.0])
    assert [one.members for one in found] == [
        (1,), (2,), (1, 2), (0,), (0, 1), (0, 2), (0, 1, 2),
    ]  # fmt: skip
    assert [one.cost for one in found] == [1, 2, 3, 4, 5, 6, 7]
    for one in found:
        expected = scores(logits[list(one.members)], labels)
        assert (one.top1, one.nll) == pytest.approx((expected["top1"], expected["nll"]))
        assert one.ece == pytest.approx(expected["ece"])


def test_the_curve_only_rises() -> None:
    """From the cheapest to the most accurate, without what gains nothing."""
    logits, labels = drawn()
    found = subsets(logits, labels, [4.0, 1.0, 2.0])
    curve = best_by_cost(found)
    assert curve[0].members == (1,)
    assert curve[-1].top1 == max(one.top1 for one in found)
    pairs = [(one.cost, one.top1) for one in curve]
    assert pairs == sorted(set(pairs))
    assert [top for _, top in pairs] == sorted({top for _, top in pairs})
    for one in found:
        assert any(other.cost <= one.cost and other.top1 >= one.top1 for other in curve)


def test_subsets_that_cannot_be_listed() -> None:
    """Costs of other members, and more members than can be enumerated."""
    logits, labels = drawn(examples=3)
    with pytest.raises(ValueError, match="2 costs are given for 3 members"):
        subsets(logits, labels, [1.0, 2.0])
    with pytest.raises(ValueError, match="17 members have too many subsets"):
        subsets(logits[:1].expand(17, -1, -1), labels, [1.0] * 17)


def test_between_two_members() -> None:
    """The ends are the members, the middle is the mean; counters do not move."""
    torch.manual_seed(0)
    one, other = (make_network("wrn16-4", classes=3, width=0.125).module for _ in range(2))
    one.train()(torch.randn(2, 3, 8, 8))
    first, second = one.state_dict(), other.state_dict()
    for share, end in ((0.0, first), (1.0, second)):
        made = interpolate(first, second, share)
        for name, tensor in made.items():
            expected = end[name] if tensor.is_floating_point() else first[name]
            assert torch.equal(tensor, expected), name
    middle = interpolate(first, second, 0.5)["fc.weight"]
    assert torch.allclose(middle, (first["fc.weight"] + second["fc.weight"]) / 2)


def test_members_that_are_different_networks() -> None:
    """Names and shapes must be equal."""
    one = nn.Linear(2, 2).state_dict()
    with pytest.raises(ValueError, match="only one of the two members has bias"):
        interpolate(one, nn.Linear(2, 2, bias=False).state_dict(), 0.5)
    with pytest.raises(ValueError, match=r"weight has the shapes \(2, 2\) and \(2, 3\)"):
        interpolate(one, nn.Linear(3, 2).state_dict(), 0.5)


def test_scores_along_the_line() -> None:
    """With the statistics of the batches; the network that is lent stays as it was."""
    torch.manual_seed(0)
    module, other = (make_network("wrn16-4", classes=3, width=0.125).module for _ in range(2))
    x, y = torch.randn(12, 3, 8, 8), torch.arange(12) % 3
    first, second = module.state_dict(), other.state_dict()
    before = {name: tensor.clone() for name, tensor in first.items()}
    found = path_scores(module, first, second, lambda: [(x, y)], points=(0.0, 0.5, 1.0))
    assert [one["share"] for one in found] == [0.0, 0.5, 1.0]
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert module.training
    with torch.no_grad():
        expected = scores(other.train()(x)[None], y)
    assert found[2]["nll"] == pytest.approx(expected["nll"], rel=1e-5)
