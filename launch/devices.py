"""Which device a rank computes on, and how many threads it has."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from .refusal import ConfigError

__all__ = ["check_devices", "cores", "device_kind", "device_of", "threads_per_rank"]


def check_devices(devices: Sequence[str], ranks: int) -> None:
    """Refuse devices that are named but not one for each rank.

    Raises:
        ConfigError: There are more or fewer, with both numbers.
    """
    if devices and len(devices) != ranks:
        raise ConfigError(
            f"pipeline.devices={list(devices)} names {len(devices)} devices for {ranks} ranks; "
            "name one for each rank"
        )


def device_kind(wanted: str, devices: Sequence[str]) -> str:
    """Return ``cpu`` or ``cuda``.

    Args:
        wanted: ``device``: auto, cpu or cuda.
        devices: ``pipeline.devices``, which says it more precisely; empty where it is not given.

    Raises:
        ConfigError: A GPU was asked for and there is none, or the devices are of both kinds.
    """
    available = torch.cuda.is_available()
    kinds = {torch.device(device).type for device in devices}
    if len(kinds) > 1:
        raise ConfigError(
            f"pipeline.devices={list(devices)} mixes {' and '.join(sorted(kinds))}; "
            "name devices of one kind"
        )
    wanted = kinds.pop() if kinds else wanted
    if wanted == "cuda" and not available:
        raise ConfigError(
            "device=cuda, but torch sees no CUDA GPU here (torch.cuda.is_available() is False); "
            "use device=cpu or device=auto"
        )
    if wanted == "auto":
        return "cuda" if available else "cpu"
    return wanted


def device_of(rank: int, local_rank: int, *, kind: str, devices: Sequence[str]) -> torch.device:
    """Return where ``rank`` computes; several ranks share a GPU when GPUs are short.

    Args:
        rank: Its number among all ranks.
        local_rank: Its number on its machine.
        kind: ``cpu`` or ``cuda``.
        devices: The device of each rank if the user chose them, else empty.
    """
    if devices:
        return torch.device(devices[rank])
    if kind == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def threads_per_rank(local_ranks: int) -> int:
    """Return the threads each of ``local_ranks`` processes gets on this machine."""
    return max(1, cores() // local_ranks)


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
