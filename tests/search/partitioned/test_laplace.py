"""The diagonal Laplace approximation, against formulas written by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from blockstep.search.partitioned import TensorExamples
from blockstep.search.partitioned.laplace import diagonal_curvature, laplace_likelihood
from torch import nn


def data() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(12, 4), torch.arange(12) % 3


def test_of_a_linear_model_it_is_the_diagonal_of_the_hessian():
    """There the Gauss-Newton matrix is exact."""
    x, y = data()
    model = nn.Linear(4, 3)

    def loss(flat: torch.Tensor) -> torch.Tensor:
        weight, bias = flat[:12].view(3, 4), flat[12:]
        return F.cross_entropy(x @ weight.T + bias, y, reduction="sum")

    flat = torch.cat([model.weight.detach().flatten(), model.bias.detach()])
    hessian = torch.autograd.functional.hessian(loss, flat)
    assert isinstance(hessian, torch.Tensor)
    found = diagonal_curvature(model, x, batch_size=5)
    assert torch.allclose(found, hessian.diagonal().double(), atol=1e-4)


def test_the_likelihood_is_the_sum_of_its_terms():
    """Likelihood, prior, and the volume that the data leave."""
    x, y = data()
    model, prior = nn.Linear(4, 3), 0.5
    found = laplace_likelihood(model, TensorExamples(x, y), prior=prior)
    w = torch.cat([one.detach().flatten() for one in model.parameters()]).double()
    H = diagonal_curvature(model, x)
    normal = torch.distributions.Normal(0, prior**-0.5)
    volume = 0.5 * (2 * math.pi / (H + prior)).log().sum()
    expected = -F.cross_entropy(model(x), y, reduction="sum") + normal.log_prob(w).sum() + volume
    assert found == pytest.approx(expected.item(), rel=1e-5)


def test_a_prior_is_positive():
    """Without one there is no marginal likelihood."""
    with pytest.raises(ValueError, match="above 0"):
        laplace_likelihood(nn.Linear(4, 3), TensorExamples(*data()), prior=0.0)
