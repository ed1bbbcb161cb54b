"""A stand-in for NVIDIA's management library, with one GPU."""

from __future__ import annotations

import types
from typing import Any

__all__ = ["NVMLError", "fail", "fake_nvml"]


class NVMLError(Exception):
    """The library's error."""


def fail(*_: Any) -> Any:
    """Fail as the library does where a GPU does not tell something."""
    raise NVMLError("Not Supported")


def fake_nvml(**functions: Any) -> types.ModuleType:
    """Make a ``pynvml`` with one GPU."""
    module = types.ModuleType("pynvml")
    handles = {"GPU-01234567-89ab": "handle"}
    calls: dict[str, Any] = {
        "NVMLError": NVMLError,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: handles[uuid],
        "nvmlDeviceGetUtilizationRates": lambda handle: types.SimpleNamespace(gpu=87, memory=12),
        "nvmlDeviceGetMemoryInfo": lambda handle: types.SimpleNamespace(used=5 << 30, free=1),
        "nvmlDeviceGetPowerUsage": lambda handle: 312_500,
        "nvmlDeviceGetTemperature": lambda handle, sensor: 61 + sensor,
        **functions,
    }
    for name, value in calls.items():
        setattr(module, name, value)
    return module
