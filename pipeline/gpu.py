"""What NVIDIA's management library says of a GPU; nothing at all where there is none."""

from __future__ import annotations

from typing import Any, Protocol

import torch

__all__ = ["GpuMonitor", "NoGpu", "watch_gpu"]


class GpuMonitor(Protocol):
    """Reads a GPU's state."""

    def sample(self) -> dict[str, float] | None:
        """Return utilization (percent), memory_bytes, power_watts, temperature (Celsius)."""
        ...


class NoGpu:
    """The monitor where there is no GPU, no driver or no ``pynvml``."""

    def sample(self) -> dict[str, float] | None:
        """Return nothing."""
        return None


class NvmlGpu:
    """A GPU that NVML can see.

    Args:
        nvml: The ``pynvml`` module, initialised.
        handle: The device's NVML handle.
    """

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle

    def sample(self) -> dict[str, float] | None:
        """See :meth:`GpuMonitor.sample`; quantities the GPU does not tell are left out."""
        nvml = self._nvml
        readings = {
            "utilization": lambda: nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu,
            "memory_bytes": lambda: nvml.nvmlDeviceGetMemoryInfo(self._handle).used,
            "power_watts": lambda: nvml.nvmlDeviceGetPowerUsage(self._handle) / 1000.0,
            "temperature": lambda: nvml.nvmlDeviceGetTemperature(
                self._handle, nvml.NVML_TEMPERATURE_GPU
            ),
        }
        values: dict[str, float] = {}
        for name, read in readings.items():
            try:
                values[name] = float(read())
            except nvml.NVMLError:
                continue
        return values


def watch_gpu(device: torch.device) -> GpuMonitor:
    """Return the monitor of ``device``. CUDA's order of devices is matched by UUID."""
    if device.type != "cuda":
        return NoGpu()
    try:
        import pynvml

        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        return NvmlGpu(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid))
    except Exception:
        # Telemetry must never stop a training: without NVML there are no readings.
        return NoGpu()
