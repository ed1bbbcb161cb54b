"""Measuring a profile: real training steps of each layer and each head, one part at a time.

    pass 1   layer 1   its heads   layer 2   its heads   ...   layer L   classifier
    pass 2   layer 1   ...
             |  h  -> [forward]
             |  h  -> [forward, backward]             entry
             |  h* -> [forward, backward to h*]       inner
             |        [optimizer step]                update
             +-> the output is the next layer's h, detached

Each time is the median over the passes. A machine that becomes slower or faster on the way does
so for all layers alike, which is what a comparison of blocks needs. Counted operations would not
do: early layers have large activations and wait for memory more than they compute.
"""

from __future__ import annotations

import contextlib
import copy
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..models import HeadSpec, Network, make_head
from ..pipeline.seed import derive, set_seed
from .jsonfile import shown
from .profile import Profile, ProfileError

__all__ = ["HeadLoss", "profile_network"]

T = TypeVar("T")
Shape = tuple[int, ...]
MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Loss = Callable[[Tensor, Tensor], Tensor]
HeadLoss = Callable[[Any, Tensor, Tensor], Tensor]
"""From a head, a block's output and the labels to a scalar."""
MakeContext = Callable[[], contextlib.AbstractContextManager[Any]]


def profile_network(
    network: Network,
    batch: Tensor,
    labels: Tensor,
    *,
    heads: Sequence[HeadSpec],
    make_optimizer: MakeOptimizer,
    loss: Loss,
    head_loss: HeadLoss | None = None,
    repeats: int = 5,
    warmup: int = 1,
    autocast: MakeContext = contextlib.nullcontext,
    seed: int = 0,
) -> Profile:
    """Time training steps of each layer and each head with a real batch.

    A copy of the network on the device of ``batch`` is timed; ``network`` and torch's random
    numbers stay as they are.

    Args:
        network: The network.
        batch: Inputs, on the device and in the memory format that will be trained with.
        labels: Their labels, on the same device.
        heads: The heads to measure after each layer but the last.
        make_optimizer: Makes the optimizer of some parameters, of which there is at least one.
        loss: From logits and labels to a scalar.
        head_loss: How a head's loss comes about; by default ``loss`` of its logits.
        repeats: Passes through the network of which the median is taken.
        warmup: Passes before those.
        autocast: Makes the context of forward passes, such as ``torch.autocast``.
        seed: Of the heads' weights and of dropout.

    Raises:
        ProfileError: A layer fails, or a head fits the output of no layer.
    """
    if repeats < 1 or warmup < 0:
        raise ProfileError(f"repeats={repeats}, warmup={warmup}: give at least 1 and 0")
    device = batch.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        set_seed(derive(seed, "profile"), device)
        bench = _Bench(network, batch.detach(), labels, make_optimizer, loss, autocast)
        bench.add_heads(heads, head_loss)
        for _ in range(warmup + repeats):
            bench.run()
        return bench.profile(heads, skip=warmup)


class _Part:
    """A layer or a head with its optimizer."""

    def __init__(self, module: nn.Module, make_optimizer: MakeOptimizer) -> None:
        self.module = module
        self._parameters = [one for one in module.parameters() if one.requires_grad]
        self.optimizer = make_optimizer(self._parameters) if self._parameters else None
        self.size = sum(one.numel() for one in self._parameters)

    def clear(self) -> None:
        """Free the gradients, as before each step of a training."""
        for parameter in self._parameters:
            parameter.grad = None


class _Clock:
    """Collects seconds by what was timed."""

    def __init__(self, device: torch.device) -> None:
        on_gpu = device.type == "cuda"
        self._synchronize = partial(torch.cuda.synchronize, device) if on_gpu else _nothing
        self._seconds: defaultdict[Hashable, list[float]] = defaultdict(list)

    def time(self, key: Hashable, work: Callable[[], T]) -> T:
        """Do ``work`` and note how long it took."""
        self._synchronize()
        begin = time.perf_counter()
        result = work()
        self._synchronize()
        self._seconds[key].append(time.perf_counter() - begin)
        return result

    def median(self, key: Hashable, *, skip: int) -> float:
        """Return the median without the first ``skip``; 0 for what was never timed."""
        seconds = self._seconds[key][skip:]
        return statistics.median(seconds) if seconds else 0.0


class _Bench:
    """A copy of a network in parts, with their clock.

    Args:
        network: The network.
        batch: Inputs.
        labels: Labels.
        make_optimizer, loss, autocast: See :func:`profile_network`.
    """

    def __init__(
        self,
        network: Network,
        batch: Tensor,
        labels: Tensor,
        make_optimizer: MakeOptimizer,
        loss: Loss,
        autocast: MakeContext,
    ) -> None:
        # A copy: training it changes weights, statistics and modes.
        self._network = copy.deepcopy(network)
        self._network.module.to(batch.device)
        self._batch, self._labels = batch, labels
        self._make_optimizer, self._loss, self._autocast = make_optimizer, loss, autocast
        for module in (*self._network.layers, self._network.classifier):
            module.train()
            module.zero_grad()
        self._outputs, self._classes = self._look()
        self._layers = [_Part(module, make_optimizer) for module in self._network.layers]
        self._classifier = _Part(self._network.classifier, make_optimizer)
        self._heads: dict[tuple[int, Shape], _Part] = {}
        self._head_loss = self._loss_of_logits
        self._clock = _Clock(batch.device)

    def add_heads(self, specs: Sequence[HeadSpec], loss: HeadLoss | None) -> None:
        """Make each head once for each shape that it may get, to learn from this loss.

        Heads of one shape are all alike, and those of every layer together may not fit into
        memory.

        Raises:
            ProfileError: A head fits none.
        """
        if loss is not None:
            self._head_loss = loss
        shapes = dict.fromkeys(shape for shape, _ in self._outputs[:-1])
        for index, spec in enumerate(specs):
            problems = []
            for shape in shapes:
                try:
                    head = self._make_head(spec, shape)
                except (ValueError, TypeError) as error:
                    problems.append(str(error))
                else:
                    self._heads[index, shape] = _Part(head, self._make_optimizer)
            if shapes and len(problems) == len(shapes):
                raise ProfileError(
                    f"the head {shown(spec)} fits after no layer of {self._network.name}; "
                    f"after layer 1: {problems[0]}"
                )

    def run(self) -> None:
        """Time each part once."""
        h = self._batch
        timed: set[Shape] = set()
        for number, (part, (shape, _)) in enumerate(zip(self._layers, self._outputs, strict=True)):
            h = self._run_layer(number, part, h)
            if number + 1 == len(self._layers) or shape in timed:
                continue
            timed.add(shape)
            for key, head in self._heads.items():
                if key[1] == shape:
                    self._run_head(key, head, h, self._head_loss)
        self._run_head("classifier", self._classifier, h, self._loss_of_logits)

    def profile(self, heads: Sequence[HeadSpec], *, skip: int) -> Profile:
        """Return the medians of all passes but the first ``skip``."""
        layers = range(len(self._layers))

        def median(name: Hashable, what: str) -> float:
            return self._clock.median((name, what), skip=skip)

        def of_layers(what: str) -> tuple[float, ...]:
            return tuple(median(layer, what) for layer in layers)

        def of_heads(what: str) -> tuple[tuple[float | None, ...], ...]:
            shapes = [shape for shape, _ in self._outputs[:-1]]
            keys = [[(index, shape) for shape in shapes] for index in range(len(heads))]
            return tuple(
                tuple(median(key, what) if key in self._heads else None for key in row)
                for row in keys
            )

        return Profile(
            network=self._network.name,
            layers=len(self._layers),
            batch_size=len(self._batch),
            device=_device_name(self._batch.device),
            threads=torch.get_num_threads(),
            heads=tuple(heads),
            forward=of_layers("forward"),
            inner=of_layers("inner"),
            entry=of_layers("entry"),
            update=of_layers("update"),
            head_seconds=of_heads("inner"),
            head_update=of_heads("update"),
            classifier_seconds=median("classifier", "inner"),
            classifier_update=median("classifier", "update"),
            boundary_bytes=tuple(size for _, size in self._outputs),
            parameters=tuple(part.size for part in self._layers),
            classifier_parameters=self._classifier.size,
        )

    def _look(self) -> tuple[list[tuple[Shape, int]], int]:
        """Return shape and bytes of each layer's output, and the number of classes."""
        outputs = []
        h = self._batch
        with torch.no_grad(), self._autocast():
            for number, layer in enumerate(self._network.layers, start=1):
                h = self._try(f"layer {number}", layer, h)
                outputs.append((tuple(h.shape[1:]), h.numel() * h.element_size()))
            logits = self._try("the classifier", self._network.classifier, h)
        return outputs, logits.shape[-1]

    def _try(self, name: str, module: nn.Module, h: Tensor) -> Tensor:
        of = f"{self._network.name}: {name} ({type(module).__name__})"
        try:
            output = module(h.clone())
        except Exception as error:
            raise ProfileError(f"{of} fails on {tuple(h.shape)} {h.dtype}: {error}") from error
        if not isinstance(output, Tensor) or not output.is_floating_point():
            dtype = output.dtype if isinstance(output, Tensor) else type(output).__name__
            raise ProfileError(f"{of} returns {dtype}; it has to return one floating tensor")
        return output

    def _make_head(self, spec: HeadSpec, shape: Shape) -> nn.Module:
        network = self._network
        head = make_head(
            spec,
            shape=shape,
            classes=self._classes,
            features=network.features,
            reduction=network.reduction,
        )
        return head.to(self._batch.device).train()

    def _run_layer(self, number: int, part: _Part, h: Tensor) -> Tensor:
        output = self._clock.time((number, "forward"), partial(self._forward, part, _input(h)))
        output = output.detach()
        # As small as the gradient of a mean: the weights shall stay what they are.
        delta = torch.randn_like(output) / output.numel()
        for what, wanted in (("entry", False), ("inner", True)):
            part.clear()
            x = _input(h, gradient=wanted)
            self._clock.time((number, what), partial(self._step_layer, part, x, delta))
        self._update(number, part)
        return output

    def _run_head(self, name: Hashable, part: _Part, h: Tensor, loss: HeadLoss) -> None:
        part.clear()
        x = _input(h, gradient=True)
        self._clock.time((name, "inner"), partial(self._step_head, part, x, loss))
        self._update(name, part)

    def _update(self, name: Hashable, part: _Part) -> None:
        if part.optimizer is not None:
            self._clock.time((name, "update"), part.optimizer.step)
        part.clear()

    def _forward(self, part: _Part, x: Tensor) -> Tensor:
        with self._autocast():
            return part.module(x)

    def _step_layer(self, part: _Part, x: Tensor, delta: Tensor) -> None:
        output = self._forward(part, x)
        if output.requires_grad:
            output.backward(delta)

    def _loss_of_logits(self, head: Any, x: Tensor, labels: Tensor) -> Tensor:
        return self._loss(head(x), labels)

    def _step_head(self, part: _Part, x: Tensor, loss: HeadLoss) -> None:
        with self._autocast():
            value = loss(part.module, x, self._labels)
        value.backward()


def _input(h: Tensor, *, gradient: bool = False) -> Tensor:
    """Copy an activation: layers may work in place, which a leaf with a gradient forbids."""
    if gradient and h.is_floating_point():
        return h.detach().requires_grad_().clone()
    return h.clone()


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _nothing() -> None:
    """Wait for nothing: the CPU has done what it was told."""
