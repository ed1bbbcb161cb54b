"""What autograd keeps of each layer and head, measured with a few examples on the CPU.

As ``dry_run=true`` measures it (training/forecast.py), but for each layer, so that it can be added
up for any block. A tensor that two layers keep is counted once; that of a layer's output always,
because it is handed on; that of its input never, because a block's input is counted for the block.

    kept of a layer per example = (bytes with 4 examples - bytes with 2 examples) / 2

so that what does not grow with the batch, such as weights in half precision, is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...models import HeadSpec, Network, layer_shapes, make_head
from ...pipeline.block import autocast
from ...search.prediction.measurements import Storage
from ..job import Task

__all__ = ["measure_storage"]

FEW, MORE = 2, 4


class _Ledger:
    """Counts the bytes of storages that were not seen before."""

    def __init__(self, ignored: Sequence[Tensor]) -> None:
        self._seen = {tensor.untyped_storage().data_ptr() for tensor in ignored}
        # A freed storage's address could return as another's.
        self._alive: list[Tensor] = []
        self.nbytes = 0

    def count(self, tensor: Tensor) -> Tensor:
        """Count a tensor; return it."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self._alive.append(tensor.detach())
            self.nbytes += storage.nbytes()
        return tensor

    def of(self, work: Callable[[], Tensor]) -> tuple[int, Tensor]:
        """Return the bytes that ``work`` adds, its output included, and the output."""
        before = self.nbytes
        with torch.autograd.graph.saved_tensors_hooks(self.count, lambda tensor: tensor):
            output = work()
        self.count(output)
        return self.nbytes - before, output


@dataclass
class _Walk:
    """What one forward pass keeps.

    Attributes:
        layers, outputs, classifier: Bytes, for all examples.
        heads: For each head and each layer but the last.
    """

    layers: list[int]
    outputs: list[int]
    heads: list[list[int | None]]
    classifier: int = 0


def measure_storage(
    network: Network, heads: Sequence[HeadSpec], task: Task, *, precision: str
) -> tuple[Storage, tuple[int, ...]]:
    """Measure what is kept between forward and backward.

    Args:
        network: The network; it stays as it is.
        heads: The heads that may follow each layer but the last.
        task: What the data look like.
        precision: What would be trained in; float16 takes as much as bfloat16.

    Returns:
        The storage, and the bytes of each layer's output for one example.
    """
    halved = "bfloat16" if precision == "float16" else precision
    made: dict[tuple[int, tuple[int, ...]], nn.Module | None] = {}
    with _evaluating(network), torch.enable_grad(), autocast(torch.device("cpu"), halved):
        few, more = (_walk(network, heads, task, made, count) for count in (FEW, MORE))

    def each(left: Sequence[int | None], right: Sequence[int | None]) -> tuple[int | None, ...]:
        return tuple(_per_example(*pair) for pair in zip(left, right, strict=True))

    x = task.example(1)
    shapes = layer_shapes(network, x)[:-1]
    storage = Storage(
        inputs=x.numel() * x.element_size(),
        layers=_known(each(few.layers, more.layers)),
        classifier=_per_example(few.classifier, more.classifier) or 0,
        heads=tuple(each(*rows) for rows in zip(few.heads, more.heads, strict=True)),
        head_parameters=tuple(
            tuple(_size(made[index, tuple(shape)]) for shape in shapes)
            for index in range(len(heads))
        ),
    )
    return storage, _known(each(few.outputs, more.outputs))


def _walk(
    network: Network,
    heads: Sequence[HeadSpec],
    task: Task,
    made: dict[tuple[int, tuple[int, ...]], nn.Module | None],
    examples: int,
) -> _Walk:
    x = task.example(examples)
    ledger = _Ledger([x, *network.module.parameters(), *network.module.buffers()])
    walk = _Walk([], [], [[] for _ in heads])
    h = x
    for number, layer in enumerate(network.layers, start=1):
        kept, h = ledger.of(lambda layer=layer, h=h: layer(h))
        walk.layers.append(kept)
        walk.outputs.append(h.numel() * h.element_size())
        if number == len(network.layers):
            continue
        for index, spec in enumerate(heads):
            key = index, tuple(h.shape[1:])
            if key not in made:
                made[key] = _make(network, spec, task, key[1])
            walk.heads[index].append(_kept(made[key], h))
    walk.classifier, _ = ledger.of(lambda: network.classifier(h))
    return walk


def _make(network: Network, spec: HeadSpec, task: Task, shape: tuple[int, ...]) -> nn.Module | None:
    """Make a head; None if it does not fit."""
    try:
        head = make_head(
            spec,
            shape=shape,
            classes=task.classes,
            features=network.features,
            reduction=network.reduction,
        )
    except (ValueError, TypeError):
        return None
    return head.eval()


def _kept(head: nn.Module | None, h: Tensor) -> int | None:
    if head is None:
        return None
    ledger = _Ledger([h, *head.parameters(), *head.buffers()])
    return ledger.of(lambda: head(h))[0]


def _per_example(few: int | None, more: int | None) -> int | None:
    return None if few is None or more is None else (more - few) // (MORE - FEW)


def _known(values: Sequence[int | None]) -> tuple[int, ...]:
    return tuple(value or 0 for value in values)


def _size(module: nn.Module | None) -> int | None:
    if module is None:
        return None
    return sum(one.numel() for one in module.parameters() if one.requires_grad)


@contextmanager
def _evaluating(network: Network) -> Iterator[None]:
    """Nothing random, and no statistics change."""
    modules = [one for part in (*network.layers, network.classifier) for one in part.modules()]
    modes = [one.training for one in modules]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module, training in zip(modules, modes, strict=True):
            module.training = training
