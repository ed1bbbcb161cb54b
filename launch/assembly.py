"""From a configuration to the objects that learn: network, data, heads, losses.

Everything random is seeded by what it is for, so a head has the same initial weights whatever the
other blocks are, and every rank that builds the network builds the same one.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..models import Network, layer_shapes, make_head, make_network, network_of
from ..pipeline.block import Criterion
from ..pipeline.optimization import OptimizationConfig
from ..pipeline.seed import derive
from ..search.decoupling import NO_HEAD, Decoupling
from .config import SetupConfig, TrainConfig
from .data import Data, data_from, load_data
from .found import with_psi
from .job import Objects, Task
from .refusal import ConfigError

__all__ = [
    "build_criterion",
    "build_data",
    "build_examiner",
    "build_heads",
    "build_metrics",
    "build_network",
    "instantiate",
    "seeded",
    "task_of",
]


@contextmanager
def seeded(seed: int, *purpose: int | str) -> Iterator[None]:
    """Draw from torch's generator as ``derive(seed, *purpose)`` says; then leave no trace."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, *purpose))
        yield


def instantiate(spec: Mapping[str, Any], key: str, **offered: Any) -> Any:
    """Call what ``spec["_target_"]`` names with the other keys of ``spec``.

    Args:
        spec: ``{"_target_": "package.module.Name", **arguments}``.
        key: The configuration key, for errors.
        offered: Passed where the signature has them and ``spec`` does not set them.

    Raises:
        ConfigError: It cannot be imported, or does not take these arguments.
    """
    target = str(spec.get("_target_"))
    module_name, _, name = target.rpartition(".")
    try:
        made = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{key}._target_={target} cannot be imported ({error}); give package.module.Name of "
            "something importable from the current folder"
        ) from error
    arguments = {name: value for name, value in spec.items() if name != "_target_"}
    known = inspect.signature(made).parameters
    extra = {name: value for name, value in offered.items() if name in known}
    try:
        return made(**{**extra, **arguments})
    except TypeError as error:
        raise ConfigError(
            f"{key}._target_={target} does not take {sorted(arguments)}: {error}; its signature "
            f"is {name}{inspect.signature(made)}"
        ) from error


def build_data(config: SetupConfig, objects: Objects, device: torch.device) -> Data:
    """Load the data set that the run trains on, onto ``device``."""
    if objects.data is not None:
        return data_from(objects.data, config.data, seed=config.seed, device=device)
    return load_data(config.data, seed=config.seed, device=device)


def task_of(data: Data) -> Task:
    """Describe a data set for ranks that do not load it."""
    x, _ = data.example(1)
    dtype = str(x.dtype).removeprefix("torch.")
    return Task(data.name, data.classes, tuple(data.shape), dtype, dict(data.sizes))


def build_network(
    config: SetupConfig, objects: Objects, task: Task, *, whole: bool = False
) -> Network:
    """Make the network with its initial weights, on the CPU.

    Args:
        config: Says which.
        objects: What a Python caller brought along.
        task: What the data look like.
        whole: Whether a user's module is taken as one layer, whatever it is made of.

    Raises:
        ConfigError: The model cannot be made, cut into layers, or loaded with ``model.weights``.
    """
    options = dict(config.model)
    weights = options.pop("weights", None)
    try:
        with seeded(config.seed, "network"):
            network = _make(options, objects, task, network_whole if whole else network_of)
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(f"model: {error}") from error
    if weights is not None:
        _load_weights(network, Path(weights))
    if not isinstance(config, TrainConfig):
        return network
    if config.predsim.inputs is not None:
        # No other method may set it, so there are no heads that take the features for a width.
        network = dataclasses.replace(network, features=config.predsim.inputs)
    return with_psi(config, network, task)


def network_whole(module: nn.Module) -> Network:
    """Describe a user's module that is never cut: it is one layer."""
    return Network(type(module).__name__, module, (module,), nn.Identity())


def _make(
    options: dict[str, Any],
    objects: Objects,
    task: Task,
    describe: Callable[[nn.Module], Network],
) -> Network:
    channels = task.shape[0]
    if objects.network is not None:
        return describe(copy.deepcopy(objects.network))
    if "_target_" in options:
        module = instantiate(options, "model", classes=task.classes, in_channels=channels)
        if not isinstance(module, nn.Module):
            raise ConfigError(
                f"model._target_={options['_target_']} made a {type(module).__name__}; "
                "it has to make a torch.nn.Module"
            )
        return describe(module)
    if "python" in options:
        raise ConfigError(
            f"the run's network, a {options['python']}, was given in Python; give it again: "
            "blockstep.train(network, resume=...) or Result.load_into(network)"
        )
    name = str(options.pop("name"))
    size = task.shape[-1] if len(task.shape) == 3 else 1
    return make_network(name, classes=task.classes, in_channels=channels, size=size, **options)


def _load_weights(network: Network, path: Path) -> None:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.module.load_state_dict(state)
    except Exception as error:
        raise ConfigError(
            f"model.weights={path} cannot be loaded into {network.name}: {error}"
        ) from error


def build_heads(network: Network, decoupling: Decoupling, task: Task, seed: int) -> list[nn.Module]:
    """Make the head of each block but the last, on the CPU; an identity for ``NO_HEAD``.

    Args:
        network: The network.
        decoupling: Where it is cut, and what each head is.
        task: What the data look like.
        seed: The run's seed.

    Raises:
        ConfigError: A head is unknown or does not fit the layer's output.
    """
    if not decoupling.cuts:
        return []
    try:
        shapes = layer_shapes(network, task.example())
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error
    made: list[nn.Module] = []
    for cut, head in zip(decoupling.cuts, decoupling.heads, strict=True):
        if head == NO_HEAD:
            made.append(nn.Identity())
            continue
        with seeded(seed, "head", cut):
            try:
                made.append(
                    make_head(
                        head,
                        shape=tuple(shapes[cut - 1]),
                        classes=task.classes,
                        features=network.features,
                        reduction=network.reduction,
                    )
                )
            except (ValueError, TypeError) as error:
                raise ConfigError(f"heads: the head after layer {cut}: {error}") from error
    return made


def build_criterion(config: OptimizationConfig) -> Criterion:
    """Make the local loss: cross-entropy with ``train.label_smoothing``, or ``train.loss``."""
    if config.loss is not None:
        return instantiate(config.loss, "train.loss")
    return nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)


def build_examiner(config: OptimizationConfig) -> Criterion:
    """Make the loss that evaluations report: without smoothing."""
    if config.loss is not None:
        return instantiate(config.loss, "train.loss")
    return nn.CrossEntropyLoss()


def build_metrics(config: OptimizationConfig, classes: int) -> dict[str, Any]:
    """Make the further metrics of ``train.metrics``, named after their classes."""
    metrics = {}
    for number, spec in enumerate(config.metrics):
        metric = instantiate(spec, f"train.metrics[{number}]", num_classes=classes)
        metrics[type(metric).__name__] = metric
    return metrics
