"""Which values a configuration can have: a small check per key, and per relation between keys.

What all commands share is here; each adds its own keys, in a `Limits`.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .config import RunConfig
from .refusal import Refusals, closest, shown

__all__ = [
    "CHOICES",
    "COUNT",
    "HEADS",
    "OR_NONE",
    "POSITIVE",
    "RANGES",
    "SETUP_RELATIONS",
    "SHARE",
    "Limits",
    "Range",
    "at",
    "check",
    "check_class",
    "check_heads",
    "check_values",
]

Relation = Callable[[Any, Refusals], None]
"""Notes what is wrong between several keys of a configuration."""

HEADS = ("aux1", "aux2", "aux3", "aux4", "mlp_sr", "predsim", "linear")

CHOICES: Mapping[str, Sequence[str]] = {
    "device": ("auto", "cpu", "cuda"),
    "train.optimizer": ("sgd", "adam", "adamw"),
    "train.schedule": ("cosine", "multistep", "constant"),
    "train.precision": ("float32", "bfloat16", "float16"),
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


COUNT = Range(low=1)
OR_NONE = Range(low=0)
POSITIVE = Range(above=0)
SHARE = Range(low=0, below=1)

RANGES: Mapping[str, Range] = {
    "seed": OR_NONE,
    "restarts": OR_NONE,
    "data.size": COUNT,
    "data.validation": SHARE,
    "data.train_examples": COUNT,
    "data.classes_per_batch": COUNT,
    "data.classes_until": COUNT,
    "data.workers": OR_NONE,
    "data.augment.crop": OR_NONE,
    "data.augment.rotation": Range(low=0, high=180),
    "data.augment.cutout": OR_NONE,
    "train.steps": COUNT,
    "train.batch_size": COUNT,
    "train.lr": POSITIVE,
    "train.momentum": SHARE,
    "train.weight_decay": OR_NONE,
    "train.lr_min": OR_NONE,
    "train.gamma": Range(above=0, high=1),
    "train.warmup": OR_NONE,
    "train.clip": POSITIVE,
    "train.label_smoothing": SHARE,
    "train.chunk": COUNT,
    "train.threads": COUNT,
    "pipeline.start_timeout": POSITIVE,
    "pipeline.timeout": POSITIVE,
    "checkpoint.every": OR_NONE,
    "checkpoint.keep": COUNT,
    "log.every": COUNT,
}

# Texts that must not be empty; null is left to the key's type.
TEXTS = ("runs", "resume", "data.name", "data.root", "wandb.project", "wandb.entity")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@,-]{0,99}")
_CLASS = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_DEVICE = re.compile(r"cpu|cuda(:\d+)?")


@dataclass(frozen=True)
class Limits:
    """What the configuration of one command is checked against.

    Attributes:
        choices: Keys with the values they may have.
        ranges: Keys with the numbers they may have.
        relations: Checks of several keys together.
    """

    choices: Mapping[str, Sequence[str]]
    ranges: Mapping[str, Range]
    relations: Sequence[Relation]


def check(config: RunConfig, limits: Limits, refusals: Refusals) -> None:
    """Note every impossible value of a configuration whose types are right."""
    check_values(config, limits, TEXTS, refusals)
    for relation in (_name, *SETUP_RELATIONS, _devices, *limits.relations):
        relation(config, refusals)


def check_values(config: Any, limits: Limits, texts: Iterable[str], refusals: Refusals) -> None:
    """Note every value that its key cannot have, whatever the others are.

    Args:
        config: The dataclass of a command.
        limits: Its choices and ranges.
        texts: Keys that must not be empty.
        refusals: Takes the problems.
    """
    for key, known in limits.choices.items():
        value = at(config, key)
        if value not in known:
            refusals.add(key, value, f"choose one of {', '.join(known)}{closest(value, known)}")
    for key, range_ in limits.ranges.items():
        value = at(config, key)
        if value is not None and value not in range_:
            refusals.add(key, value, f"must be {range_}")
    for key in texts:
        if at(config, key) == "":
            refusals.add(key, "", "must not be empty")


def at(config: Any, key: str) -> Any:
    """Return the value of a dotted key."""
    for name in key.split("."):
        config = getattr(config, name)
    return config


def check_class(key: str, value: Mapping[str, Any], refusals: Refusals) -> None:
    """Note what is wrong with ``{_target_: package.Class, ...}``."""
    target = value.get("_target_")
    if target is None:
        refusals.add(key, value, f"needs a class: {key}._target_=package.Class")
    elif not isinstance(target, str) or not _CLASS.fullmatch(target):
        refusals.add(f"{key}._target_", target, "must be a dotted name, such as package.Class")


def check_heads(key: str, value: Any, heads: Iterable[Any], hint: str, refusals: Refusals) -> None:
    """Note which heads there are not.

    Args:
        key: Where they were given.
        value: What was given there.
        heads: The heads in it.
        hint: How a class of the user's own is given there.
        refusals: Takes the problems.
    """
    for head in heads:
        if isinstance(head, dict):
            check_class(key, head, refusals)
        elif head not in HEADS:
            refusals.add(
                key,
                value,
                f"{shown(head)} is no head; choose of {', '.join(HEADS)}, or give {hint}"
                f"{closest(str(head), HEADS)}",
            )


def _name(config: RunConfig, refusals: Refusals) -> None:
    if config.name is not None and not _NAME.fullmatch(config.name):
        refusals.add(
            "name",
            config.name,
            "must be a plain folder name: letters, digits and _ . + = @ , - (neither . nor -"
            " first), at most 100 characters; the folder above is runs=DIR",
        )


def _classes(config: RunConfig, refusals: Refusals) -> None:
    for key in ("data.target", "train.loss"):
        value = at(config, key)
        if value is not None:
            check_class(key.removesuffix(".target"), value, refusals)
    for metric in config.train.metrics:
        if isinstance(metric, dict) and "_target_" in metric:
            check_class("train.metrics", metric, refusals)
        else:
            refusals.add("train.metrics", metric, "each must be {_target_: package.Metric}")


def _model(config: RunConfig, refusals: Refusals) -> None:
    model = config.model
    if "_target_" in model:
        check_class("model", model, refusals)
        return
    if "python" in model:
        # Written by a run whose network was given in Python; the value is its class.
        return
    if not isinstance(model.get("name"), str):
        refusals.add("model", model, "needs a network: model=NAME or model._target_=package.Class")
    width, weights = model.get("width", 1.0), model.get("weights")
    if isinstance(width, bool) or not isinstance(width, int | float) or width not in POSITIVE:
        refusals.add("model.width", width, "must be a number above 0, such as 0.25")
    if weights is not None and (not isinstance(weights, str) or not weights):
        refusals.add("model.weights", weights, "must be the name of a file, or null")


def _rates(config: RunConfig, refusals: Refusals) -> None:
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


def _milestones(config: RunConfig, refusals: Refusals) -> None:
    train = config.train
    steps = train.milestones
    if any(step < 1 for step in steps) or any(a >= b for a, b in itertools.pairwise(steps)):
        refusals.add("train.milestones", steps, "must be strictly increasing steps, from 1")
    if train.schedule != "multistep":
        if train.reset_momentum:
            refusals.add(
                "train.reset_momentum",
                True,
                "happens at train.milestones, which only train.schedule=multistep has, not"
                f" {train.schedule}",
            )
        return
    if not steps:
        refusals.add(
            "train.milestones", steps, "train.schedule=multistep needs some, such as [500,750]"
        )
    elif max(steps) > train.steps:
        refusals.add("train.milestones", steps, f"must not lie beyond train.steps={train.steps}")


def _optimizer(config: RunConfig, refusals: Refusals) -> None:
    train = config.train
    if len(train.betas) != 2 or any(beta not in SHARE for beta in train.betas):
        refusals.add("train.betas", train.betas, f"must be two numbers, each {SHARE}")
    if train.nesterov and (train.optimizer != "sgd" or train.momentum == 0):
        refusals.add(
            "train.nesterov",
            True,
            f"needs train.optimizer=sgd and train.momentum above 0, not {train.optimizer}"
            f" and {train.momentum}",
        )


def _chunk(config: RunConfig, refusals: Refusals) -> None:
    chunk, batch = config.train.chunk, config.train.batch_size
    if chunk is not None and chunk > batch:
        refusals.add("train.chunk", chunk, f"must be at most train.batch_size={batch}")


def _classes_per_batch(config: RunConfig, refusals: Refusals) -> None:
    data = config.data
    if data.classes_until is not None and data.classes_per_batch is None:
        refusals.add(
            "data.classes_until",
            data.classes_until,
            "limits how long data.classes_per_batch holds, which is null; give that too, or leave"
            " it out",
        )


def _devices(config: RunConfig, refusals: Refusals) -> None:
    devices = at(config, "pipeline.devices")
    if devices is not None and not (devices and all(map(_DEVICE.fullmatch, devices))):
        refusals.add(
            "pipeline.devices", devices, "must be a list of cpu, cuda or cuda:N, such as [cuda:0]"
        )


SETUP_RELATIONS: Sequence[Relation] = (
    _model,
    _classes,
    _rates,
    _milestones,
    _optimizer,
    _chunk,
    _classes_per_batch,
)
"""Checks of several keys that every command with a network and its training has."""
