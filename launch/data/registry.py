"""The data sets that have a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..config import DataConfig
from ..refusal import closest
from .assembly import assemble
from .cifar import SOURCE10, SOURCE100, cifar10, cifar100
from .data import Data
from .digits import digits
from .error import DataError
from .imagenet import IMAGENET, imagenet
from .input_selection import input_selection
from .mnist import FASHION_MNIST, MNIST, fashion_mnist, mnist
from .own import call_target, data_from
from .part import Parts
from .place import Source
from .tiny_imagenet import TINY_IMAGENET, tiny_imagenet

__all__ = ["DATA_SETS", "DRAWN", "SOURCES", "load_data"]

READ: dict[str, Callable[[DataConfig], Parts]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "tiny_imagenet": tiny_imagenet,
    "imagenet": imagenet,
}
"""Reads each data set."""

DRAWN: dict[str, Callable[[DataConfig, int], Parts]] = {"input_selection": input_selection}
"""Draws each artificial data set by the run's seed."""

DATA_SETS = (*READ, *DRAWN)
"""The names; ``conf/data/NAME.yaml`` holds the recipe of each."""

SOURCES: Mapping[str, Source[Any]] = {
    source.name: source
    for source in (MNIST, FASHION_MNIST, SOURCE10, SOURCE100, TINY_IMAGENET, IMAGENET)
}
"""Where the files of each are; digits are inside a package, artificial ones have none."""


def load_data(config: DataConfig, *, seed: int, device: torch.device) -> Data:
    """Reads a data set and prepares it for a run.

    Args:
        config: the ``data.*`` keys. ``target`` names a data set of the user's own; else ``name``
            is one of ``DATA_SETS``.
        seed: the run's seed; it decides the order and the augmentation, never the split, and what
            an artificial data set is.
        device: where batches go.

    Raises:
        DataError: the name is unknown, files are missing or damaged, or a key does not fit.
    """
    if config.target is not None:
        parts = call_target(config.target, root=config.root, seed=seed)
        name = str(config.target["_target_"]).rpartition(".")[2]
        return data_from(parts, config, seed=seed, device=device, name=name)
    if config.name not in DATA_SETS:
        raise DataError(
            f"data={config.name}: there is no such data set{closest(config.name, DATA_SETS)}; "
            f"known are {', '.join(DATA_SETS)}, and your own by data._target_=package.Class"
        )
    drawn = config.name in DRAWN
    parts = DRAWN[config.name](config, seed) if drawn else READ[config.name](config)
    return assemble(parts, config, seed=seed, device=device)
