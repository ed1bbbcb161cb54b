"""One outer step of SEDONA's search: time and memory of the ways to differentiate through it.

    python tests/bench_hypergradient.py                     ResNet-50 0.25x, 32x32, batch 32, T=5
    python tests/bench_hypergradient.py --memory            peak memory at T = 1, 5 and 10
    pip install higher==0.2.1                               for the row of that library

Every way goes T inner steps from the same weights and batches and differentiates the validation
loss by alpha and beta. They run in turn (A B C ... A B C ...) in one process with one thread; the
ratio to the first row is taken round by round. The gradients are compared with the first row's.
In single precision they differ by rounding, which T steps with batch norm amplify; with --double
they agree to nine digits and more. --memory runs each case in a process of its own and prints its
peak resident memory, before the outer step (after one plain gradient) and after it.

    rebuild             what `blockstep search` does: the memory of one graph, our derivatives
    keep                search.keep_graphs=T: every graph is kept
    unroll              the textbook way: T steps in one graph, differentiated once at the end
    unroll, torch       the same with torch's own second derivatives
    higher              the library that SEDONA used; one combined loss, gradients divided
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from blockstep.models import layer_shapes, make_head, make_network
from blockstep.pipeline.memory import keep_freed_memory
from blockstep.search.descent import Descent, Point
from blockstep.search.hypergradient import Batch, hypergradient
from blockstep.search.mixed_gradient import Choices, mixed_gradient
from blockstep.search.relaxation import Relaxation
from torch import Tensor, nn

POOL = ("aux1", "aux2", "aux3", "aux4")
DESCENT = Descent(momentum=0.9, weight_decay=1e-3)
CLASSES = 10

Gradients = tuple[Tensor, Tensor]


class Case:
    """The same outer step for every way."""

    def __init__(self, options: argparse.Namespace, *, fast: bool) -> None:
        torch.manual_seed(0)
        network = make_network(
            options.model, classes=CLASSES, in_channels=3, size=options.size, width=options.width
        )
        shapes = layer_shapes(network, torch.zeros(2, 3, options.size, options.size))
        kind = {"features": network.features, "reduction": network.reduction}
        pool = [
            [make_head(head, shape=tuple(shape), classes=CLASSES, **kind) for head in POOL]
            for shape in shapes[:-1]
        ]
        criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
        self.relaxation = Relaxation(network, pool, criterion=criterion, fast=fast)
        weights = self.relaxation.initial()
        self.point = Point(weights, [torch.zeros_like(weight) for weight in weights])
        self.batches = [self._batch(options, options.batch) for _ in range(options.steps)]
        held_out = self._batch(options, options.validation_batch)
        self.validation = held_out.x, held_out.y
        joints = self.relaxation.depth - 1
        self.choices = Choices(torch.randn(joints, 2), torch.randn(joints, len(POOL)))

    @staticmethod
    def _batch(options: argparse.Namespace, size: int) -> Batch:
        x = torch.randn(size, 3, options.size, options.size)
        return Batch(x, torch.randint(0, CLASSES, (size,)), lr=0.05, seed=0)


def ours(case: Case, keep: int) -> Gradients:
    """Return what the search computes."""
    found = hypergradient(
        case.relaxation,
        case.point,
        case.batches,
        case.validation,
        case.choices,
        descent=DESCENT,
        keep_graphs=keep,
    )
    return found.alpha, found.beta


def unroll(case: Case) -> Gradients:
    """Keep the whole computation in one graph."""
    alpha, beta = (t.clone().requires_grad_() for t in (case.choices.alpha, case.choices.beta))
    weights = [weight.requires_grad_() for weight in case.relaxation.initial()]
    momentum: Sequence[Tensor] = case.point.momentum
    for batch in case.batches:
        gradients = live_gradients(case.relaxation, weights, batch, alpha, beta)
        momentum = [
            DESCENT.momentum * m + g + DESCENT.weight_decay * w
            for m, g, w in zip(momentum, gradients, weights, strict=True)
        ]
        weights = [w - batch.lr * m for w, m in zip(weights, momentum, strict=True)]
    return outer(case, weights, alpha, beta)


def live_gradients(
    relaxation: Relaxation, weights: Sequence[Tensor], batch: Batch, alpha: Tensor, beta: Tensor
) -> list[Tensor]:
    """Return Eq. 4-6 layer by layer, for weights that are themselves part of a graph."""
    relaxation.place(weights)
    shares, mixture = alpha.softmax(-1), beta.softmax(-1)
    outputs, losses = [batch.x], []
    for index, layer in enumerate(relaxation.layers):
        outputs.append(layer(outputs[-1]))
        logits = relaxation.mixed(index, outputs[-1], mixture)
        losses.append(relaxation.criterion(logits, batch.y))
    found: dict[int, Tensor] = {}
    above: Tensor | None = None
    for index in reversed(range(relaxation.depth)):
        own = relaxation.head_weights[index]
        inputs = [outputs[index + 1], *(weights[i] for i in own)]
        local, *heads = torch.autograd.grad(losses[index], inputs, create_graph=True)
        found |= dict(zip(own, heads, strict=True))
        delta = local if above is None else shares[index, 0] * local + shares[index, 1] * above
        own = relaxation.layer_weights[index]
        inputs = [weights[i] for i in own] + ([outputs[index]] if index else [])
        made = torch.autograd.grad(outputs[index + 1], inputs, delta, create_graph=True)
        found |= dict(zip(own, made, strict=False))
        above = made[-1]
    return [found[i] for i in range(len(weights))]


def outer(case: Case, weights: Sequence[Tensor], alpha: Tensor, beta: Tensor) -> Gradients:
    """Differentiate the validation loss at ``weights``."""
    case.relaxation.place(weights)
    x, y = case.validation
    loss = case.relaxation.criterion(case.relaxation.logits(x), y)
    by_alpha, by_beta = torch.autograd.grad(loss, [alpha, beta])
    return by_alpha, by_beta


class Whole(nn.Module):
    """The relaxation as one module that returns the losses, which is what ``higher`` wants."""

    def __init__(self, relaxation: Relaxation) -> None:
        super().__init__()
        relaxation.place([nn.Parameter(weight) for weight in relaxation.initial()])
        self.layers = nn.ModuleList(relaxation.layers)
        self.heads = nn.ModuleList(nn.ModuleList(heads) for heads in relaxation.heads)
        self.classifier = relaxation.classifier
        self._criterion = relaxation.criterion

    def forward(self, x: Tensor, y: Tensor, mixture: Tensor) -> list[Tensor]:
        """Return the loss of each layer."""
        losses = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index < len(self.heads):
                heads: Any = self.heads[index]
                logits = torch.stack([head(x) for head in heads], -1) @ mixture[index]
            else:
                logits = self.classifier(x)
            losses.append(self._criterion(logits, y))
        return losses


def with_higher(case: Case) -> Gradients:
    """Differentiate through ``higher``'s optimizer, with one combined loss per step."""
    higher = importlib.import_module("higher")
    whole = Whole(case.relaxation)
    names = [name for name, _ in whole.named_parameters()]
    alpha, beta = (t.clone().requires_grad_() for t in (case.choices.alpha, case.choices.beta))
    shares, mixture = alpha.softmax(-1), beta.softmax(-1)
    optimizer = torch.optim.SGD(whole.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    joints = case.relaxation.depth - 1
    below = torch.cat([torch.ones(1), shares[:, 1].cumprod(0)])

    def divided(gradients: Sequence[Tensor]) -> list[Tensor]:
        """Undo the scales that the combined loss put on the gradients of each layer and head."""
        scaled = []
        for name, gradient in zip(names, gradients, strict=True):
            part, number = name.split(".")[:2]
            scale = below[joints] if part == "classifier" else below[int(number)]
            if part == "heads":
                scale = scale * shares[int(number), 0]
            scaled.append(gradient / scale)
        return scaled

    with higher.innerloop_ctx(whole, optimizer, copy_initial_weights=False) as (model, descent):
        for batch in case.batches:
            losses = model(batch.x, batch.y, mixture)
            total = losses[-1]
            for index in reversed(range(joints)):
                total = shares[index, 1] * total + shares[index, 0] * losses[index]
            descent.step(total, grad_callback=divided)
        x, y = case.validation
        loss = model(x, y, mixture)[-1]
        by_alpha, by_beta = torch.autograd.grad(loss, [alpha, beta])
    return by_alpha, by_beta


def ways(options: argparse.Namespace) -> dict[str, Callable[[], Gradients]]:
    """Return every way that can run here."""
    fast, stock = Case(options, fast=True), Case(options, fast=False)
    found: dict[str, Callable[[], Gradients]] = {
        "rebuild": lambda: ours(fast, 0),
        "keep": lambda: ours(fast, options.steps),
        "unroll": lambda: unroll(fast),
        "unroll, torch": lambda: unroll(stock),
    }
    if importlib.util.find_spec("higher"):
        third = Case(options, fast=False)
        found["higher"] = lambda: with_higher(third)
    return found


def compare(options: argparse.Namespace) -> None:
    """Time every way in turn."""
    torch.set_num_threads(1)
    keep_freed_memory()
    torch.set_default_dtype(torch.float64 if options.double else torch.float32)
    every = ways(options)
    reference: Gradients | None = None
    for name, way in every.items():
        gradients = way()
        reference = reference or gradients
        error = max(
            float((one - other).norm() / other.norm())
            for one, other in zip(gradients, reference, strict=True)
        )
        print(f"{name:14} differs from the first by {error:.1e} (relative)", flush=True)
    seconds: dict[str, list[float]] = {name: [] for name in every}
    for _ in range(options.repeats):
        for name, way in every.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    for name, times in seconds.items():
        ratios = [one / other for one, other in zip(seconds["rebuild"], times, strict=True)]
        print(
            f"{name:14} {statistics.median(times):7.2f} s   rebuild / this "
            f"{statistics.median(ratios):.3f} (min {min(ratios):.3f}, max {max(ratios):.3f})"
        )
    print(f"torch {torch.__version__}, one thread, T={options.steps}, batch {options.batch}")


def peak() -> float:
    """Return the peak resident memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one_case(options: argparse.Namespace) -> None:
    """Print the peak memory before and after one outer step."""
    torch.set_num_threads(1)
    case = Case(options, fast=True)
    first = case.batches[0]
    mixed_gradient(case.relaxation, case.point.weights, first.x, first.y, case.choices)
    before = peak()
    if options.child == "unroll":
        unroll(case)
    else:
        ours(case, options.steps if options.child == "keep" else 0)
    print(f"{options.child:8} T={options.steps:2}  peak {peak():7.0f} MiB  (before {before:.0f})")


def main() -> None:
    """Compare times, or memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--validation-batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5, help="T")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--double", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        one_case(options)
    elif options.memory:
        arguments = [argument for argument in sys.argv[1:] if argument != "--memory"]
        for way, steps in [
            ("rebuild", 1),
            ("rebuild", 5),
            ("rebuild", 10),
            ("keep", 5),
            ("unroll", 5),
        ]:
            child = [sys.executable, sys.argv[0], *arguments, "--child", way, "--steps", str(steps)]
            subprocess.run(child, check=True)
    else:
        compare(options)


if __name__ == "__main__":
    main()
