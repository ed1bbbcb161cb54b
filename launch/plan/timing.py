"""Timing a network at several batch sizes, within the seconds that the user gives it.

batch   128   64   32   16      those that methods need: replicas and micro-batches are smaller
        ---------------->       measured from the smallest on, as far as the time goes
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from threading import BrokenBarrierError

import torch

from ...models import HeadSpec, Network
from ...search import Profile
from ...search.prediction.measurements import Measurements
from ..assembly import build_network
from ..devices import cores, device_kind, device_of, threads_per_rank
from ..job import Objects
from ..measurement import profile_batch
from .config import PlanConfig
from .neighbours import neighbours
from .source import Source, make_source
from .storage import measure_storage

__all__ = ["batch_sizes", "measure"]

PROBE = 2
"""Examples of the first, uncounted pass: batch normalisation needs more than one."""

PASSES = 2
"""Of a probe: one that does not count goes before each profile's."""

FINEST = 4
"""So many micro-batches per device are measured; finer ones are predicted from these."""


def measure(config: PlanConfig, heads: Sequence[HeadSpec]) -> tuple[Measurements, list[str]]:
    """Time the network and its heads here.

    Args:
        config: The plan's configuration; its threads are settled here.
        heads: The heads that some method needs.

    Returns:
        The measurements, and what the user should know of them.

    Raises:
        ConfigError: The network cannot be made, or there is no such device.
        ProfileError: A layer fails, or a head fits nowhere.
    """
    device = device_of(0, 0, kind=device_kind(config.device, ()), devices=())
    if config.train.threads is None:
        config.train.threads = threads_per_rank(config.devices)
    torch.set_num_threads(config.train.threads)
    source = make_source(config)
    network = build_network(config, Objects(), source.task)
    notes = list(source.notes)
    train = config.train
    if device.type == "cpu" and train.precision == "float16":
        train = dataclasses.replace(train, precision="float32")
        notes.append("train.precision=float16 was timed in float32: this is a CPU")
    storage, outputs = measure_storage(
        network, heads, source.task, precision=config.train.precision
    )
    timed = dataclasses.replace(config, train=train)
    timer = _Timer(timed, network, source, list(heads), device)
    profiles = [
        dataclasses.replace(one, boundary_bytes=tuple(size * one.batch_size for size in outputs))
        for one in timer.run()
    ]
    wanted, largest = config.train.batch_size, profiles[-1].batch_size
    if largest < wanted:
        notes.append(
            f"timed with at most {largest} of {wanted} examples, to end in about "
            f"measure.seconds={config.measure.seconds:g}; larger batches are predicted from these"
        )
    contention = 1.0
    count = _neighbours(config, device) if config.contention is None else 0
    if count:
        contention, note = _contention(timer, profiles[-1], count)
        notes.append(note)
    return Measurements(tuple(profiles), storage, contention), notes


def _contention(timer: _Timer, alone: Profile, count: int) -> tuple[float, str]:
    """Return how many times as long a step takes beside others, and what to say of it."""
    try:
        found = timer.contention(alone, count)
    except BrokenBarrierError:
        return 1.0, (
            f"{count} process(es) beside this one did not begin to train, perhaps for lack of "
            "memory; contention is taken for 1"
        )
    return found, (
        f"beside {count} process(es) that train, a step took {found:.2f}x as long; this is counted "
        "where several devices compute (contention=1 for devices of their own)"
    )


def _neighbours(config: PlanConfig, device: torch.device) -> int:
    """Return how many processes are to train beside the measurement.

    By default as many as the plan has further devices, if they are cores of this machine.
    """
    if config.measure.beside is not None:
        return config.measure.beside
    here = device.type == "cpu" and config.devices * (config.train.threads or 1) <= cores()
    return config.devices - 1 if here and config.scale == 1 else 0


def batch_sizes(batch: int, devices: int) -> list[int]:
    """Return the batch sizes to measure: the whole batch, and its halves as far as needed.

    Args:
        batch: Examples per step.
        devices: Over how many they may be divided, each part again into micro-batches.
    """
    least = max(PROBE, batch // (FINEST * devices))
    sizes = [batch]
    while sizes[-1] // 2 >= least:
        sizes.append(sizes[-1] // 2)
    return sizes[::-1]


class _Timer:
    """Profiles a network at one batch size after another."""

    def __init__(
        self,
        config: PlanConfig,
        network: Network,
        source: Source,
        heads: list[HeadSpec],
        device: torch.device,
    ) -> None:
        self._config, self._network, self._source = config, network, source
        self._heads, self._device = heads, device
        self._spent = 0.0

    def run(self) -> list[Profile]:
        """Return the profiles, from the smallest batch; at least one."""
        budget = self._config.measure.seconds
        probe = min(PROBE, self._config.train.batch_size)
        # The first time, kernels are chosen and memory is obtained.
        self._profile(probe, repeats=1)
        rough, seconds = self._profile(probe, repeats=1)
        one_pass = seconds / PASSES
        repeats = self._config.measure.repeats
        expected = one_pass * (repeats + PASSES - 1)
        sizes = batch_sizes(self._config.train.batch_size, self._config.devices)
        while sizes[0] > PROBE and expected * sizes[0] / PROBE > budget:
            sizes.insert(0, sizes[0] // 2)
        profiles: list[Profile] = []
        for place, size in enumerate(sizes):
            profile, seconds = self._profile(size, repeats=repeats)
            profiles.append(profile)
            larger = sizes[place + 1] if place + 1 < len(sizes) else size
            if self._spent + seconds * larger / size > budget:
                break
        if len(profiles) == 1 and rough.batch_size < profiles[0].batch_size:
            # Two sizes tell what grows with the batch and what does not.
            profiles.insert(0, rough)
        return profiles

    def contention(self, alone: Profile, count: int) -> float:
        """Return how many times as long a step takes beside ``count`` others as alone.

        Alone is the mean of before and after, for a machine that changes its speed meanwhile.
        """
        size, repeats = alone.batch_size, self._config.measure.repeats
        with neighbours(self._config, count, batch=size):
            beside, _ = self._profile(size, repeats=repeats)
        after, _ = self._profile(size, repeats=repeats)
        whole = (1, alone.layers)
        quiet = (alone.block_seconds(*whole) + after.block_seconds(*whole)) / 2
        return max(1.0, beside.block_seconds(*whole) / quiet)

    def _profile(self, size: int, *, repeats: int) -> tuple[Profile, float]:
        begin = time.perf_counter()
        profile = profile_batch(
            self._config.train,
            self._network,
            self._source.batch(size),
            heads=self._heads,
            device=self._device,
            seed=self._config.seed,
            repeats=repeats,
        )
        seconds = time.perf_counter() - begin
        self._spent += seconds
        return profile, seconds
