"""What a training computes on: cores, memory, GPUs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...pipeline.gpu import watch_gpu
from ..bench.machine import processor
from ..devices import cores
from .finding import Finding, fail, ok, warn
from .nvml import Driver

__all__ = ["check_devices", "check_gpus", "check_memory", "check_processor", "check_shared_memory"]

GIB, MIB = 1 << 30, 1 << 20
LITTLE_MEMORY = 2 * GIB
LITTLE_SHARED_MEMORY = 256 * MIB
BUSY_PERCENT = 20.0
USED_SHARE = 0.2
"""A GPU that is busier or fuller than this works for somebody else."""


def check_devices(wanted: str, driver: Driver) -> list[Finding]:
    """Look at all devices.

    Args:
        wanted: ``device``: auto, cpu or cuda.
        driver: What NVIDIA's library says.
    """
    return [
        check_processor(),
        check_memory(),
        *check_shared_memory(),
        *check_gpus(wanted, driver),
    ]


def check_processor(load: float | None = None) -> Finding:
    """Look at the cores that this process may use.

    Args:
        load: Processes that compute; by default what the system says of the last minute.
    """
    count = cores()
    load = _load() if load is None else load
    text = f"{count} cores of {processor()}, load {load:.1f}"
    figures: dict[str, Any] = {"cores": count, "load": load}
    if load > count:
        advice = "others compute here; trainings, and what follows here, are slower than they could"
        return warn("cpu", text, advice, **figures)
    return ok("cpu", text, **figures)


def check_memory(facts: Mapping[str, int] | None = None) -> Finding:
    """Look at the memory that is left.

    Args:
        facts: Bytes under the names of ``/proc/meminfo``; by default those of this machine.
    """
    facts = _meminfo() if facts is None else facts
    if "MemAvailable" not in facts:
        return ok("memory", "the system does not tell how much there is")
    free, total = facts["MemAvailable"], facts["MemTotal"]
    text = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
    figures: dict[str, Any] = {"free_bytes": free, "total_bytes": total}
    if free < LITTLE_MEMORY:
        advice = "each rank needs some 0.5 GiB and its batches; end other programs, or use fewer"
        return warn("memory", text, advice, **figures)
    return ok("memory", text, **figures)


def check_shared_memory(folder: Path = Path("/dev/shm")) -> list[Finding]:
    """Look at what ``data.workers`` hand their batches over through; nothing without it."""
    if not folder.is_dir():
        return []
    free = shutil.disk_usage(folder).free
    text = f"{free / GIB:.1f} GiB free in {folder}"
    if free < LITTLE_SHARED_MEMORY:
        advice = "data.workers may die of a bus error: start the container with --shm-size=2g"
        return [warn("shared memory", text, advice, free_bytes=free)]
    return [ok("shared memory", text, free_bytes=free)]


def check_gpus(wanted: str, driver: Driver) -> list[Finding]:
    """Look at the GPUs, one line each; one line why there are none.

    Args:
        wanted: ``device``: auto, cpu or cuda.
        driver: What NVIDIA's library says.
    """
    if wanted == "cpu":
        return [ok("gpu", "device=cpu: GPUs are left alone")]
    if torch.cuda.is_available():
        return [_gpu(index) for index in range(torch.cuda.device_count())]
    told = fail if wanted == "cuda" else warn
    if driver.count and torch.version.cuda is None:
        text = f"{driver.count} GPU(s), but torch {torch.__version__} was built without CUDA"
        return [told("gpu", text, "install a build with CUDA: https://pytorch.org/get-started")]
    if driver.count:
        text = (
            f"{driver.count} GPU(s), but torch {torch.__version__} for CUDA {torch.version.cuda} "
            f"cannot use them with driver {driver.version}"
        )
        return [told("gpu", text, "look at CUDA_VISIBLE_DEVICES, and renew the driver")]
    if wanted == "cuda":
        return [fail("gpu", f"device=cuda, but there is none ({driver.error})", "use device=cpu")]
    return [ok("gpu", "none: trainings compute on the CPU")]


def _gpu(index: int) -> Finding:
    device = torch.device("cuda", index)
    properties = torch.cuda.get_device_properties(device)
    total = properties.total_memory
    readings = watch_gpu(device).sample() or {}
    figures: dict[str, Any] = {"name": properties.name, "total_bytes": total, **readings}
    subject, text = f"gpu {index}", f"{properties.name}, {total / GIB:.0f} GiB"
    if not readings:
        return ok(subject, f"{text}, NVIDIA's library tells nothing of it", **figures)
    used, busy = readings.get("memory_bytes", 0.0), readings.get("utilization", 0.0)
    text = f"{text}, {used / GIB:.1f} GiB in use, {busy:.0f} % busy"
    if busy > BUSY_PERCENT or used > USED_SHARE * total:
        advice = "others use it: choose by CUDA_VISIBLE_DEVICES or pipeline.devices, or wait"
        return warn(subject, text, advice, **figures)
    return ok(subject, text, **figures)


def _load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _meminfo() -> dict[str, int]:
    """Return the fields of /proc/meminfo in bytes; nothing where there is none."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return {}
    fields = (line.replace(":", "").split() for line in lines)
    return {field[0]: int(field[1]) * 1024 for field in fields if len(field) == 3}
