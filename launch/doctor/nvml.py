"""What NVIDIA's management library says of the machine, without touching torch or a GPU."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

__all__ = ["Driver", "read_driver"]


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver.

    Attributes:
        count: GPUs that it sees.
        version: Of the driver; empty where there is none.
        error: Why there is none.
    """

    count: int = 0
    version: str = ""
    error: str = "no NVIDIA driver"


def read_driver() -> Driver:
    """Ask the library; a machine without a driver or without ``pynvml`` has no GPUs."""
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
        version = nvml.nvmlSystemGetDriverVersion()
        text = version.decode() if isinstance(version, bytes) else str(version)
        return Driver(nvml.nvmlDeviceGetCount(), text, "")
    except Exception as error:
        # NVMLError where the driver is missing, ImportError without the library.
        return Driver(error=str(error) or type(error).__name__)
