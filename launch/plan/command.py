"""``blockstep plan``: from the words of a command line to a table and ``plan.json``."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...models import HeadSpec
from ...search import DecouplingError
from ...search.decoupling import NO_HEAD
from ...search.prediction.advice import FASTEST, SLOWEST, turning_point
from ...search.prediction.cluster import Cluster
from ...search.prediction.costs import Costs
from ...search.prediction.link import Room, Wire
from ...search.prediction.measurements import Measurements
from ...search.prediction.method import ERRORS_BACK, Method
from ...search.prediction.planner import Planner
from ...search.prediction.prediction import Prediction, PredictionError
from ..compose import compose
from ..refusal import ConfigError
from ..training.disk import OPTIMIZER_COPIES
from ..training.method import METHODS
from .config import PlanConfig
from .result import Impossible, Plan
from .timing import measure
from .words import HEADLESS

__all__ = ["make_plan", "methods_of", "plan_command"]

GBIT = 1e9 / 8
MICROSECOND = 1e-6


def plan_command(words: Sequence[str]) -> int:
    """Print the plan, and write it down.

    Returns:
        The exit status.
    """
    config = compose("plan", words)
    plan = make_plan(config)
    print(plan.table())
    if config.output is not None:
        plan.save(config.output)
        print(f"written to {config.output}")
    return 0


def make_plan(config: PlanConfig) -> Plan:
    """Measure, or read what was measured, and predict.

    Raises:
        ConfigError: The network cannot be made, or none of the methods can be had.
        ProfileError: The profile cannot be read, or lacks a head.
        DecouplingError: The network cannot be cut so.
    """
    methods = methods_of(config)
    measurements, notes = _measurements(config, methods)
    costs = Costs(measurements, optimizer_copies=OPTIMIZER_COPIES[config.train.optimizer])
    planner = Planner(
        costs,
        _cluster(config, measurements),
        batch=config.train.batch_size,
        microbatches=config.microbatches,
    )
    predictions: list[Prediction] = []
    impossible: list[Impossible] = []
    for method in methods:
        for blocks in [1] if method.whole else config.blocks:
            try:
                predictions.append(planner.predict(method, blocks))
            except (PredictionError, DecouplingError) as error:
                impossible.append(Impossible(method.name, blocks, str(error)))
    if not predictions:
        raise ConfigError(*(f"{one.method}: {one.reason}" for one in impossible))
    outlook = _outlook(planner, methods, predictions)
    return Plan(config, measurements, tuple(predictions), tuple(impossible), outlook, tuple(notes))


def _outlook(planner: Planner, methods: Sequence[Method], predictions: Sequence[Prediction]) -> str:
    """Say at which bandwidths ddp and the best method without a schedule change places."""
    kinds = {method.name: method for method in methods}
    rivals = [one for one in predictions if kinds[one.method].kind in (*ERRORS_BACK, "decoupled")]
    if not rivals or "ddp" not in {one.method for one in predictions}:
        return ""
    rival = max(rivals, key=lambda one: one.images_per_second)

    def ddp_is_ahead(bandwidth: float) -> bool:
        there = planner.over(bandwidth)
        other = there.predict(kinds[rival.method], rival.blocks)
        return there.predict(kinds["ddp"], 1).seconds < other.seconds

    now = min(max(planner.bandwidth, SLOWEST), FASTEST)
    names = [f"{rival.method} with {rival.blocks} blocks", "ddp"]
    leader, other = names if not ddp_is_ahead(now) else reversed(names)
    words = []
    for word, low, high in (("less", SLOWEST, now), ("more", now, FASTEST)):
        found = turning_point(ddp_is_ahead, low=low, high=high)
        if found is not None:
            speed = f"{found / GBIT:.2g} Gbit/s"
            words.append(f"With {word} than about {speed}, {other} is faster than {leader}.")
    return " ".join(words)


def methods_of(config: PlanConfig) -> list[Method]:
    """Return what the words of ``methods`` mean."""
    return [_method(config, word) for word in dict.fromkeys(config.methods)]


def _method(config: PlanConfig, word: str) -> Method:
    if word in HEADLESS:
        return Method(word, word)  # pyright: ignore[reportArgumentType]
    rule = METHODS[word]
    cuts = config.decoupling or rule.decoupling
    return Method(word, "decoupled", config.heads or rule.heads, cuts)


def _measurements(config: PlanConfig, methods: Sequence[Method]) -> tuple[Measurements, list[str]]:
    """Read ``profile`` or measure here, and keep it in ``save``."""
    if config.profile is not None:
        return Measurements.load(config.profile), []
    heads: list[HeadSpec] = []
    for method in methods:
        if method.head != NO_HEAD and method.head not in heads:
            heads.append(method.head)
    measurements, notes = measure(config, heads)
    if config.save is not None:
        measurements.save(config.save)
        notes.append(f"what was measured is in {config.save}, for profile={config.save}")
    return measurements, notes


def _cluster(config: PlanConfig, measurements: Measurements) -> Cluster:
    network, queues = config.network, config.pipeline
    bandwidth = math.inf if network.gbit is None else network.gbit * GBIT
    return Cluster(
        devices=config.devices,
        wire=Wire(network.latency_us * MICROSECOND, bandwidth),
        scale=config.scale,
        contention=config.contention or measurements.contention,
        overlap=network.overlap,
        room=Room(queues.queue_messages, queues.queue_bytes),
    )
