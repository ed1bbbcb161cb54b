"""L_ML selects the inputs that tell something (Figure 2); tests/bench_toy.py has the full size."""

from __future__ import annotations

import torch
from blockstep.models.hyperparameters import ConcreteMask
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.search.partitioned import TensorExamples, log_likelihood

from tests.bench_toy import examples, training

FAST = OptimizationConfig(
    batch_size=256, optimizer="adam", lr=3e-3, schedule="constant", weight_decay=3e-4
)


def test_a_learned_mask_ranks_the_informative_inputs_first() -> None:
    """The 15 largest logits are the first 15, in one run."""
    x, y = examples(0)
    run = training(x, y, chunks=4, seed=0, mask=ConcreteMask(30))
    for _ in range(300):
        run.advance()
    logits = torch.tensor(run.measure().hyperparameters["0.mask"])
    assert set(logits.topk(15).indices.tolist()) == set(range(15))
    assert logits[:15].mean() - logits[15:].mean() > 0.05


def test_fixed_masks_are_judged_rightly() -> None:
    """L_ML prefers 15 inputs to 12 and to 30; the training likelihood prefers all 30."""
    objective, likelihood = {}, {}
    for inputs in (12, 15, 30):
        x, y = examples(0)
        x = x.clone()
        x[:, inputs:] = 0
        run = training(x, y, chunks=8, seed=0, hidden=48, weights=FAST)
        for step in range(1, 1001):
            run.advance()
            if step % 100 == 0:
                run.measure()
        assert run.best is not None
        objective[inputs] = run.best.objective
        likelihood[inputs], _ = log_likelihood(
            run.model, TensorExamples(x, y), torch.arange(len(y))
        )
    assert max(objective, key=lambda inputs: objective[inputs]) == 15
    assert max(likelihood, key=lambda inputs: likelihood[inputs]) == 30
