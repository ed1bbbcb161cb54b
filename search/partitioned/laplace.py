"""The marginal likelihood by a diagonal Laplace approximation, after a training: a peer of L_ML.

    log p(D) ~ log p(D | w) + log N(w; 0, 1 / prior) - 1/2 log det(H + prior) + P/2 log(2 pi)

H is the diagonal of the generalised Gauss-Newton matrix, summed over the examples (Immer et al.,
ICML 2021, without the approximation of its per-example Jacobians): for logits f and probabilities p

    H_i = sum_n ( sum_c p_c (df_c / dw_i)^2 - (sum_c p_c df_c / dw_i)^2 )

Mlodozeniec et al. (ICLR 2023) compare with it in Figure 2a.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from .examples import Examples

__all__ = ["diagonal_curvature", "laplace_likelihood"]


def diagonal_curvature(module: nn.Module, x: Tensor, *, batch_size: int = 50) -> Tensor:
    """Return the diagonal of the Gauss-Newton matrix of the summed cross entropy, float64 (P,).

    Args:
        module: From inputs to logits, without randomness and batch statistics.
        x: All inputs, (N, ...).
        batch_size: Examples whose Jacobians are in memory together.
    """
    weights = {name: one.detach() for name, one in module.named_parameters()}

    def logits(own: dict[str, Tensor], one: Tensor) -> Tensor:
        return functional_call(module, own, (one[None],))[0]

    jacobian = vmap(jacrev(logits), in_dims=(None, 0))
    total = torch.zeros(sum(one.numel() for one in weights.values()), dtype=torch.float64)
    for part in x.split(batch_size):
        found = jacobian(weights, part)
        flat = torch.cat([found[name].flatten(2) for name in weights], dim=2)  # (B, classes, P)
        with torch.no_grad():
            p = module(part).softmax(1)
        squares = torch.einsum("bc,bcp->p", p, flat.square())
        means = torch.einsum("bc,bcp->bp", p, flat).square().sum(0)
        total += (squares - means).double().cpu()
    return total.clamp_min_(0)


def laplace_likelihood(
    module: nn.Module, examples: Examples, *, prior: float, batch_size: int = 50
) -> float:
    """Return the approximate log marginal likelihood of all examples, in nats.

    Args:
        module: The trained network; it is evaluated as it is, in evaluation mode.
        examples: What it was trained on.
        prior: Precision of the Gaussian prior of every weight; a weight decay d of the mean loss
            of N examples is one of d * N.
        batch_size: See :func:`diagonal_curvature`.

    Raises:
        ValueError: The prior is not positive.
    """
    if not prior > 0:
        raise ValueError(f"prior={prior}: the precision of a prior is above 0")
    x, y = examples.batch(torch.arange(len(examples)), None)
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            likelihood = -F.cross_entropy(module(x), y, reduction="sum").double().item()
        curvature = diagonal_curvature(module, x, batch_size=batch_size)
    finally:
        module.train(training)
    weights = torch.cat([one.detach().double().flatten().cpu() for one in module.parameters()])
    norm = weights.square().sum().item()
    log_prior = 0.5 * len(weights) * math.log(prior) - 0.5 * prior * norm
    return likelihood + log_prior - 0.5 * (curvature + prior).log().sum().item()
