"""Data sets of a user's own: any object with a ``train`` and a ``test`` part.

Each part is ``(x, y)``, two tensors or arrays, or a map-style ``torch.utils.data.Dataset`` whose
items are such pairs. A ``validation`` part is optional. Further attributes are optional as well:

    classes   their number, or a list of their names; else counted from the labels
    mean,     one number per channel, of the training images in [0, 1]; else computed, and for
    std       Datasets 0 and 1

What an input is follows from its type: bytes (uint8) of two or three dimensions are images and are
normalised and augmented, other integers are tokens (int64), other numbers stay as they are
(float32).
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from ..config import DataConfig
from .assembly import assemble
from .data import Data
from .error import DataError
from .part import MemoryPart, Part, Parts, Statistics, StreamPart

__all__ = ["Item", "call_target", "data_from"]


def data_from(
    parts: Any,
    config: DataConfig | None = None,
    *,
    seed: int,
    device: torch.device,
    name: str | None = None,
) -> Data:
    """The data of a run, from an object with a train and a test part.

    Args:
        parts: see the module; a mapping with these keys does as well.
        config: the ``data.*`` keys; None: their defaults.
        seed: the run's seed.
        device: where batches go.
        name: of the data set; None: the name of the object's class.

    Raises:
        DataError: the parts are missing or cannot be used.
    """
    name = name or ("data" if isinstance(parts, Mapping) else type(parts).__name__)
    config = config or DataConfig()
    found = {split: _part(parts, split) for split in ("train", "test", "validation")}
    for split in ("train", "test"):
        if found[split] is None:
            raise DataError(
                f"data set {name}: it has no {split} part; give attributes (or keys) train and "
                "test, each two tensors (x, y) or a map-style Dataset"
            )
    converted = {
        split: _converted(part, f"data set {name}, {split}")
        for split, part in found.items()
        if part is not None
    }
    if config.size is not None and isinstance(converted["train"], StreamPart):
        raise DataError(f"data.size={config.size}: {name} is a Dataset; resize its items there")
    described = Parts(
        name,
        classes=_classes(parts, found["train"], converted, name),
        train=converted["train"],
        test=converted["test"],
        validation=converted.get("validation"),
        statistics=_statistics(parts),
    )
    return assemble(described, config, seed=seed, device=device)


def call_target(target: Mapping[str, Any], *, root: str | None, seed: int) -> Any:
    """Calls the class or function that ``data._target_`` names.

    Args:
        target: ``_target_`` and the keys that it is called with.
        root: ``data.root``, given where the signature has a ``root``.
        seed: the run's seed, given where the signature has a ``seed``.

    Raises:
        DataError: it cannot be imported, or does not take these keys.
    """
    from hydra.utils import get_object

    path = str(target.get("_target_"))
    keys = {key: value for key, value in target.items() if key != "_target_"}
    try:
        function = get_object(path)
    except Exception as error:
        # Importing runs the user's module, which may raise anything.
        raise DataError(f"data._target_={path}: it cannot be imported: {error}") from error
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise DataError(f"data._target_={path}: it cannot be called: {error}") from error
    offered = {"root": root, "seed": seed}
    keys |= {
        key: offered[key] for key in offered if key in signature.parameters and key not in keys
    }
    try:
        signature.bind(**keys)
    except TypeError as error:
        raise DataError(
            f"data._target_={path}: {error}; it takes {path.rpartition('.')[2]}{signature}"
        ) from error
    return function(**keys)


class Item:
    """Makes an example from an item of a Dataset; see :class:`~.part.Fetch`.

    The global random numbers of Python, numpy and torch are seeded for every training example, so
    that a Dataset's own augmentation does not depend on who calls it, and when.

    Args:
        dataset: map-style, with items (x, y).
        source: where it comes from, for messages.
    """

    def __init__(self, dataset: Any, source: str) -> None:
        self.dataset = dataset
        self.source = source

    def __call__(self, key: int, number: int | None) -> tuple[Tensor, int]:
        """The converted item ``key``; ``number`` is the seed, None in evaluation."""
        with _seeded(number or 0):
            item = self.dataset[key]
        source = f"{self.source}, item {key}"
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise DataError(f"{source}: expected a pair (x, y), found {type(item).__name__}")
        x = _tensor(item[0], source)
        label = _tensor(item[1], source)
        if label.numel() != 1 or label.is_floating_point():
            raise DataError(f"{source}: expected one integer as label, found {item[1]!r}")
        return _input(x, x.dim(), source), int(label)


@contextmanager
def _seeded(number: int) -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.default_generator.manual_seed(number)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.default_generator.set_state(states[2])


def _part(parts: Any, split: str) -> Any:
    if isinstance(parts, Mapping):
        return parts.get(split)
    return getattr(parts, split, None)


def _converted(part: Any, source: str) -> Part:
    if isinstance(part, TensorDataset):
        part = part.tensors
    if isinstance(part, tuple | list) and len(part) == 2:
        return _in_memory(part[0], part[1], source)
    if hasattr(part, "__getitem__") and hasattr(part, "__len__"):
        labels = _labels(part, source)
        return StreamPart(range(len(part)), labels, Item(part, source))
    raise DataError(
        f"{source}: expected two tensors (x, y) or a map-style Dataset, found {type(part).__name__}"
    )


def _in_memory(x: Any, y: Any, source: str) -> MemoryPart:
    inputs, labels = _tensor(x, source), _tensor(y, source)
    if labels.dim() != 1 or labels.is_floating_point() or labels.is_complex():
        raise DataError(
            f"{source}: expected integer labels of shape (N,), found {labels.dtype} of shape "
            f"{tuple(labels.shape)}"
        )
    if inputs.dim() < 2 or len(inputs) != len(labels):
        raise DataError(
            f"{source}: expected one label per example, found x of shape {tuple(inputs.shape)} "
            f"and y of shape {tuple(labels.shape)}"
        )
    return MemoryPart(_input(inputs, inputs.dim() - 1, source), labels.long())


def _input(x: Tensor, dimensions: int, source: str) -> Tensor:
    """The input in its final type; images get a channel dimension.

    Args:
        x: one example, or many.
        dimensions: of one example.
        source: for messages.
    """
    if x.is_floating_point():
        return x.float()
    if x.is_complex() or x.dtype == torch.bool:
        raise DataError(f"{source}: inputs of type {x.dtype}; give float32, uint8 or int64")
    if x.dtype == torch.uint8 and dimensions == 2:
        return x.unsqueeze(-3)
    if x.dtype == torch.uint8 and dimensions == 3:
        if x.shape[-3] > 4 and x.shape[-1] <= 4:
            raise DataError(
                f"{source}: images of shape {tuple(x.shape[-3:])}; the channels come first, so "
                "permute them to (C, H, W)"
            )
        return x
    if dimensions > 2:
        raise DataError(
            f"{source}: {x.dtype} inputs of shape {tuple(x.shape)}; give images as uint8 or float32"
        )
    return x.long()


def _tensor(value: Any, source: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    try:
        array = np.ascontiguousarray(value) if isinstance(value, np.ndarray) else np.array(value)
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    except (TypeError, ValueError) as error:
        raise DataError(f"{source}: expected tensors or arrays of numbers: {error}") from error


def _labels(dataset: Any, source: str) -> Tensor:
    """The labels of a Dataset where it tells them beforehand (``targets``), else all 0."""
    targets = getattr(dataset, "targets", None)
    if targets is None:
        return torch.zeros(len(dataset), dtype=torch.int64)
    labels = _tensor(targets, source)
    if labels.shape != (len(dataset),) or labels.is_floating_point():
        raise DataError(
            f"{source}: expected {len(dataset)} integers as targets, found {labels.dtype} of "
            f"shape {tuple(labels.shape)}"
        )
    return labels.long()


def _classes(parts: Any, train: Any, converted: Mapping[str, Part], name: str) -> int:
    for candidate in (_part(parts, "classes"), getattr(train, "classes", None)):
        if candidate is not None:
            return candidate if isinstance(candidate, int) else len(candidate)
    if isinstance(converted["train"], StreamPart) and not hasattr(train, "targets"):
        raise DataError(f"data set {name}: how many classes? Give it an attribute classes")
    return 1 + max(int(part.labels.max()) for part in converted.values() if len(part))


def _statistics(parts: Any) -> Statistics | None:
    mean, std = _part(parts, "mean"), _part(parts, "std")
    if mean is None or std is None:
        return None
    return Statistics(tuple(map(float, mean)), tuple(map(float, std)))
