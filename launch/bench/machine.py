"""What a comparison ran on: the lines above its table."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import torch

from ... import __version__
from ..config import TrainConfig
from ..devices import cores, device_kind

__all__ = ["machine", "processor"]


def machine(configs: Mapping[str, TrainConfig]) -> list[str]:
    """Return hardware, versions, threads and the work, one line each."""
    config = next(iter(configs.values()))
    train = config.train
    model = " ".join(f"{key}={value}" for key, value in config.model.items() if value is not None)
    layout = "channels-last" if train.channels_last else "NCHW"
    return [
        _hardware(device_kind(config.device, ())),
        f"blockstep {__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{date.today().isoformat()}",
        f"{model} on {config.data.name}, batch {train.batch_size}, {train.precision}, {layout}, "
        f"{train.steps} steps, {train.threads or 1} thread(s) per rank",
    ]


def _hardware(kind: str) -> str:
    if kind == "cuda":
        count = torch.cuda.device_count()
        return f"{count} x {torch.cuda.get_device_name(0)}, {cores()} cores"
    return f"{cores()} cores of {processor()}"


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
