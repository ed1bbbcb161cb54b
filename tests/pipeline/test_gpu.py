"""What is read of a GPU, with a stand-in for NVIDIA's library."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from blockstep.pipeline.gpu import NoGpu, watch_gpu

from tests.pipeline.nvml import fail, fake_nvml


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Pretend that torch sees a GPU."""
    properties = types.SimpleNamespace(uuid="01234567-89ab")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    return torch.device("cuda", 0)


def test_readings_come_in_the_units_of_the_records(
    cuda: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Utilization is in percent, memory in bytes, power in watts, temperature in Celsius."""
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml())
    assert watch_gpu(cuda).sample() == {
        "utilization": 87.0,
        "memory_bytes": float(5 << 30),
        "power_watts": 312.5,
        "temperature": 61.0,
    }


def test_what_a_gpu_does_not_tell_is_left_out(
    cuda: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One quantity that is not supported does not cost the others."""
    nvml = fake_nvml(nvmlDeviceGetPowerUsage=fail, nvmlDeviceGetTemperature=fail)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert watch_gpu(cuda).sample() == {"utilization": 87.0, "memory_bytes": float(5 << 30)}


@pytest.mark.parametrize("broken", ["nvmlInit", "nvmlDeviceGetHandleByUUID"])
def test_without_a_driver_there_are_no_readings(
    cuda: torch.device, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """A library that fails costs the telemetry, never the training."""
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(**{broken: fail}))
    assert watch_gpu(cuda).sample() is None


def test_without_the_library_there_are_no_readings(
    cuda: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing ``pynvml`` costs nothing."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert isinstance(watch_gpu(cuda), NoGpu)


def test_a_cpu_has_no_readings() -> None:
    """On a CPU the library is not even imported."""
    assert watch_gpu(torch.device("cpu")).sample() is None
