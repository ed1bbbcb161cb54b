"""Which values a training can have: one small check per key, and per relation between keys."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .config import TrainConfig
from .refusal import Refusals, closest, shown
from .schema import build

__all__ = ["CHOICES", "HEADS", "METHODS", "check_train", "infer_train", "validate"]

METHODS = ("decoupled", "sedona", "backprop")
HEADS = ("aux1", "aux2", "aux3", "aux4", "mlp_sr", "linear")

CHOICES: Mapping[str, Sequence[str]] = {
    "method": METHODS,
    "runtime": ("pipeline", "sequential"),
    "device": ("auto", "cpu", "cuda"),
    "train.optimizer": ("sgd", "adam", "adamw"),
    "train.schedule": ("cosine", "multistep", "constant"),
    "train.precision": ("float32", "bfloat16", "float16"),
    "pipeline.link": ("auto", "local", "gloo", "nccl"),
    "log.view": ("auto", "live", "plain", "none"),
    "wandb.mode": ("offline", "online", "disabled"),
}


@dataclass(frozen=True)
class Range:
    """The numbers a key may have; null is left to the key's type.

    Attributes:
        low, high: Smallest and largest value.
        above, below: Limits that are not reached themselves.
    """

    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high and self.above < value < self.below

    def __str__(self) -> str:
        limits = {
            "at least": self.low,
            "above": self.above,
            "at most": self.high,
            "below": self.below,
        }
        stated = (f"{word} {limit:g}" for word, limit in limits.items() if math.isfinite(limit))
        return " and ".join(stated)


_COUNT = Range(low=1)
_OR_NONE = Range(low=0)
_POSITIVE = Range(above=0)
_SHARE = Range(low=0, below=1)

RANGES: Mapping[str, Range] = {
    "blocks": _COUNT,
    "seed": _OR_NONE,
    "data.size": _COUNT,
    "data.validation": _SHARE,
    "data.train_examples": _COUNT,
    "data.workers": _OR_NONE,
    "data.augment.crop": _OR_NONE,
    "data.augment.rotation": Range(low=0, high=180),
    "data.augment.cutout": _OR_NONE,
    "train.steps": _COUNT,
    "train.batch_size": _COUNT,
    "train.lr": _POSITIVE,
    "train.momentum": _SHARE,
    "train.weight_decay": _OR_NONE,
    "train.lr_min": _OR_NONE,
    "train.gamma": Range(above=0, high=1),
    "train.warmup": _OR_NONE,
    "train.clip": _POSITIVE,
    "train.label_smoothing": _SHARE,
    "train.chunk": _COUNT,
    "train.threads": _COUNT,
    "pipeline.queue_messages": _COUNT,
    "pipeline.queue_bytes": _COUNT,
    "pipeline.start_timeout": _POSITIVE,
    "pipeline.timeout": _POSITIVE,
    "checkpoint.every": _OR_NONE,
    "checkpoint.keep": _COUNT,
    "evaluate.every": _OR_NONE,
    "evaluate.batch_size": _COUNT,
    "log.every": _COUNT,
    "measure.backprop": _OR_NONE,
    "measure.alone": _OR_NONE,
    "profile.stage": _COUNT,
    "profile.start": _OR_NONE,
    "profile.steps": _COUNT,
}

# Texts that must not be empty; null is left to the key's type.
TEXTS = ("runs", "resume", "data.name", "data.root", "wandb.project", "wandb.entity")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@,-]{0,99}")
_CLASS = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_DEVICE = re.compile(r"cpu|cuda(:\d+)?")


def validate(config: TrainConfig) -> TrainConfig:
    """Check a configuration that was not composed, such as one built in Python.

    Returns:
        A copy with every value in the type of its key, such as ``lr=1`` as 1.0.

    Raises:
        ConfigError: One line for each problem, with the key, the value and what would be valid.
    """
    refusals = Refusals()
    typed = build(type(config), asdict(config), refusals)
    refusals.raise_any()
    check_train(typed, refusals)
    refusals.raise_any()
    return typed


def infer_train(config: TrainConfig, given: set[str]) -> None:
    """Settle the number of blocks where other keys fix it and it was not typed."""
    if "blocks" not in given:
        if config.cuts is not None:
            config.blocks = len(config.cuts) + 1
        elif config.method == "backprop":
            config.blocks = 1
        elif Path(config.decoupling).is_file():
            # Imported here: everything else is checked without loading torch.
            from ..search.decoupling import Decoupling, DecouplingError

            # A file that cannot be read is refused later, with its reason.
            with suppress(DecouplingError):
                config.blocks = Decoupling.load(config.decoupling).blocks


def check_train(config: TrainConfig, refusals: Refusals) -> None:
    """Note every impossible value of a configuration whose types are right."""
    for key, known in CHOICES.items():
        value = _at(config, key)
        if value not in known:
            refusals.add(key, value, f"choose one of {', '.join(known)}{closest(value, known)}")
    for key, limits in RANGES.items():
        value = _at(config, key)
        if value is not None and value not in limits:
            refusals.add(key, value, f"must be {limits}")
    for key in TEXTS:
        if _at(config, key) == "":
            refusals.add(key, "", "must not be empty")
    for relation in _RELATIONS:
        relation(config, refusals)


def _name(config: TrainConfig, refusals: Refusals) -> None:
    if config.name is not None and not _NAME.fullmatch(config.name):
        refusals.add(
            "name",
            config.name,
            "must be a plain folder name: letters, digits and _ . + = @ , - (neither . nor -"
            " first), at most 100 characters; the folder above is runs=DIR",
        )


def _blocks(config: TrainConfig, refusals: Refusals) -> None:
    if config.method == "backprop" and (config.blocks != 1 or config.cuts):
        key = "cuts" if config.cuts else "blocks"
        refusals.add(
            key,
            _at(config, key),
            "method=backprop trains the whole network as one block; leave blocks and cuts out,"
            " or choose method=decoupled",
        )


def _cuts(config: TrainConfig, refusals: Refusals) -> None:
    cuts, default = config.cuts, TrainConfig().decoupling
    if cuts is None:
        return
    if any(cut < 1 for cut in cuts) or any(a >= b for a, b in itertools.pairwise(cuts)):
        refusals.add("cuts", cuts, "must be strictly increasing layers, counted from 1")
    if len(cuts) != config.blocks - 1 and config.method != "backprop":
        refusals.add(
            "cuts",
            cuts,
            f"{len(cuts)} cuts make {len(cuts) + 1} blocks, but blocks={config.blocks};"
            f" give {config.blocks - 1} cuts or blocks={len(cuts) + 1}",
        )
    if config.decoupling != default:
        refusals.add(
            "cuts", cuts, f"decoupling={config.decoupling} also says where to cut; give one of them"
        )


def _decoupling(config: TrainConfig, refusals: Refusals) -> None:
    known = ("balanced", "uniform", "random")
    value = config.decoupling
    # A bare word without .json is taken for a misspelt choice, not for a file.
    if not (value in known or "/" in value.strip("/") or value.endswith(".json")):
        refusals.add(
            "decoupling",
            value,
            f"choose one of {', '.join(known)}, sedona/NAME, or a file such as DIR/decoupling.json"
            f"{closest(value, known)}",
        )


def _heads(config: TrainConfig, refusals: Refusals) -> None:
    if config.heads is None:
        return
    listed = isinstance(config.heads, list)
    for head in config.heads if listed else [config.heads]:
        if isinstance(head, dict):
            _class("heads", head, refusals)
        elif head not in HEADS:
            refusals.add(
                "heads",
                config.heads,
                f"{shown(head)} is no head; choose of {', '.join(HEADS)}, or give"
                f" heads._target_=package.Head{closest(str(head), HEADS)}",
            )
    if listed and len(config.heads) != config.blocks - 1:
        refusals.add(
            "heads",
            config.heads,
            f"{len(config.heads)} heads for {config.blocks} blocks; give {config.blocks - 1}, one"
            " per cut (the last block's head is the classifier), or one name for all",
        )


def _class(key: str, value: Mapping[str, Any], refusals: Refusals) -> None:
    target = value.get("_target_")
    if target is None:
        refusals.add(key, value, f"needs a class: {key}._target_=package.Class")
    elif not isinstance(target, str) or not _CLASS.fullmatch(target):
        refusals.add(f"{key}._target_", target, "must be a dotted name, such as package.Class")


def _classes(config: TrainConfig, refusals: Refusals) -> None:
    for key in ("data.target", "train.loss"):
        value = _at(config, key)
        if value is not None:
            _class(key.removesuffix(".target"), value, refusals)
    for metric in config.train.metrics:
        if isinstance(metric, dict) and "_target_" in metric:
            _class("train.metrics", metric, refusals)
        else:
            refusals.add("train.metrics", metric, "each must be {_target_: package.Metric}")


def _model(config: TrainConfig, refusals: Refusals) -> None:
    model = config.model
    if "_target_" in model:
        _class("model", model, refusals)
        return
    if "python" in model:
        # Written by a run whose network was given in Python; the value is its class.
        return
    if not isinstance(model.get("name"), str):
        refusals.add("model", model, "needs a network: model=NAME or model._target_=package.Class")
    width, weights = model.get("width", 1.0), model.get("weights")
    if isinstance(width, bool) or not isinstance(width, int | float) or width not in _POSITIVE:
        refusals.add("model.width", width, "must be a number above 0, such as 0.25")
    if weights is not None and (not isinstance(weights, str) or not weights):
        refusals.add("model.weights", weights, "must be the name of a file, or null")


def _rates(config: TrainConfig, refusals: Refusals) -> None:
    train = config.train
    if train.schedule == "cosine" and train.lr_min > train.lr > 0:
        refusals.add(
            "train.lr_min",
            train.lr_min,
            f"the cosine schedule ends there, so it must be at most train.lr={train.lr};"
            " train.lr_min=0 always works",
        )
    if train.warmup > train.steps:
        refusals.add("train.warmup", train.warmup, f"must be at most train.steps={train.steps}")


def _milestones(config: TrainConfig, refusals: Refusals) -> None:
    train = config.train
    steps = train.milestones
    if any(step < 1 for step in steps) or any(a >= b for a, b in itertools.pairwise(steps)):
        refusals.add("train.milestones", steps, "must be strictly increasing steps, from 1")
    if train.schedule != "multistep":
        return
    if not steps:
        refusals.add(
            "train.milestones", steps, "train.schedule=multistep needs some, such as [500,750]"
        )
    elif max(steps) > train.steps:
        refusals.add("train.milestones", steps, f"must not lie beyond train.steps={train.steps}")


def _optimizer(config: TrainConfig, refusals: Refusals) -> None:
    train = config.train
    if len(train.betas) != 2 or any(beta not in _SHARE for beta in train.betas):
        refusals.add("train.betas", train.betas, f"must be two numbers, each {_SHARE}")
    if train.nesterov and (train.optimizer != "sgd" or train.momentum == 0):
        refusals.add(
            "train.nesterov",
            True,
            f"needs train.optimizer=sgd and train.momentum above 0, not {train.optimizer}"
            f" and {train.momentum}",
        )


def _chunk(config: TrainConfig, refusals: Refusals) -> None:
    chunk, batch = config.train.chunk, config.train.batch_size
    if chunk is not None and chunk > batch:
        refusals.add("train.chunk", chunk, f"must be at most train.batch_size={batch}")


def _devices(config: TrainConfig, refusals: Refusals) -> None:
    devices = config.pipeline.devices
    if devices is not None and not (devices and all(map(_DEVICE.fullmatch, devices))):
        refusals.add(
            "pipeline.devices", devices, "must be a list of cpu, cuda or cuda:N, such as [cuda:0]"
        )


def _profile(config: TrainConfig, refusals: Refusals) -> None:
    stage = config.profile.stage
    if stage is not None and stage > config.blocks:
        refusals.add("profile.stage", stage, f"must be at most blocks={config.blocks}")


_RELATIONS: Sequence[Callable[[TrainConfig, Refusals], None]] = (
    _name,
    _model,
    _blocks,
    _cuts,
    _decoupling,
    _heads,
    _classes,
    _rates,
    _milestones,
    _optimizer,
    _chunk,
    _devices,
    _profile,
)


def _at(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = getattr(config, name)
    return config
