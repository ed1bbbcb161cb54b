"""Which inputs L_ML selects, on the artificial task (Mlodozeniec et al., ICLR 2023, Figure 2).

    python tests/bench_toy.py                             fixed masks: L_ML by the number of inputs
    python tests/bench_toy.py --inputs 12 15 16 30 --seeds 0 --steps 1500
    python tests/bench_toy.py --learn                     learned mask, four chunks
    python tests/bench_toy.py --laplace --steps 2000      a diagonal Laplace approximation instead

Fixed masks: the network sees the first K of 30 inputs, of which 15 tell the class; eight equal
chunks, 3,000 examples, Adam 1e-3, batch 256, weight decay 3e-4 for every partition; the best L_ML
of the run, every 100 steps, beside the log-likelihood of the training examples at the end. Learned
mask: concrete, temperature 0.5, one per example. Laplace: one network on all examples, the marginal
likelihood after the last step, with the prior that the weight decay is. One thread.
"""

from __future__ import annotations

import argparse
import time

import torch
from blockstep.launch.config import DataConfig
from blockstep.launch.data import load_data
from blockstep.models import make_network
from blockstep.models.hyperparameters import ConcreteMask
from blockstep.models.partitioned import partition
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.search.partitioned import (
    Chunks,
    PartitionedTraining,
    Settings,
    TensorExamples,
    log_likelihood,
)
from blockstep.search.partitioned.laplace import laplace_likelihood
from blockstep.search.partitioned.peers import PeerTraining
from torch import Tensor, nn

CPU = torch.device("cpu")

WEIGHTS = OptimizationConfig(
    batch_size=256, optimizer="adam", lr=1e-3, schedule="constant", weight_decay=3e-4
)


def examples(seed: int) -> tuple[Tensor, Tensor]:
    """Return the training examples of a seed."""
    config = DataConfig(name="input_selection", validation=0.0)
    data = load_data(config, seed=seed, device=CPU)
    return next(data.evaluation("train", batch_size=data.sizes["train"]))


def training(
    x: Tensor,
    y: Tensor,
    *,
    chunks: int,
    seed: int,
    hidden: int = 256,
    mask: nn.Module | None = None,
    weights: OptimizationConfig = WEIGHTS,
) -> PartitionedTraining:
    """Make a training on the given examples."""
    torch.manual_seed(seed)
    network = make_network("mlp_gelu", classes=2, in_channels=x.shape[1], size=1, hidden=hidden)
    module = network.module if mask is None else nn.Sequential(mask, network.module)
    shares = [1 / chunks] * chunks
    return PartitionedTraining(
        partition(module, shares, seed=seed),
        TensorExamples(x, y),
        Chunks(len(y), shares, seed=seed),
        settings=Settings(weights=weights, decay_scaling="none", keep_best=False),
        seed=seed,
    )


def fixed(options: argparse.Namespace, seed: int, inputs: int) -> tuple[float, int, float]:
    """Return the best L_ML, its step, and the mean training log-likelihood at the end."""
    x, y = examples(seed)
    x = x.clone()
    x[:, inputs:] = 0
    run = training(x, y, chunks=8, seed=seed, hidden=options.hidden)
    for step in range(1, options.steps + 1):
        run.advance()
        if step % 100 == 0:
            run.measure()
    assert run.best is not None
    everything = torch.arange(len(y))
    likelihood, _ = log_likelihood(run.model, TensorExamples(x, y), everything)
    return run.best.objective, run.best.step, likelihood / len(y)


def learned(options: argparse.Namespace, seed: int) -> None:
    """Learn a mask and print its course."""
    x, y = examples(seed)
    run = training(x, y, chunks=4, seed=seed, hidden=options.hidden, mask=ConcreteMask(30))
    for step in range(1, options.steps + 1):
        run.advance()
        if step % 250 == 0:
            measured = run.measure()
            p = torch.tensor(measured.hyperparameters["0.mask"]).sigmoid()
            top = set(p.topk(15).indices.tolist()) == set(range(15))
            print(
                f"seed {seed}, step {step}: L_ML {measured.objective:.1f}, least informative "
                f"{p[:15].min():.3f}, greatest spurious {p[15:].max():.3f}, "
                f"{'the first 15 rank first' if top else 'NOT the first 15'}",
                flush=True,
            )


def laplace(options: argparse.Namespace, seed: int, inputs: int) -> float:
    """Return the approximate log marginal likelihood of a network with so many inputs."""
    x, y = examples(seed)
    x = x.clone()
    x[:, inputs:] = 0
    torch.manual_seed(seed)
    network = make_network("mlp_gelu", classes=2, in_channels=30, size=1, hidden=options.hidden)
    run = PeerTraining(
        partition(network.module, [1.0], seed=seed),
        TensorExamples(x, y),
        Chunks(len(y), [1.0], seed=seed),
        method="plain",
        settings=Settings(weights=WEIGHTS, decay_scaling="none", keep_best=False),
        seed=seed,
    )
    for _ in range(options.steps):
        run.advance()
    network.module.load_state_dict(run.model.subnetwork_state())
    prior = WEIGHTS.weight_decay * len(y)
    return laplace_likelihood(network.module, TensorExamples(x, y), prior=prior)


def main() -> None:
    """Measure and print one line per training."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--learn", action="store_true")
    parser.add_argument("--laplace", action="store_true")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    known = [3, 6, 9, 12, 13, 14, 15, 16, 17, 18, 20, 25, 30]
    parser.add_argument("--inputs", type=int, nargs="+", default=known)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in options.seeds:
        if options.learn:
            learned(options, seed)
            continue
        best: dict[int, float] = {}
        if options.laplace:
            for inputs in options.inputs:
                best[inputs] = laplace(options, seed, inputs)
                print(f"seed {seed}, {inputs} inputs: Laplace {best[inputs]:.1f}", flush=True)
            print(f"seed {seed}: Laplace selects {max(best, key=lambda n: best[n])} inputs")
            continue
        for inputs in options.inputs:
            began = time.perf_counter()
            best[inputs], step, likelihood = fixed(options, seed, inputs)
            print(
                f"seed {seed}, {inputs} inputs: L_ML {best[inputs]:.1f} at step {step}, training "
                f"log-likelihood {likelihood:.4f} per example, {time.perf_counter() - began:.1f} s",
                flush=True,
            )
        print(f"seed {seed}: L_ML selects {max(best, key=lambda inputs: best[inputs])} inputs")


if __name__ == "__main__":
    main()
